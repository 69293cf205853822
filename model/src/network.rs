//! A network (CLADNet): its address space and the two policies that steer its paths.

mod draft;
mod fit;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use draft::{NetworkDraft, NetworkSettings, NetworkUpdate};
pub use fit::{Misfit, check_fit, check_room};

use crate::{
    NetworkId,
    path::{Author, Encryption, PairPolicy, PathSettings, Policy},
    word::words,
};

/// How a network ranks the paths between two peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleType {
    /// Public endpoints only, as cb-network's rule of this name.
    Basic,
    /// $/GB, then RTT.
    #[default]
    CostPrioritized,
    /// RTT, then $/GB.
    LatencyPrioritized,
    /// $/GB plus a price per millisecond.
    Balanced,
}

words!(RuleType {
    Basic = "basic",
    CostPrioritized = "cost-prioritized",
    LatencyPrioritized = "latency-prioritized",
    Balanced = "balanced",
});

/// What crosses the wire in clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncryptionPolicy {
    /// Nothing.
    #[default]
    Always,
    /// Clear frames inside a trusted scope, encryption on every public path.
    Public,
}

words!(EncryptionPolicy {
    Always = "always",
    Public = "public",
});

/// A network's record. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    pub name: String,
    pub address_space: Ipv4Net,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub rule_type: RuleType,
    #[serde(default)]
    pub encryption_policy: EncryptionPolicy,
    #[serde(default, skip_serializing_if = "PathSettings::is_default")]
    pub path_settings: PathSettings,
    /// Counts the changes of these settings.
    pub generation: u64,
    pub created_at: Timestamp,
}

impl Network {
    /// What holds for its pairs, as far as no path rule says otherwise.
    pub fn pair_policy(&self) -> PairPolicy {
        PairPolicy {
            paths: Policy::of(self.rule_type, self.path_settings.clone()),
            encryption: Encryption { policy: self.encryption_policy, by: Author::default() },
        }
    }
}

/// Written by every transaction that gives a network an address space: two that overlap, asked for at the same moment,
/// cannot both pass. Writer: the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPlan {
    /// How many address spaces were given out.
    pub changes: u64,
}
