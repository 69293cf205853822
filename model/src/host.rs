//! A host: a machine with one identity, what it says of itself, and where its tunnel's socket may be reached.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CloudLocation, HostId, word::words};

/// From where an endpoint can be reached. `relay` is a reserved word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    Private,
    Public,
    PublicV6,
}

words!(Scope {
    Private = "private",
    Public = "public",
    PublicV6 = "public-v6",
});

/// How an endpoint is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointSource {
    /// An address of the default route's interface.
    Interface,
    /// The provider's instance metadata.
    Metadata,
    /// Seen from outside by the service's STUN server, through the tunnel's own socket.
    Stun,
    /// Written down by an operator.
    Operator,
}

words!(EndpointSource {
    Interface = "interface",
    Metadata = "metadata",
    Stun = "stun",
    Operator = "operator",
});

/// An address the tunnel's socket may be reached at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub scope: Scope,
    pub source: EndpointSource,
}

/// What a host says of itself; each report replaces the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    pub name: String,
    pub machine_id: String,
    pub agent_version: String,
    pub endpoints: Vec<Endpoint>,
    /// Destinations of the host's own routes, overlay routes left out.
    pub routes: Vec<IpNet>,
    /// Address and prefix of the default route's interface.
    pub private_address: Option<Ipv4Net>,
    /// From metadata and the operator's file.
    pub location: CloudLocation,
    /// Subnets that the operator wishes to have reached through it; they wait for approval.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advertise: Vec<IpNet>,
}

/// A host's record. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub id: HostId,
    pub facts: HostFacts,
    /// What the API said of its cloud; merged with `facts.location` by trust.
    #[serde(default)]
    pub injected: CloudLocation,
    /// SHA-256 of the public key in its certificate, hex; empty for a plain peer.
    pub identity: String,
    pub enrolled_at: Timestamp,
}

impl Host {
    /// Where it stands, from all sources.
    pub fn location(&self) -> CloudLocation {
        self.facts.location.merged(&self.injected)
    }
}

/// Which replica holds a host's stream; leased, so that it ends with the replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub replica: String,
    pub since: Timestamp,
    /// Address the stream comes from.
    pub from: Option<IpAddr>,
}

/// What is true of the whole installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Random; changes when the store is restored from a backup.
    pub epoch: String,
    pub created_at: Timestamp,
}
