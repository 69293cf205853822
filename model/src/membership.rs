//! A membership: one host in one network, as wished for by admins and as reported by its agent.

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{HostId, NetworkId, PublicKey, word::words};

/// Labels of a peer, matched by selectors.
pub type Labels = BTreeMap<String, String>;

/// What an admin asked of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DesiredState {
    #[default]
    Up,
    Down,
}

words!(DesiredState {
    Up = "up",
    Down = "down",
});

/// How far a peer is; the words are cb-network's. Online or offline is told by presence, not here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerState {
    /// Joined; waits for its address or its interface.
    #[default]
    Configuring,
    /// The interface is up and carries traffic.
    Tunneling,
    /// Going down.
    Closing,
    /// Down, as asked.
    Released,
    /// Cannot go on without help; the reason says why.
    Failed,
}

words!(PeerState {
    Configuring = "configuring",
    Tunneling = "tunneling",
    Closing = "closing",
    Released = "released",
    Failed = "failed",
});

/// A membership's record. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub network: NetworkId,
    pub host: HostId,
    /// WireGuard key of this membership; its private half never left the machine.
    pub public_key: PublicKey,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default)]
    pub desired_state: DesiredState,
    /// An address asked for by an admin.
    #[serde(default)]
    pub static_address: Option<Ipv4Addr>,
    /// Plain WireGuard without the agent.
    #[serde(default)]
    pub plain: bool,
    pub joined_at: Timestamp,
}

/// What the agent last reported of a membership. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipStatus {
    pub state: PeerState,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub interface: String,
    /// Store revision of the configuration that this state reflects.
    #[serde(default)]
    pub revision: i64,
}
