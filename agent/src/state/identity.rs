//! Who this host is to its service, and an enrolment of which the answer was never seen.

use std::fmt;

use cladnet_model::HostId;
use cladnet_tunnel::PrivateKey;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    file::Document,
    secret::{base64_bytes, wireguard_key},
};

/// The host's identity: all that the control channel needs.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub host: HostId,
    /// Of the machine that enrolled: a copy of this file on another machine is not that host.
    pub machine_id: String,
    /// Base URLs of the service's replicas.
    pub services: Vec<String>,
    /// The service's certificate authority, PEM.
    pub authority: String,
    /// SHA-256 of the authority's public key, hex; join tokens carry the same.
    pub authority_hash: String,
    /// The host's certificate chain, PEM.
    pub certificate: String,
    /// The private key of that certificate, PEM.
    pub key: Zeroizing<String>,
}

/// Keys made for a token, saved before it is shown: whoever repeats the call with them gets the same host again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pending {
    /// SHA-256 of the token, hex.
    pub token_hash: String,
    /// Absent if the host was enrolled and only a membership was asked for.
    pub enrolment: Option<PendingEnrolment>,
    #[serde(with = "wireguard_key")]
    pub private_key: PrivateKey,
}

/// The identity's half of [`Pending`].
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingEnrolment {
    pub key: Zeroizing<String>,
    #[serde(with = "base64_bytes")]
    pub certificate_request: Vec<u8>,
}

impl Document for Identity {
    const FORMAT: &'static str = "cladnet-agent identity";
    const VERSION: u32 = 1;
}

impl Document for Pending {
    const FORMAT: &'static str = "cladnet-agent pending join";
    const VERSION: u32 = 1;
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("host", &self.host).field("services", &self.services).finish_non_exhaustive()
    }
}
