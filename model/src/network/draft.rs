//! A network as a person asks for it, and the changes a person asks of one: checked here, stored by the service.

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{EncryptionPolicy, Network, RuleType};
use crate::{
    NetworkId,
    path::{PathSettings, PathSettingsDraft},
    space,
    validate::{Checks, InvalidInput, check_description, check_name},
};

/// A network to create, as it was sent. What is absent takes its default.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkDraft<'a> {
    pub id: Option<&'a str>,
    /// Absent: the id.
    pub name: Option<&'a str>,
    /// Absent: chosen by the advisor.
    pub address_space: Option<&'a str>,
    pub description: &'a str,
    /// Absent: [`RuleType::default`].
    pub rule_type: Option<&'a str>,
    /// Absent: [`EncryptionPolicy::default`].
    pub encryption_policy: Option<&'a str>,
    pub path_settings: PathSettingsDraft<'a>,
}

/// A [`NetworkDraft`] whose fields are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    pub id: Option<NetworkId>,
    pub name: Option<String>,
    pub address_space: Option<Ipv4Net>,
    pub description: String,
    pub rule_type: RuleType,
    pub encryption_policy: EncryptionPolicy,
    pub path_settings: PathSettings,
}

impl NetworkDraft<'_> {
    /// All fields checked, all faults told.
    pub fn check(&self) -> Result<NetworkSettings, InvalidInput> {
        let mut checks = Checks::default();
        let mut settings = NetworkSettings {
            id: checks.optional("network_id", self.id.map(str::parse)),
            name: checks.optional("name", self.name.map(named)),
            address_space: checks.optional("ipv4_address_space", self.address_space.map(space::parse)),
            description: checks.field("description", described(self.description)).unwrap_or_default(),
            rule_type: checks.optional("rule_type", self.rule_type.map(str::parse)).unwrap_or_default(),
            encryption_policy: checks
                .optional("encryption_policy", self.encryption_policy.map(str::parse))
                .unwrap_or_default(),
            path_settings: PathSettings::default(),
        };
        settings.path_settings = self.path_settings.apply(&settings.path_settings, settings.rule_type, &mut checks);
        checks.finish().map(|()| settings)
    }
}

impl NetworkSettings {
    /// The record of a new network, with the id and the address space that were asked for or else found.
    pub fn into_network(self, id: NetworkId, address_space: Ipv4Net, now: Timestamp) -> Network {
        Network {
            name: self.name.unwrap_or_else(|| id.to_string()),
            id,
            address_space,
            description: self.description,
            rule_type: self.rule_type,
            encryption_policy: self.encryption_policy,
            path_settings: self.path_settings,
            generation: 1,
            created_at: now,
        }
    }
}

/// Changes to a network, as they were sent. What is absent stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct NetworkUpdate<'a> {
    pub name: Option<&'a str>,
    pub address_space: Option<&'a str>,
    pub description: Option<&'a str>,
    pub rule_type: Option<&'a str>,
    pub encryption_policy: Option<&'a str>,
    pub path_settings: PathSettingsDraft<'a>,
}

impl NetworkUpdate<'_> {
    /// The network with the changes; one more generation if anything differs, the same record if nothing does.
    /// Whether the address space suits its peers and the other networks is asked of [`super::check_fit`].
    pub fn apply(&self, network: &Network) -> Result<Network, InvalidInput> {
        let mut checks = Checks::default();
        let mut changed = network.clone();
        set(&mut changed.name, checks.optional("name", self.name.map(named)));
        set(&mut changed.address_space, checks.optional("ipv4_address_space", self.address_space.map(space::parse)));
        set(&mut changed.description, checks.optional("description", self.description.map(described)));
        set(&mut changed.rule_type, checks.optional("rule_type", self.rule_type.map(str::parse)));
        let policy = self.encryption_policy.map(str::parse);
        set(&mut changed.encryption_policy, checks.optional("encryption_policy", policy));
        changed.path_settings = self.path_settings.apply(&network.path_settings, changed.rule_type, &mut checks);
        checks.finish()?;
        if changed != *network {
            changed.generation += 1;
        }
        Ok(changed)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn named(text: &str) -> Result<String, crate::validate::TextError> {
    check_name(text).map(|()| text.to_owned())
}

fn described(text: &str) -> Result<String, crate::validate::TextError> {
    check_description(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_takes_its_default() {
        let draft = NetworkDraft { address_space: Some("10.1.0.0/16"), ..NetworkDraft::default() };
        let settings = draft.check().unwrap();
        let space = settings.address_space.unwrap();
        let network = settings.into_network("net-1".parse().unwrap(), space, Timestamp::UNIX_EPOCH);
        assert_eq!((network.name.as_str(), network.generation), ("net-1", 1));
        assert_eq!(network.rule_type, RuleType::CostPrioritized);
        assert_eq!(network.encryption_policy, EncryptionPolicy::Always);
    }

    #[test]
    fn every_wrong_field_is_told_at_once() {
        let draft = NetworkDraft {
            id: Some("Prod/1"),
            name: Some(""),
            address_space: Some("8.8.8.0/24"),
            description: "\0",
            rule_type: Some("cheapest"),
            encryption_policy: Some("never"),
            path_settings: PathSettingsDraft::default(),
        };
        let error = draft.check().unwrap_err();
        let fields: Vec<&str> = error.0.iter().map(|invalid| invalid.field.as_str()).collect();
        let all = ["network_id", "name", "ipv4_address_space", "description", "rule_type", "encryption_policy"];
        assert_eq!(fields, all);
        assert_eq!(
            error.0[4].to_string(),
            "rule_type is \"cheapest\"; use basic, cost-prioritized, latency-prioritized or balanced"
        );
    }

    #[test]
    fn an_update_changes_what_is_present_and_counts_a_generation() {
        let settings = NetworkDraft::default().check().unwrap();
        let space = "10.1.0.0/24".parse().unwrap();
        let network = settings.into_network("prod".parse().unwrap(), space, Timestamp::UNIX_EPOCH);
        assert_eq!(NetworkUpdate::default().apply(&network).unwrap(), network);
        let same = NetworkUpdate { rule_type: Some("cost-prioritized"), ..NetworkUpdate::default() };
        assert_eq!(same.apply(&network).unwrap(), network);
        let grown = NetworkUpdate { address_space: Some("10.1.0.0/23"), ..NetworkUpdate::default() };
        let grown = grown.apply(&network).unwrap();
        assert_eq!((grown.address_space.to_string().as_str(), grown.generation), ("10.1.0.0/23", 2));
        let wrong = NetworkUpdate { address_space: Some("10.1.0.7/23"), ..NetworkUpdate::default() };
        assert_eq!(wrong.apply(&network).unwrap_err().field(), "ipv4_address_space");
    }
}
