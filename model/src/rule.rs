//! The rules of a network: who may reach whom (*access*), which subnets are reached through which peer (*advertise*), and
//! which paths a pair may use (*path*). Written by people, with label selectors or CIDRs on both sides, in an order; the
//! first that matches decides. Here they are checked, explained and resolved; nothing here enforces one.

mod access;
mod advertise;
mod draft;
mod expectation;
mod parse;
mod path;
mod selector;
mod side;
#[cfg(test)]
mod tests;
mod traffic;
mod warning;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use access::{Decision, Filter, FilterRule, access, decide};
pub use advertise::{Advertised, Clash, NoSubnet, advertised, check_subnet, overlap};
pub use draft::{KindWord, MAX_RULES, MAX_TESTS, MAX_TEXT, RuleDraft, RulesDraft};
pub use expectation::{Broken, Expectation, check_expectations};
pub use parse::SyntaxError;
pub use path::{PathOverrides, Stated, overrides, policy};
pub use selector::{HOST_LABEL, NAME_LABEL, Selector, selectable};
pub use side::{Side, SideError};
pub use traffic::{PortRange, Protocol, Traffic, TrafficError};
pub use warning::{Warning, warnings};

use crate::{EncryptionPolicy, HostId, Labels, NetworkId, RuleId, RuleType, Scope, tariff::Price, word::words};

/// What happens to traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    #[default]
    Allow,
    Deny,
}

words!(Action {
    Allow = "allow",
    Deny = "deny",
});

/// All rules of a network, and what they must add up to. Its stored form is the document as people write it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RulesDraft", into = "RulesDraft")]
pub struct RuleSet {
    /// What happens to traffic between peers that no access rule matches.
    pub default_access: Action,
    /// The first that matches decides. No two have the same id.
    pub rules: Vec<Rule>,
    /// No change that breaks one of them is taken.
    pub tests: Vec<Expectation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub id: RuleId,
    pub comment: String,
    /// Otherwise it is kept, and has no effect.
    pub enabled: bool,
    pub kind: RuleKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleKind {
    Access(AccessRule),
    Advertise(AdvertiseRule),
    Path(PathRule),
}

/// Who may open flows to whom. Enforced by the receiver; answers pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    pub action: Action,
    pub from: Side,
    pub to: Side,
    pub traffic: Traffic,
}

/// A subnet behind a peer, which the others reach through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertiseRule {
    pub prefix: IpNet,
    /// Of several peers that it selects, the one with the lowest host id.
    pub via: Selector,
    /// Whether what goes there takes the peer's own address on: then the subnet needs no route back.
    pub snat: bool,
    /// Where the others route to in its place: a prefix of the same length, in which every address keeps its place.
    pub mapped: Option<IpNet>,
}

impl AdvertiseRule {
    /// Where the others route to.
    pub fn visible(&self) -> IpNet {
        self.mapped.unwrap_or(self.prefix)
    }
}

/// Which paths packets from one peer to another take. What it does not state, later rules and then the network do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    pub from: Side,
    pub to: Side,
    pub prefer: Option<Scope>,
    /// Empty: not stated.
    pub forbid: BTreeSet<Scope>,
    pub encryption: Option<EncryptionPolicy>,
    pub rule_type: Option<RuleType>,
    pub max_rtt: Option<Duration>,
    pub max_price_per_gb: Option<Price>,
}

/// The record of a network's rules. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    pub network: NetworkId,
    /// Counts the changes.
    pub generation: u64,
    pub changed_at: Timestamp,
    pub rules: RuleSet,
}

/// A peer as rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub host: HostId,
    pub name: String,
    /// None until it has one.
    pub address: Option<Ipv4Addr>,
    /// With those that every peer bears.
    pub labels: Labels,
}

impl Member {
    pub fn new(host: HostId, name: String, address: Option<Ipv4Addr>, labels: &Labels) -> Self {
        let labels = selectable(labels, &host, &name);
        Self { host, name, address, labels }
    }

    /// One end of its traffic; none without an address.
    pub fn party(&self) -> Option<Party<'_>> {
        self.address.map(|address| Party { address: address.into(), labels: Some(&self.labels) })
    }
}

/// One end of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    pub address: IpAddr,
    /// None where no peer has the address: behind one, or outside.
    pub labels: Option<&'a Labels>,
}

impl RuleSet {
    /// Whether nothing is ever refused.
    pub fn allows_all(&self) -> bool {
        self.default_access == Action::Allow && self.access_rules().all(|(_, access)| access.action == Action::Allow)
    }

    /// Those that have an effect.
    fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    fn access_rules(&self) -> impl Iterator<Item = (&Rule, &AccessRule)> {
        self.enabled().filter_map(|rule| match &rule.kind {
            RuleKind::Access(access) => Some((rule, access)),
            _ => None,
        })
    }

    /// Whether nothing is behind any peer.
    pub fn advertises_nothing(&self) -> bool {
        self.advertise_rules().next().is_none()
    }

    /// Whether no pair's paths differ from what the network says.
    pub fn ranks_nothing(&self) -> bool {
        self.path_rules().next().is_none()
    }

    fn path_rules(&self) -> impl Iterator<Item = (&Rule, &PathRule)> {
        self.enabled().filter_map(|rule| match &rule.kind {
            RuleKind::Path(path) => Some((rule, path)),
            _ => None,
        })
    }

    /// What is advertised, as it is and as it is known.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.advertise_rules().flat_map(|(_, advertise)| [Some(advertise.prefix), advertise.mapped]).flatten()
    }

    fn advertise_rules(&self) -> impl Iterator<Item = (&Rule, &AdvertiseRule)> {
        self.enabled().filter_map(|rule| match &rule.kind {
            RuleKind::Advertise(advertise) => Some((rule, advertise)),
            _ => None,
        })
    }
}
