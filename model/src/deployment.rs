//! Deployments: agents put onto machines over SSH. The wish of an admin ([`Deployment`], [`DeploymentHost`]) and how far
//! each machine is ([`DeploymentProgress`]); who connects, and how, is the provisioner's business.

mod address;
mod host_key;
mod progress;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CloudLocation, DeploymentId, KeyId, Labels, MachineName, NetworkId, word::words};

pub use address::{AddressPolicy, AddressRefused, Via};
pub use host_key::{Fingerprint, FingerprintError, HostKeyError, HostKeyPin, PinnedHostKey};
pub use progress::{
    DeploymentFailure, DeploymentProgress, DeploymentState, FailureReason, TRANSCRIPT_BYTES, Transcript,
};

/// Most machines of one deployment.
pub const MAX_HOSTS: usize = 1000;
/// Machines that are worked on at a time unless told otherwise.
pub const DEFAULT_CONCURRENCY: u32 = 10;
/// Most machines that are worked on at a time: each holds a connection and an upload.
pub const MAX_CONCURRENCY: u32 = 100;
/// SSH's port.
pub const SSH_PORT: u16 = 22;

/// What is done on every machine of a deployment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentAction {
    /// Puts the agent there, or this release's in place of an older one, and joins the network.
    #[default]
    Install,
    /// Replaces an agent by this release's; memberships stay as they are.
    Upgrade,
    /// Leaves the network; the last network gone, the agent and its files go too.
    Uninstall,
}

words!(DeploymentAction {
    Install = "install",
    Upgrade = "upgrade",
    Uninstall = "uninstall",
});

/// A deployment's record. Writer: the service; the provisioner answers in [`DeploymentProgress`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    pub id: DeploymentId,
    pub network: NetworkId,
    pub action: DeploymentAction,
    /// Names of its machines, each with a [`DeploymentHost`] of its own; in the order of the request.
    pub hosts: Vec<MachineName>,
    pub concurrency: u32,
    /// Trust a machine's key at first sight, without asking anybody.
    #[serde(default)]
    pub accept_new_host_keys: bool,
    /// Keep the private keys sealed in the store when all is done; otherwise they are deleted then.
    #[serde(default)]
    pub keep_credentials: bool,
    pub created_at: Timestamp,
    pub created_by: KeyId,
    #[serde(default)]
    pub cancelled_at: Option<Timestamp>,
}

/// That a replica of the provisioner works on a deployment; it ends with the replica's lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentClaim {
    /// Random name of the replica's run.
    pub replica: String,
}

/// Where SSH answers, and as whom to log in. The private key is a sealed record of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshTarget {
    /// An address, or a name that the provisioner resolves.
    pub address: String,
    pub port: u16,
    pub user: String,
    /// The only key that the machine may show; absent: a first one must be confirmed.
    #[serde(default)]
    pub host_key: Option<HostKeyPin>,
}

impl SshTarget {
    /// `address:port` in one spelling: under this a host key is pinned.
    pub fn place(&self) -> String {
        match self.address.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, self.port).to_string(),
            Err(_) => format!("{}:{}", self.address.to_ascii_lowercase(), self.port),
        }
    }
}

/// One machine of a deployment. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentHost {
    pub name: MachineName,
    #[serde(flatten)]
    pub ssh: SshTarget,
    /// Name of the machine of the same deployment through which this one is reached.
    #[serde(default)]
    pub bastion: Option<MachineName>,
    /// Labels of the peer.
    #[serde(default)]
    pub labels: Labels,
    /// Overlay address to ask for.
    #[serde(default)]
    pub overlay_address: Option<Ipv4Addr>,
    /// What the inventory knows of the machine's cloud; injected once it has joined.
    #[serde(default)]
    pub location: CloudLocation,
    /// The key that a person has compared and confirmed.
    #[serde(default)]
    pub confirmed: Option<Fingerprint>,
}
