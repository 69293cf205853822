//! Where a host stands: provider, account, region, zone, VPC, subnet, each with the source it is known from.

use serde::{Deserialize, Serialize};

use crate::{
    validate::{TextError, check_text},
    word::words,
};

/// Longest value of a field: ids of clouds are shorter.
pub const MAX_VALUE: usize = 256;

/// Who said it. Ordered by trust: an operator's file wins over what was injected, which wins over metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocationSource {
    /// The provider's instance metadata service, asked by the agent.
    Metadata,
    /// The API, by a provisioner or an admin.
    Injected,
    /// A file on the host.
    Operator,
}

words!(LocationSource {
    Metadata = "metadata",
    Injected = "injected",
    Operator = "operator",
});

/// One known field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    pub value: String,
    pub source: LocationSource,
}

/// The cloud location of a host; what is not known is absent, never guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudLocation {
    /// `aws`, `gcp`, `azure`, `openstack`, …, lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Located>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Located>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Located>,
    /// The zone's identity, not its name, where a provider shuffles names between accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Located>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc: Option<Located>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Located>,
    /// The provider's id of this VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Located>,
}

impl CloudLocation {
    /// The names of the fields, as in JSON and on the wire.
    pub const FIELDS: [&'static str; 7] = ["provider", "account", "region", "zone", "vpc", "subnet", "instance"];

    /// A field by its name; absent also if there is no such field.
    pub fn get(&self, field: &str) -> Option<&Located> {
        match field {
            "provider" => self.provider.as_ref(),
            "account" => self.account.as_ref(),
            "region" => self.region.as_ref(),
            "zone" => self.zone.as_ref(),
            "vpc" => self.vpc.as_ref(),
            "subnet" => self.subnet.as_ref(),
            "instance" => self.instance.as_ref(),
            _ => None,
        }
    }

    /// Where a field is kept; none if there is no such field.
    pub fn slot(&mut self, field: &str) -> Option<&mut Option<Located>> {
        Some(match field {
            "provider" => &mut self.provider,
            "account" => &mut self.account,
            "region" => &mut self.region,
            "zone" => &mut self.zone,
            "vpc" => &mut self.vpc,
            "subnet" => &mut self.subnet,
            "instance" => &mut self.instance,
            _ => return None,
        })
    }

    /// What is known, by name.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, &Located)> {
        Self::FIELDS.into_iter().filter_map(|field| Some((field, self.get(field)?)))
    }

    /// Both together; where both know a field, the source that is trusted more wins, else `self`.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        for (field, theirs) in other.known() {
            let is_better = merged.get(field).is_none_or(|ours| theirs.source > ours.source);
            if let Some(slot) = merged.slot(field).filter(|_| is_better) {
                *slot = Some(theirs.clone());
            }
        }
        merged
    }
}

/// What the API says of a field; nothing if it is empty. Providers are known in lower case.
pub fn injected(field: &str, value: &str) -> Result<Option<Located>, TextError> {
    check_text(value, MAX_VALUE)?;
    let value = if field == "provider" { value.to_ascii_lowercase() } else { value.to_owned() };
    Ok((!value.is_empty()).then_some(Located { value, source: LocationSource::Injected }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_trusted_source_wins_field_by_field() {
        let known = |value: &str, source| Some(Located { value: value.to_owned(), source });
        let metadata = CloudLocation {
            region: known("r-1", LocationSource::Metadata),
            vpc: known("vpc-1", LocationSource::Operator),
            ..CloudLocation::default()
        };
        let injected = CloudLocation {
            region: known("r-2", LocationSource::Injected),
            vpc: known("vpc-2", LocationSource::Injected),
            account: known("a", LocationSource::Injected),
            ..CloudLocation::default()
        };
        let both = CloudLocation {
            account: injected.account.clone(),
            region: injected.region.clone(),
            vpc: metadata.vpc.clone(),
            ..CloudLocation::default()
        };
        assert_eq!(metadata.merged(&injected), both);
        assert_eq!(injected.merged(&metadata), both);
    }

    #[test]
    fn every_field_has_its_name() {
        let mut location = CloudLocation::default();
        for field in CloudLocation::FIELDS {
            let slot = location.slot(field).expect("a field");
            *slot = Some(Located { value: field.to_owned(), source: LocationSource::Injected });
        }
        assert!(
            location
                .known()
                .map(|(field, located)| (field, located.value.as_str()))
                .eq(CloudLocation::FIELDS.map(|field| (field, field)))
        );
        let json = serde_json::to_value(&location).unwrap();
        assert!(CloudLocation::FIELDS.iter().all(|field| json[field]["value"] == *field), "{json}");
        assert!(location.get("rack").is_none() && location.slot("rack").is_none());
    }
}
