//! One membership on disk: its key, what this machine wishes, and the last configuration that was applied.

use cladnet_model::{DesiredState, NetworkId, PublicKey};
use cladnet_tunnel::PrivateKey;
use serde::{Deserialize, Serialize};

use super::{
    file::Document,
    secret::{base64_bytes, wireguard_key},
};

/// One membership.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembershipRecord {
    pub network: NetworkId,
    /// Made on this machine for this membership; never leaves it.
    #[serde(with = "wireguard_key")]
    pub private_key: PrivateKey,
    /// Name of its interface, kept so that it is the same after a restart.
    pub interface: String,
    /// What `up` and `down` asked for here.
    pub wish: DesiredState,
    /// The network was left while the service could not be told; it is told when it is back. Nothing else of the record
    /// counts then.
    #[serde(default)]
    pub(crate) left: bool,
    /// The last configuration applied (`cladnet.v1.Snapshot`, protobuf); empty if there was none yet. It passes the
    /// same checks when it is read as it did when it came.
    #[serde(with = "base64_bytes", default)]
    pub snapshot: Vec<u8>,
}

impl MembershipRecord {
    /// The membership's name in the overlay.
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey(*self.private_key.public_key().as_bytes())
    }
}

impl Document for MembershipRecord {
    const FORMAT: &'static str = "cladnet-agent membership";
    const VERSION: u32 = 1;
}
