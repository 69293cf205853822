//! Where a host stands: provider, account, region, zone, VPC, subnet, each with the source it is known from.

use serde::{Deserialize, Serialize};

use crate::word::words;

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
#[serde(default, deny_unknown_fields)]
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
    /// Both together; where both know a field, the source that is trusted more wins, else `self`.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let pick = |ours: &Option<Located>, theirs: &Option<Located>| match (ours, theirs) {
            (Some(ours), Some(theirs)) if theirs.source > ours.source => Some(theirs.clone()),
            (Some(known), _) | (None, Some(known)) => Some(known.clone()),
            (None, None) => None,
        };
        Self {
            provider: pick(&self.provider, &other.provider),
            account: pick(&self.account, &other.account),
            region: pick(&self.region, &other.region),
            zone: pick(&self.zone, &other.zone),
            vpc: pick(&self.vpc, &other.vpc),
            subnet: pick(&self.subnet, &other.subnet),
            instance: pick(&self.instance, &other.instance),
        }
    }
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
}
