//! All interfaces of a host over one UDP socket: finds the interface and peer of every packet and has it sealed or
//! opened.
//!
//! Readers see an immutable snapshot; a change of configuration publishes a new one. Nothing is written out while a
//! peer's lock is held.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use rand::Rng;

use crate::config::{ConfigError, InterfaceConfig, PeerConfig};
use crate::discard::{Discard, DiscardCounts};
use crate::engine::Engine;
use crate::engine::boringtun::BoringtunEngine;
use crate::interface::{Applied, Interface, InterfaceId};
use crate::key::PublicKey;
use crate::message::{DATA_OVERHEAD, MAX_DATAGRAM, Message};
use crate::packet::Addresses;
use crate::peer::{Peer, PeerStats, Received, Transmit};
use crate::train::{Delivery, ReceivedTrain, Train};

mod snapshot;

use snapshot::Snapshot;

/// What a caller's working buffer must hold: the longest datagram.
pub const BUFFER_SIZE: usize = 1 << 16;
/// How often [`Tunnel::handle_timeout`] wants to be called.
pub const TICK: Duration = Duration::from_millis(250);

/// Where a tunnel's output goes. Called without any lock held.
pub trait Outbox {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]);

    /// Datagrams for one receiver, one after the other: each `segment_size` long but the last, which may be shorter.
    /// One `sendmsg` with `UDP_SEGMENT` takes them.
    fn transmit_train(&mut self, to: SocketAddr, datagrams: &[u8], segment_size: usize) {
        datagrams.chunks(segment_size).for_each(|datagram| self.transmit(to, datagram));
    }

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
        let id = snapshot.free_slot().ok_or(ConfigError::TooManyInterfaces)?;
        let interface = Interface::empty(id, Arc::new(engine), config.network, config.mtu);
        let applied = self.publish(now, &snapshot, &interface, &config.peers, rng);
        Ok((id, applied))
    }

    /// Makes an interface what is asked, under the key it has. A peer that stays as it was keeps its session.
    pub fn update_interface(
        &self,
        now: Instant,
        id: InterfaceId,
        network: IpNet,
        mtu: u16,
        peers: &[PeerConfig],
        rng: &mut impl Rng,
    ) -> Result<Applied, ConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot.load_full();
        let interface = snapshot.interface(id).ok_or(ConfigError::UnknownInterface)?.in_network(network, mtu);
        Ok(self.publish(now, &snapshot, &interface, peers, rng))
    }

    pub fn remove_interface(&self, id: InterfaceId) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.snapshot.load().without(id);
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
            match peer.seal(now, packet, buffer)? {
                Some(transmit) => snapshot.transmit(&transmit, buffer, outbox),
                None => Ok(()),
            }
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
            let received = Received { now, from, kind: Message::parse(datagram)?, bytes: datagram };
            self.snapshot.load().open(&received, buffer, outbox)
        })
    }

    /// An empty train for packets read from `interface`, in a `space` of [`BUFFER_SIZE`].
    pub fn train<'a>(&self, interface: InterfaceId, space: &'a mut [u8]) -> Result<Train<'a>, Discard> {
        let snapshot = self.snapshot.load();
        let mtu = snapshot.interface(interface).ok_or(Discard::UnknownInterface)?.mtu;
        Ok(Train::new(interface, mtu, space))
    }

    /// Seals the packets of a train, which go to the peer responsible for the first one's destination.
    pub fn seal_train(
        &self,
        now: Instant,
        train: Train<'_>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        train.packets().try_for_each(|packet| self.seal(now, train.interface(), packet, buffer, outbox))
    }

    /// Datagrams received together. They are opened where they lie; `deliveries` become the inner packets, in order.
    /// Discards are only counted.
    pub fn open_train(
        &self,
        now: Instant,
        train: ReceivedTrain<'_>,
        deliveries: &mut Vec<Delivery>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) {
        let ReceivedTrain { from, datagrams, segment_size } = train;
        deliveries.clear();
        for (position, datagram) in datagrams.chunks_mut(segment_size.max(1)).enumerate() {
            let mut inner = Inner { outbox, delivered: None };
            let message = datagram.to_vec();
            // Counted where it happened.
            let _ = self.open(now, from, &message, buffer, &mut inner);
            if let Some((interface, packet)) = inner.delivered {
                datagram[..packet.len()].copy_from_slice(&packet);
                let start = position * segment_size;
                deliveries.push(Delivery { interface, packet: start..start + packet.len() });
            }
        }
    }

    /// Retransmissions, renewals, keepalives of every peer. To be called every [`TICK`].
    pub fn handle_timeout(&self, now: Instant, buffer: &mut [u8], outbox: &mut impl Outbox) {
        let snapshot = self.snapshot.load();
        for interface in snapshot.interfaces() {
            interface.engine.handle_timeout(now);
            for peer in interface.peers.values() {
                self.send(&snapshot, peer.handle_timeout(now, buffer), buffer, outbox);
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
            self.send(&snapshot, peer.initiate(now, buffer), buffer, outbox);
        }
    }

    /// Tells every peer where we are: at once by a packet on a living session, and by a handshake, which is repeated
    /// until it is answered.
    pub fn announce(&self, now: Instant, buffer: &mut [u8], outbox: &mut impl Outbox) {
        let snapshot = self.snapshot.load();
        for peer in snapshot.interfaces().flat_map(|interface| interface.peers.values()) {
            for act in [Peer::keepalive, Peer::initiate] {
                self.send(&snapshot, act(peer, now, buffer), buffer, outbox);
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

    /// Sends what a peer wants sent by itself; there is no packet whose sender could be told.
    fn send(&self, snapshot: &Snapshot, transmit: Option<Transmit>, buffer: &[u8], outbox: &mut impl Outbox) {
        if let Some(transmit) = transmit {
            let _ = self.counted(|| snapshot.transmit(&transmit, buffer, outbox));
        }
    }

    fn counted(&self, act: impl FnOnce() -> Result<(), Discard>) -> Result<(), Discard> {
        act().inspect_err(|reason| self.discards.count(*reason))
    }

    /// Puts `interface` with these peers in force. `changing` is held.
    fn publish(
        &self,
        now: Instant,
        snapshot: &Snapshot,
        interface: &Interface,
        peers: &[PeerConfig],
        rng: &mut impl Rng,
    ) -> Applied {
        let mut taken: HashSet<u32> = snapshot.indices().collect();
        let fresh_index = || loop {
            let index = rng.next_u32() >> 8;
            if taken.insert(index) {
                break index;
            }
        };
        let (interface, applied) = interface.with_peers(now, peers, fresh_index);
        self.snapshot.store(Arc::new(snapshot.with(interface)));
        applied
    }
}

/// Keeps the inner packet of one datagram.
struct Inner<'a, O> {
    outbox: &'a mut O,
    delivered: Option<(InterfaceId, Vec<u8>)>,
}

impl<O: Outbox> Outbox for Inner<'_, O> {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.outbox.transmit(to, datagram);
    }

    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]) {
        self.delivered = Some((interface, packet.to_vec()));
    }
}
