//! What goes over the control socket. The same types are what `--output json` prints, so they are part of the command
//! line's contract.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cladnet_model::{
    CloudLocation, DesiredState, Endpoint, HostId, NetworkId, PeerState, PublicKey, Scope, path::Reach, tariff::Price,
};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{failure::Failure, offload::Offloads};

/// A question to the daemon. Not to be printed: it may hold a token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub(crate) enum Request {
    /// Enrol this host, or add a membership; answered when the interface is up or something must be waited for.
    Join {
        /// Base URLs of the service's replicas, `https://HOST:PORT`.
        services: Vec<String>,
        token: String,
        /// How long to go on asking a busy service and to wait for the interface.
        wait_ms: u64,
    },
    /// Raise a network's interface; of the only network if none is named.
    Up {
        network: Option<NetworkId>,
    },
    /// Remove a network's interface and keep the membership.
    Down {
        network: Option<NetworkId>,
    },
    /// End one membership, or with `all` every one and the host's identity.
    Leave {
        network: Option<NetworkId>,
        all: bool,
    },
    Status,
    Peers {
        network: Option<NetworkId>,
    },
    Paths {
        network: Option<NetworkId>,
        probe: bool,
    },
    /// `peer` is a name, a host id or an overlay address.
    Ping {
        peer: String,
        network: Option<NetworkId>,
        count: u32,
        interval_ms: u64,
    },
    Netcheck,
}

/// The daemon's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Response {
    Ok(Box<Reply>),
    Error(Failure),
}

/// A successful answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// After `join`, `up`, `down`.
    Network(NetworkStatus),
    /// After `leave`: what was left, and what could not be told to the service.
    Left(Left),
    Status(Box<Status>),
    Peers(Vec<PeerStatus>),
    Paths(Vec<PathStatus>),
    Ping(PingReport),
    Netcheck(Vec<Check>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Left {
    pub networks: Vec<NetworkId>,
    /// The host's identity was given up too.
    pub host: bool,
    /// Why the service does not know yet, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// All that `cladnet-agent status` tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub version: String,
    pub pid: u32,
    pub host: Option<HostStatus>,
    pub service: ServiceStatus,
    pub endpoints: Vec<Endpoint>,
    pub location: CloudLocation,
    pub networks: Vec<NetworkStatus>,
    pub offloads: Offloads,
    /// The library that seals full packets on this CPU: `ring`, `intel-ipsec-mb`, or `none` in a build for measuring.
    #[serde(default)]
    pub aead: String,
    /// How many packets were dropped since the start, by reason; those that never occurred are missing.
    #[serde(default)]
    pub discards: BTreeMap<String, u64>,
    #[serde(default)]
    pub probes: ProbeCounts,
    /// What does not work as it should, and what to do; the agent forwards nevertheless.
    pub problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostStatus {
    pub id: HostId,
    pub services: Vec<String>,
    /// SHA-256 of the public key of the services' authority, hex; by it an installation knows its own agents.
    pub authority: String,
    pub certificate_expires_at: Option<Timestamp>,
}

/// The stream to the service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(crate) enum ServiceStatus {
    /// No network was joined.
    #[default]
    Idle,
    Connecting {
        service: String,
    },
    Connected {
        service: String,
        since: Timestamp,
    },
    /// Traffic goes on with the last known configuration.
    Away {
        service: String,
        error: String,
    },
}

/// One membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkStatus {
    pub network: NetworkId,
    pub name: String,
    pub state: PeerState,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Asked for on this machine by `up` and `down`.
    pub wish: DesiredState,
    /// Asked for by an admin.
    pub desired_state: Option<DesiredState>,
    pub interface: String,
    pub address: Option<Ipv4Addr>,
    pub address_space: Option<Ipv4Net>,
    pub public_key: PublicKey,
    pub peers: usize,
    /// To how many of them packets travel in clear now.
    #[serde(default)]
    pub clear_peers: usize,
    pub epoch: String,
    pub revision: i64,
    /// What is in force is on disk: a restart needs no service to know it.
    #[serde(default)]
    pub saved: bool,
    /// Of all its peers.
    #[serde(default)]
    pub volumes: Volumes,
}

/// By the kind of path. Counted since the peer was configured.
pub(crate) type Volumes = BTreeMap<Scope, Volume>;

/// What went both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub sent: Tally,
    pub received: Tally,
}

/// What went one way: packets of the overlay, and the datagrams that a cloud bills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub packets: u64,
    pub bytes: u64,
    /// Of these, what travelled as clear frames.
    #[serde(default)]
    pub clear_bytes: u64,
    pub datagrams: u64,
    /// Of datagrams, with the headers of IP and UDP.
    pub wire_bytes: u64,
}

/// A remote peer and the path in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerStatus {
    pub network: NetworkId,
    pub host: HostId,
    pub name: String,
    pub address: Option<Ipv4Addr>,
    pub endpoint: Option<SocketAddr>,
    pub scope: Option<Scope>,
    pub handshake_age_s: Option<u64>,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// The longest packet that goes to it over the path as it is; none while the interface is down.
    #[serde(default)]
    pub mtu: Option<u16>,
    #[serde(default)]
    pub volumes: Volumes,
    pub state: DesiredState,
    pub plain: bool,
    /// Whether packets to it travel encrypted or in clear, and why.
    #[serde(default)]
    pub encryption: String,
    /// The same for programs; none while there is no tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Why there is no path, if there is none: nothing is sent, or to an endpoint that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_path: Option<String>,
    /// What probes have found out of its endpoints, those included that it was only heard at; none of a plain peer.
    #[serde(default)]
    pub probed: Vec<ProbedStatus>,
}

/// What probes have found out of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProbedStatus {
    pub endpoint: SocketAddr,
    /// `untried`, `answers`, `silent`, or `proving`: it was left, and answers again.
    pub state: String,
    /// The middle one of the last eight.
    pub rtt_us: Option<u32>,
    /// Of the last 64 requests.
    pub loss_permille: u16,
    /// How long ago the last answer came.
    pub answered_ms: Option<u64>,
}

/// Since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProbeCounts {
    pub asked: u64,
    pub answered: u64,
    /// How often another endpoint of a peer was taken into use.
    pub path_changes: u64,
}

/// The path in use to a remote peer, and those it was chosen from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathStatus {
    #[serde(flatten)]
    pub peer: PeerStatus,
    /// Measured over the overlay just now, if it was asked for.
    pub rtt_us: Option<u32>,
    pub candidates: Vec<Endpoint>,
    /// What the ranking goes by.
    #[serde(default)]
    pub known: Vec<CandidateStatus>,
    /// Version of the tariff book that the prices come from.
    #[serde(default)]
    pub tariff_version: String,
    /// Why this one.
    pub detail: String,
}

/// What is known of an address that a peer may be reached at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CandidateStatus {
    pub address: SocketAddr,
    pub reach: Reach,
    pub rtt_us: Option<u32>,
    pub loss_permille: Option<u16>,
    /// In nano-USD per 10^9 bytes; none if it is not known.
    pub price_per_gb: Option<Price>,
}

/// What `ping` found; round trips in microseconds, one per reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PingReport {
    pub network: NetworkId,
    pub host: HostId,
    pub name: String,
    pub address: IpAddr,
    pub sent: u32,
    pub rtts_us: Vec<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// One line of `netcheck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub name: String,
    pub outcome: Outcome,
    pub detail: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Good,
    /// Not known, or not needed.
    Unknown,
    Bad,
}

impl Check {
    pub(crate) fn new(name: &str, outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), outcome, detail: detail.into() }
    }
}
