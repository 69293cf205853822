//! Deployments: agents put onto machines over SSH. The wish of an admin ([`Deployment`], [`DeploymentHost`]) and how far
//! each machine is ([`DeploymentProgress`]); who connects, and how, is the provisioner's business.

mod address;
mod draft;
mod host_key;
mod private_key;
mod progress;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CloudLocation, DeploymentId, KeyId, Labels, MachineName, NetworkId, word::words};

pub use address::{AddressPolicy, AddressRefused, Via};
pub use draft::{DeploymentDraft, DeploymentSettings, Holder, MachineDraft, PrivateKeyText, Surroundings};
pub use host_key::{Fingerprint, FingerprintError, HostKeyError, HostKeyPin, PinnedHostKey};
pub use private_key::{MAX_PRIVATE_KEY, PrivateKeyError, check_private_key};
pub use progress::{
    DeploymentFailure, DeploymentProgress, DeploymentState, FailureReason, LINE_CHARACTERS, TRANSCRIPT_BYTES,
    Transcript, legible,
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
    /// When it was seen that every machine is done with, a little later than that; or when it was cancelled and no
    /// provisioner was at it.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
}

impl Deployment {
    /// Whether nothing more will happen to any of its machines.
    pub fn is_finished(&self, progress: &BTreeMap<MachineName, DeploymentProgress>) -> bool {
        let is_final = |name| progress.get(name).is_some_and(|progress| progress.state.is_final());
        self.finished_at.is_some() || self.hosts.iter().all(is_final)
    }

    /// Where a machine of it stands, whose provisioner said so last. What is not done with when all is over was cancelled.
    pub fn state(&self, progress: Option<&DeploymentProgress>) -> DeploymentState {
        let said = progress.map(|progress| progress.state).unwrap_or_default();
        if self.finished_at.is_some() && !said.is_final() { DeploymentState::Cancelled } else { said }
    }
}

/// What every transaction writes that makes a deployment, so that no two meet at one machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentTurn {
    pub turns: u64,
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
        place(&self.address, self.port)
    }

    /// The same, told apart from the same private address behind another bastion.
    pub fn place_behind(&self, bastion: &Self) -> String {
        format!("{}@{}", self.place(), bastion.place())
    }
}

/// As [`SshTarget::place`], of a place as people write it: `192.0.2.10:22`, `[2001:db8::1]:22`, `vm-1.example.org:22`.
/// Behind a bastion: `10.0.0.5:22@192.0.2.10:22`.
pub fn parse_place(text: &str) -> Option<String> {
    match text.split_once('@') {
        Some((behind, bastion)) => Some(format!("{}@{}", parse_one(behind)?, parse_one(bastion)?)),
        None => parse_one(text),
    }
}

fn parse_one(text: &str) -> Option<String> {
    let (address, port) = text.rsplit_once(':')?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6)?.to_string(),
        None => Some(address).filter(|address| !address.is_empty() && !address.contains([':', '/']))?.to_owned(),
    };
    Some(place(&address, port.parse().ok()?))
}

fn place(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address.to_canonical(), port).to_string(),
        Err(_) => format!("{}:{port}", address.to_ascii_lowercase()),
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
    /// The API key of that person.
    #[serde(default)]
    pub confirmed_by: Option<KeyId>,
}

impl DeploymentHost {
    /// What tells the machine from every other one: where it answers, and behind which bastion.
    pub fn place(&self, bastion: Option<&Self>) -> String {
        bastion.map_or_else(|| self.ssh.place(), |bastion| self.ssh.place_behind(&bastion.ssh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_spelling() {
        for (text, place) in [
            ("192.0.2.10:22", "192.0.2.10:22"),
            ("[::ffff:192.0.2.10]:22", "192.0.2.10:22"),
            ("[2001:DB8:0::1]:2222", "[2001:db8::1]:2222"),
            ("VM-1.example.org:22", "vm-1.example.org:22"),
            ("10.0.0.5:22@VM-1.example.org:2222", "10.0.0.5:22@vm-1.example.org:2222"),
        ] {
            assert_eq!(parse_place(text).as_deref(), Some(place), "{text}");
        }
        for text in ["", "192.0.2.10", "2001:db8::1:22", "[192.0.2.10]:22", "a/b:22", ":22", "a:70000", "a:1@b:2@c:3"] {
            assert_eq!(parse_place(text), None, "{text}");
        }
    }
}
