//! A plain interface at work: takes what it is told to the device, and tells what the device has been doing.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cladnet_tunnel::{PeerStats, PublicKey};
use nix::errno::Errno;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use super::settings::{Changed, Settings};
use super::uapi::{self, PeerState, Set, State};
use crate::device::{DeviceError, PlainDevice};
use crate::netlink::Link;
use crate::udp::UdpError;

/// Why a change cannot be. What came before it in the request's order of port, mark, key and peers is in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    #[error(transparent)]
    Port(#[from] UdpError),
    #[error("cannot mark what is sent")]
    Mark(#[source] io::Error),
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl ChangeError {
    pub(super) fn errno(&self) -> Errno {
        let code = match self {
            Self::Port(UdpError::PortInUse { .. }) => return Errno::EADDRINUSE,
            Self::Port(UdpError::Open { source, .. }) | Self::Mark(source) => source.raw_os_error(),
            Self::Device(_) => None,
        };
        code.map_or(Errno::EIO, Errno::from_raw)
    }
}

pub(super) struct Interface {
    device: PlainDevice,
    settings: Settings,
    is_up: bool,
    mtu: u16,
    /// What peers did before they last came to the device.
    past: BTreeMap<PublicKey, Past>,
}

/// What is told of a peer beside its settings.
#[derive(Debug, Clone, Copy, Default)]
struct Past {
    endpoint: Option<SocketAddr>,
    /// Since 1970, as it was told last.
    last_handshake: Duration,
    tx_bytes: u64,
    rx_bytes: u64,
}

/// A handshake that is less later than the one before is told as the same. When it was comes out a little different every
/// time: its age is measured by one clock and told by another.
const HANDSHAKES_APART: Duration = Duration::from_secs(1);

impl Interface {
    /// One that is down, as the kernel makes it.
    pub(super) fn new(device: PlainDevice, mtu: u16) -> Self {
        Self { device, settings: Settings::default(), is_up: false, mtu, past: BTreeMap::new() }
    }

    /// Takes on what `set` says and leaves everything else: peers that stay keep their sessions.
    pub(super) fn change(&mut self, set: Set) -> Result<(), ChangeError> {
        if let Some(port) = set.listen_port.filter(|port| *port != self.settings.listen_port) {
            self.device.set_port(port)?;
            self.settings.listen_port = port;
        }
        if let Some(mark) = set.fwmark.filter(|mark| *mark != self.settings.fwmark) {
            self.device.set_mark(mark).map_err(ChangeError::Mark)?;
            self.settings.fwmark = mark;
        }
        if let Some(key) = &set.private_key
            && key.as_ref().map(|key| key.public_key()) != self.settings.public_key()
        {
            self.remember();
            self.device.set_private_key(key.as_ref(), self.mtu)?;
        }
        let changed = self.settings.apply(set);
        self.past.retain(|key, _| self.settings.peers().contains_key(key));
        Ok(self.put_in_force(changed)?)
    }

    /// Follows what was done to the interface from outside.
    pub(super) fn follow(&mut self, link: &Link) -> Result<(), DeviceError> {
        let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
        if (self.is_up, self.mtu) == (link.up, mtu) {
            return Ok(());
        }
        info!(up = link.up, mtu, "interface was changed");
        if self.is_up && !link.up {
            self.remember();
        }
        (self.is_up, self.mtu) = (link.up, mtu);
        self.put_in_force(Changed::default())
    }

    pub(super) fn mtu(&self) -> u16 {
        self.mtu
    }

    pub(super) fn describe(&mut self) -> io::Result<Zeroizing<String>> {
        let now = self.now();
        for (key, peer) in &now {
            self.past.entry(*key).or_default().last_handshake = peer.last_handshake;
        }
        let peers = self.settings.peers().iter().map(|(key, peer)| {
            let Past { endpoint, last_handshake, tx_bytes, rx_bytes } = now.get(key).copied().unwrap_or_default();
            PeerState {
                public_key: *key,
                preshared_key: peer.preshared_key.as_ref(),
                endpoint: endpoint.or(peer.endpoint),
                last_handshake,
                tx_bytes,
                rx_bytes,
                persistent_keepalive: peer.persistent_keepalive,
                allowed_ips: peer.allowed_ips.iter().copied().collect(),
            }
        });
        Ok(uapi::describe(&State {
            private_key: self.settings.private_key.as_ref(),
            listen_port: self.device.port()?,
            fwmark: self.settings.fwmark,
            peers: peers.collect(),
        }))
    }

    /// An interface that is down, or has no key, has no peers: it neither calls nor answers.
    fn put_in_force(&self, changed: Changed) -> Result<(), DeviceError> {
        let is_live = self.is_up && self.settings.private_key.is_some();
        let peers = if is_live { self.settings.configs() } else { Vec::new() };
        let applied = self.device.set_peers(self.mtu, &peers)?;
        for peer in &applied.refused {
            warn!(%peer, "peer has no part in the tunnel: its key is weak");
        }
        self.device.set_endpoints(&changed.moved);
        // Nothing is sent to the others before there is something to say.
        let is_kept_alive = |key: &PublicKey| self.settings.peers().get(key).is_some_and(|peer| peer.is_kept_alive());
        let mut greeted: Vec<PublicKey> = applied.to_greet.into_iter().filter(is_kept_alive).collect();
        greeted.extend(changed.kept_alive);
        debug!(peers = peers.len(), greeted = greeted.len(), "peers in force");
        self.device.greet(greeted);
        Ok(())
    }

    /// Keeps what the device knows of the peers, which it is about to lose.
    fn remember(&mut self) {
        self.past = self.now();
        for (key, past) in &self.past {
            if let Some(endpoint) = past.endpoint {
                self.settings.found(key, endpoint);
            }
        }
    }

    /// What every peer has done by now.
    fn now(&self) -> BTreeMap<PublicKey, Past> {
        let mut all = self.past.clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for PeerStats { public_key, endpoint, last_handshake, tx_bytes, rx_bytes, .. } in self.device.peer_stats() {
            let peer = all.entry(public_key).or_default();
            peer.endpoint = endpoint;
            let found = last_handshake.map(|ago| now.saturating_sub(ago));
            let newer = found.filter(|found| found.abs_diff(peer.last_handshake) >= HANDSHAKES_APART);
            peer.last_handshake = newer.unwrap_or(peer.last_handshake);
            peer.tx_bytes += tx_bytes;
            peer.rx_bytes += rx_bytes;
        }
        all
    }
}
