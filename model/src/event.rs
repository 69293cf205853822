//! Events: what happened, for people to read. Kept for a while, never read by programs to decide anything.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{EventId, HostId, NetworkId};

/// An event's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub id: EventId,
    pub at: Timestamp,
    /// Dotted: `network.created`, `peer.joined`, `host.online`, …
    pub kind: String,
    #[serde(default)]
    pub network: Option<NetworkId>,
    #[serde(default)]
    pub host: Option<HostId>,
    /// Id of the API key, host or component that caused it.
    pub actor: String,
    pub message: String,
}
