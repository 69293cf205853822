//! All interfaces of a host over one UDP socket: finds the interface and peer of every packet and has it sealed or
//! opened.
//!
//! Readers see an immutable snapshot; a change of configuration publishes a new one. Nothing is written out while a
//! peer's lock is held.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rand::Rng;

use crate::config::{ConfigError, InterfaceConfig, PeerConfig};
use crate::discard::{Discard, DiscardCounts};
use crate::engine::boringtun::BoringtunEngine;
use crate::engine::{Engine, Refusal, Step};
use crate::interface::{Applied, Interface, InterfaceId, MAX_INTERFACES};
use crate::key::PublicKey;
use crate::message::{DATA_OVERHEAD, Message};
use crate::packet::Addresses;
use crate::peer::{Peer, PeerStats};

/// What a caller's working buffer must hold: the longest datagram.
pub const BUFFER_SIZE: usize = 1 << 16;
/// The longest payload of a UDP datagram over IPv4.
const MAX_DATAGRAM: usize = 65_507;
/// How often [`Tunnel::handle_timeout`] wants to be called.
pub const TICK: Duration = Duration::from_millis(250);

/// Where a tunnel's output goes. Called without any lock held.
pub trait Outbox {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]);
    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]);
}

/// The WireGuard state of a host. Shared by the data threads; every `buffer` is the calling thread's own, of
/// [`BUFFER_SIZE`], and holds nothing between calls.
#[derive(Default)]
pub struct Tunnel {
    snapshot: ArcSwap<Snapshot>,
    /// Held while a new snapshot is made.
    changing: Mutex<()>,
    discards: DiscardCounts,
}

#[derive(Clone, Default)]
struct Snapshot {
    interfaces: [Option<Arc<Interface>>; MAX_INTERFACES],
    peers_by_index: HashMap<u32, Arc<Peer>>,
}

impl Tunnel {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add_interface(
        &self,
        now: Instant,
        config: &InterfaceConfig,
        rng: &mut impl Rng,
    ) -> Result<(InterfaceId, Applied), ConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot.load_full();
        let engine = BoringtunEngine::new(&config.private_key);
        if snapshot.interfaces().any(|other| other.engine.public_key() == engine.public_key()) {
            return Err(ConfigError::KeyInUse);
        }
        let slot = snapshot.interfaces.iter().position(Option::is_none).ok_or(ConfigError::TooManyInterfaces)?;
        let interface = Interface::empty(InterfaceId(slot), Arc::new(engine));
        let applied = self.publish(now, &snapshot, &interface, &config.peers, rng);
        Ok((interface.id, applied))
    }

    /// Makes `peers` the peers of an interface. One that stays as it was keeps its session.
    pub fn update_peers(
        &self,
        now: Instant,
        id: InterfaceId,
        peers: &[PeerConfig],
        rng: &mut impl Rng,
    ) -> Result<Applied, ConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot.load_full();
        let interface = snapshot.interface(id).ok_or(ConfigError::UnknownInterface)?;
        Ok(self.publish(now, &snapshot, interface, peers, rng))
    }

    pub fn remove_interface(&self, id: InterfaceId) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.snapshot.load());
        next.interfaces[id.slot()] = None;
        next.peers_by_index.retain(|_, peer| peer.interface != id);
        self.snapshot.store(Arc::new(next));
    }

    /// An inner packet read from an interface: to the peer responsible for its destination.
    pub fn seal(
        &self,
        now: Instant,
        interface: InterfaceId,
        packet: &[u8],
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        self.counted(|| {
            if packet.len() + DATA_OVERHEAD > MAX_DATAGRAM {
                return Err(Discard::Oversized);
            }
            let snapshot = self.snapshot.load();
            let interface = snapshot.interface(interface).ok_or(Discard::UnknownInterface)?;
            let destination = Addresses::of(packet)?.destination;
            let peer = interface.allowed_ips.lookup(destination).ok_or(Discard::NoRoute)?;
            if let Some(transmit) = peer.seal(now, packet, buffer)? {
                outbox.transmit(transmit.to, &buffer[..transmit.len]);
            }
            Ok(())
        })
    }

    /// A datagram received from the network.
    pub fn open(
        &self,
        now: Instant,
        from: SocketAddr,
        datagram: &[u8],
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        self.counted(|| {
            let snapshot = self.snapshot.load();
            let admitted = match Message::parse(datagram)? {
                Message::HandshakeInitiation => snapshot.admit_initiation(now, from, datagram, buffer)?,
                Message::HandshakeResponse { receiver_index } => {
                    let peer = snapshot.peer_by_index(receiver_index)?;
                    let engine = &snapshot.interface(peer.interface).ok_or(Discard::UnknownInterface)?.engine;
                    match engine.admit(now, from.ip(), datagram, buffer) {
                        Ok(()) => Admitted::Peer(peer),
                        Err(refusal) => Admitted::cookie(refusal)?,
                    }
                }
                Message::CookieReply { receiver_index } | Message::Data { receiver_index, .. } => {
                    Admitted::Peer(snapshot.peer_by_index(receiver_index)?)
                }
            };
            match admitted {
                Admitted::Peer(peer) => snapshot.open_from(peer, now, from, datagram, buffer, outbox),
                Admitted::Cookie(len) => {
                    outbox.transmit(from, &buffer[..len]);
                    Err(Discard::UnderLoad)
                }
            }
        })
    }

    /// Retransmissions, renewals, keepalives of every peer. To be called every [`TICK`].
    pub fn handle_timeout(&self, now: Instant, buffer: &mut [u8], outbox: &mut impl Outbox) {
        let snapshot = self.snapshot.load();
        for interface in snapshot.interfaces() {
            interface.engine.handle_timeout(now);
            for peer in interface.peers.values() {
                if let Some(transmit) = peer.handle_timeout(now, buffer) {
                    outbox.transmit(transmit.to, &buffer[..transmit.len]);
                }
            }
        }
    }

    /// Starts handshakes with these peers now; those started a moment ago are left alone.
    pub fn initiate(
        &self,
        now: Instant,
        interface: InterfaceId,
        peers: &[PublicKey],
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) {
        let snapshot = self.snapshot.load();
        let Some(interface) = snapshot.interface(interface) else { return };
        for peer in peers.iter().filter_map(|key| interface.peers.get(key)) {
            if let Some(transmit) = peer.initiate(now, buffer) {
                outbox.transmit(transmit.to, &buffer[..transmit.len]);
            }
        }
    }

    /// Tells every peer where we are: an authentic packet on a living session, a handshake where there is none.
    pub fn announce(&self, now: Instant, buffer: &mut [u8], outbox: &mut impl Outbox) {
        let snapshot = self.snapshot.load();
        for peer in snapshot.interfaces().flat_map(|interface| interface.peers.values()) {
            if let Some(transmit) = peer.keepalive(now, buffer).or_else(|| peer.initiate(now, buffer)) {
                outbox.transmit(transmit.to, &buffer[..transmit.len]);
            }
        }
    }

    /// In the order of public keys; empty if there is no such interface.
    pub fn peer_stats(&self, now: Instant, interface: InterfaceId) -> Vec<PeerStats> {
        let snapshot = self.snapshot.load();
        let peers = snapshot.interface(interface).into_iter().flat_map(|interface| interface.peers.values());
        peers.map(|peer| peer.stats(now)).collect()
    }

    pub fn discards(&self) -> &DiscardCounts {
        &self.discards
    }

    fn counted(&self, act: impl FnOnce() -> Result<(), Discard>) -> Result<(), Discard> {
        act().inspect_err(|reason| self.discards.count(*reason))
    }

    /// Puts `interface` with other peers in place of itself. `changing` is held.
    fn publish(
        &self,
        now: Instant,
        snapshot: &Snapshot,
        interface: &Interface,
        peers: &[PeerConfig],
        rng: &mut impl Rng,
    ) -> Applied {
        let mut taken: HashSet<u32> = snapshot.peers_by_index.keys().copied().collect();
        let fresh_index = || loop {
            let index = rng.next_u32() >> 8;
            if taken.insert(index) {
                break index;
            }
        };
        let id = interface.id;
        let (interface, applied) = interface.with_peers(now, peers, fresh_index);
        let mut next = snapshot.clone();
        next.peers_by_index.retain(|_, peer| peer.interface != id);
        next.peers_by_index.extend(interface.peers.values().map(|peer| (peer.index, peer.clone())));
        next.interfaces[id.slot()] = Some(Arc::new(interface));
        self.snapshot.store(Arc::new(next));
        applied
    }
}

/// What became of a message at the door.
enum Admitted<'a> {
    Peer(&'a Arc<Peer>),
    /// This many bytes of the buffer are the answer.
    Cookie(usize),
}

impl Admitted<'_> {
    fn cookie(refusal: Refusal) -> Result<Self, Discard> {
        match refusal {
            Refusal::WrongMac => Err(Discard::WrongMac),
            Refusal::Cookie(len) => Ok(Self::Cookie(len)),
            Refusal::Discard(reason) => Err(reason),
        }
    }
}

impl Snapshot {
    fn interfaces(&self) -> impl Iterator<Item = &Arc<Interface>> {
        self.interfaces.iter().flatten()
    }

    fn interface(&self, id: InterfaceId) -> Option<&Arc<Interface>> {
        self.interfaces.get(id.slot())?.as_ref()
    }

    /// The lower 8 bits of an index tell a peer's sessions apart.
    fn peer_by_index(&self, index: u32) -> Result<&Arc<Peer>, Discard> {
        self.peers_by_index.get(&(index >> 8)).ok_or(Discard::UnknownIndex)
    }

    /// An initiation names no index: the interface is the one whose key its mac1 was made with.
    fn admit_initiation(
        &self,
        now: Instant,
        from: SocketAddr,
        message: &[u8],
        reply: &mut [u8],
    ) -> Result<Admitted<'_>, Discard> {
        for interface in self.interfaces() {
            match interface.engine.admit(now, from.ip(), message, reply) {
                Ok(()) => {
                    let initiator = interface.engine.initiator(message)?;
                    return interface.peers.get(&initiator).map(Admitted::Peer).ok_or(Discard::UnknownPeer);
                }
                Err(Refusal::WrongMac) => {}
                Err(refusal) => return Admitted::cookie(refusal),
            }
        }
        Err(Discard::WrongMac)
    }

    fn open_from(
        &self,
        peer: &Arc<Peer>,
        now: Instant,
        from: SocketAddr,
        message: &[u8],
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        let opened = peer.open(now, from, message, buffer)?;
        let result = match opened.step {
            Step::Nothing => Ok(()),
            Step::Datagram(len) => {
                outbox.transmit(from, &buffer[..len]);
                Ok(())
            }
            Step::Packet(len) => self.deliver(peer, &buffer[..len], outbox),
        };
        if opened.queued {
            while let Some(transmit) = peer.seal_queued(now, buffer) {
                outbox.transmit(transmit.to, &buffer[..transmit.len]);
            }
        }
        result
    }

    /// The source must route back to this very peer; otherwise a member could speak for another.
    fn deliver(&self, peer: &Arc<Peer>, packet: &[u8], outbox: &mut impl Outbox) -> Result<(), Discard> {
        let source = Addresses::of(packet)?.source;
        let interface = self.interface(peer.interface).ok_or(Discard::UnknownInterface)?;
        let owner = interface.allowed_ips.lookup(source).ok_or(Discard::ForeignSource)?;
        if !Arc::ptr_eq(owner, peer) {
            return Err(Discard::ForeignSource);
        }
        outbox.deliver(interface.id, packet);
        Ok(())
    }
}
