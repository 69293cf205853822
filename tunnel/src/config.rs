//! What an interface is told to be: whole, not as steps. [`crate::Tunnel`] works out the difference.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::interface::MAX_INTERFACES;
use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// One interface: our identity in one network, and everyone we talk to there.
#[derive(Debug, Clone)]
pub struct InterfaceConfig {
    pub private_key: PrivateKey,
    /// The network's address space, if it has one. No peer is reached at an address inside: the tunnel would travel
    /// through itself.
    pub network: Option<IpNet>,
    /// The longest inner packet of a network; padding stops there. Without a network the link's MTU is what others make
    /// it, and whatever the kernel lets through is sent.
    pub mtu: u16,
    pub peers: Vec<PeerConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    pub public_key: PublicKey,
    /// Another one is used from the next handshake on. Only an engine that cannot change it ends the session for it.
    pub preshared_key: Option<PresharedKey>,
    /// Where packets for these prefixes go, and the only sources accepted from this peer. A prefix named by two peers
    /// belongs to the later one.
    pub allowed_ips: Vec<IpNet>,
    /// Where the peer is believed to be. Taken when it first appears; and, if it roams, when it changes here.
    pub endpoint: Option<SocketAddr>,
    pub roaming: Roaming,
    /// Sends an empty packet when nothing was sent for this long, which keeps a NAT mapping open; whole seconds.
    pub persistent_keepalive: Option<Duration>,
    /// Whether it is an agent of ours, which answers probes; a plain WireGuard peer never hears of them.
    pub probes: bool,
    /// Endpoints of the peer to and from which packets may travel in clear: those in a scope that is trusted, where the
    /// network's policy says so; else none.
    pub trusted_endpoints: Vec<SocketAddr>,
}

/// Who moves a peer's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roaming {
    /// Its authentic packets do, as WireGuard has it (whitepaper §2.1).
    ByPackets,
    /// [`crate::Tunnel::steer`] alone. Where else the peer is heard of is only told.
    Pinned,
}

impl PeerConfig {
    /// The endpoints for clear frames: none without probes.
    pub(crate) fn trusted(&self) -> &[SocketAddr] {
        if self.probes { &self.trusted_endpoints } else { &[] }
    }
}

/// Why an interface cannot be. Peers never make one fail: see [`crate::Applied::refused`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("a host has at most {MAX_INTERFACES} interfaces: leave a network first")]
    TooManyInterfaces,
    #[error("another interface has the same private key: every membership needs its own")]
    KeyInUse,
    #[error("no such interface")]
    UnknownInterface,
}
