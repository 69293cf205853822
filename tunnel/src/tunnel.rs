//! All interfaces of a host over one UDP socket: finds the interface and peer of every packet and has it sealed or
//! opened.
//!
//! Readers see an immutable snapshot; a change of configuration publishes a new one. Nothing is written out while a
//! peer's lock is held.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use rand::CryptoRng;

use crate::config::{ConfigError, InterfaceConfig, PeerConfig};
use crate::discard::{Discard, DiscardCounts};
use crate::engine::boringtun::BoringtunEngine;
use crate::engine::own::OwnEngine;
use crate::engine::{Direction, Engine, Implementation, Run};
use crate::filter::Access;
use crate::host::{Epoch, Host};
use crate::index::PeerNumbers;
use crate::interface::{Applied, Interface, InterfaceId};
use crate::key::PublicKey;
use crate::message::{Form, MAX_DATAGRAM, Message};
use crate::packet::Addresses;
use crate::peer::{Activity, Fresh, Peer, PeerStats, Received, Sighting, Transmit};
use crate::probe::{MIN_LEN, ProbeRequest, Proof, REPLIES_PER_SECOND, Urgency};
use crate::sources::PerSecond;
use crate::train::{Delivery, ReceivedTrain, Train};

mod path_mtu;
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

    /// A datagram that must arrive whole or not at all. False: the link it would leave by does not take it so.
    fn transmit_whole(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        self.transmit(to, datagram);
        true
    }

    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]);

    /// What a probe of a peer has shown; for whoever sends them.
    fn sighted(&mut self, _interface: InterfaceId, _peer: PublicKey, _sighting: Sighting) {}
}

/// The WireGuard state of a host. Shared by the data threads; every `buffer` is the calling thread's own, of
/// [`BUFFER_SIZE`], and holds nothing between calls.
pub struct Tunnel {
    implementation: Implementation,
    host: Arc<Host>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while a new snapshot is made.
    changing: Mutex<()>,
    discards: DiscardCounts,
    probe_replies: PerSecond,
    long_senders: PerSecond,
}

impl Tunnel {
    /// A tunnel without interfaces. What must be unpredictable is drawn from `rng`.
    pub fn new(implementation: Implementation, epoch: Epoch, rng: impl CryptoRng + Send + 'static) -> Self {
        let host = Arc::new(Host::new(epoch, rng));
        Self {
            implementation,
            snapshot: ArcSwap::from_pointee(Snapshot::new(host.indices.clone())),
            host,
            changing: Mutex::default(),
            discards: DiscardCounts::default(),
            probe_replies: PerSecond::new(REPLIES_PER_SECOND),
            long_senders: PerSecond::new(path_mtu::ANSWERS_PER_SECOND),
        }
    }

    /// The library that seals full packets on this CPU: `ring`, or what is faster here.
    pub fn aead_library(&self) -> &'static str {
        self.implementation.aead_library()
    }

    pub fn add_interface(&self, now: Instant, config: &InterfaceConfig) -> Result<(InterfaceId, Applied), ConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot.load_full();
        let engine: Arc<dyn Engine> = match self.implementation {
            Implementation::Own => Arc::new(OwnEngine::new(&config.private_key, self.host.clone())),
            Implementation::Boringtun => Arc::new(BoringtunEngine::new(&config.private_key)),
        };
        if snapshot.interfaces().any(|other| other.engine.public_key() == engine.public_key()) {
            return Err(ConfigError::KeyInUse);
        }
        let id = snapshot.free_slot().ok_or(ConfigError::TooManyInterfaces)?;
        let interface = Interface::empty(id, engine, config.network, config.mtu);
        Ok((id, self.publish(now, &snapshot, &interface, &config.peers)))
    }

    /// Makes an interface what is asked, under the key it has. A peer that stays as it was keeps its session.
    pub fn update_interface(
        &self,
        now: Instant,
        id: InterfaceId,
        network: Option<IpNet>,
        mtu: u16,
        peers: &[PeerConfig],
    ) -> Result<Applied, ConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot.load_full();
        let interface = snapshot.interface(id).ok_or(ConfigError::UnknownInterface)?.in_network(network, mtu);
        Ok(self.publish(now, &snapshot, &interface, peers))
    }

    /// Puts rules in force, at once and on live flows too; `None` takes the filter away.
    pub fn set_access(&self, now: Instant, id: InterfaceId, access: Option<&Access>) -> Result<(), ConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot.load_full();
        let interface = snapshot.interface(id).ok_or(ConfigError::UnknownInterface)?.with_access(now, access);
        self.snapshot.store(Arc::new(snapshot.with(interface)));
        Ok(())
    }

    /// Says which prefixes the host routes to an interface beside its network: no peer is reached at an address inside
    /// either.
    pub fn set_subnets(&self, id: InterfaceId, subnets: &[IpNet]) -> Result<(), ConfigError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.snapshot.load_full();
        let interface = snapshot.interface(id).ok_or(ConfigError::UnknownInterface)?.with_subnets(subnets);
        self.snapshot.store(Arc::new(snapshot.with(interface)));
        Ok(())
    }

    /// Moves peers to these endpoints, wherever they were heard of last. Those that are not there are left out.
    pub fn set_endpoints(&self, interface: InterfaceId, endpoints: &[(PublicKey, SocketAddr)]) {
        let snapshot = self.snapshot.load();
        let Some(interface) = snapshot.interface(interface) else { return };
        for (key, endpoint) in endpoints {
            if let Some(peer) = interface.peers.get(key) {
                peer.set_endpoint(*endpoint);
            }
        }
    }

    /// Sends what is sent to a pinned peer there from now on, or nowhere. Without a session a handshake begins.
    pub fn steer(
        &self,
        now: Instant,
        interface: InterfaceId,
        peer: &PublicKey,
        to: Option<SocketAddr>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) {
        let snapshot = self.snapshot.load();
        let Some(peer) = snapshot.interface(interface).and_then(|interface| interface.peers.get(peer)) else { return };
        peer.steer(to);
        if !peer.has_session(now) {
            self.send(&snapshot, peer.initiate(now, buffer), buffer, outbox);
        }
    }

    /// Tells what passed between us and each peer since this was asked last; idle ones are left out.
    pub fn activities(&self, now: Instant, interface: InterfaceId, mut each: impl FnMut(PublicKey, Activity)) {
        let snapshot = self.snapshot.load();
        for peer in snapshot.interface(interface).into_iter().flat_map(|interface| interface.peers.values()) {
            if let Some(activity) = peer.activity(now) {
                each(peer.public_key, activity);
            }
        }
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
            let snapshot = self.snapshot.load();
            let to = Addresses::of(packet)?.destination;
            let mut train = snapshot.train(interface, Some(to), buffer)?;
            if !train.push(packet) {
                return Err(Discard::Oversized);
            }
            let peer = self.send_train(now, &snapshot, &mut train, outbox)?;
            // The datagram is sent, so its place is free.
            snapshot.renew(now, peer, Direction::Sent, buffer, outbox)
        })
    }

    /// An empty train for packets read from `interface`, in a `space` of [`BUFFER_SIZE`]. Where they go `to` says how far
    /// they may be padded.
    pub fn train<'a>(
        &self,
        interface: InterfaceId,
        to: Option<IpAddr>,
        space: &'a mut [u8],
    ) -> Result<Train<'a>, Discard> {
        self.snapshot.load().train(interface, to, space)
    }

    /// Seals the packets of a train. All must be for one peer; otherwise none is sent. The senders of those that are too
    /// long for their path and must not be cut are answered; the others go.
    pub fn seal_train(
        &self,
        now: Instant,
        mut train: Train<'_>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        self.counted(|| {
            let snapshot = self.snapshot.load();
            let peer = self.send_train(now, &snapshot, &mut train, outbox)?;
            snapshot.renew(now, peer, Direction::Sent, buffer, outbox)
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
            let received = Received { now, from, kind: Message::parse(datagram)?, bytes: datagram };
            let Some((form, receiver_index)) = received.kind.packets() else {
                return self.handle_control(&snapshot, &received, buffer, outbox);
            };
            let place = buffer.get_mut(..datagram.len()).ok_or(Discard::Oversized)?;
            place.copy_from_slice(datagram);
            let run = Run { receiver_index, datagrams: place, stride: datagram.len() };
            let mut result = Ok(None);
            let peer = snapshot.open_run(now, from, form, run, &mut |opened| result = opened.map(Some))?;
            if let Ok(Some(Delivery { interface, packet })) = &result {
                outbox.deliver(*interface, &buffer[packet.clone()]);
            }
            if let Some(peer) = peer {
                snapshot.follow_up(now, peer, buffer, outbox)?;
            }
            result.map(drop)
        })
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
        deliveries.clear();
        let snapshot = self.snapshot.load();
        let ReceivedTrain { from, datagrams, segment_size } = train;
        let stride = segment_size.max(1);
        let mut start = 0;
        while start < datagrams.len() {
            let rest = &mut datagrams[start..];
            let first = &rest[..stride.min(rest.len())];
            let kind = Message::parse(first);
            let (end, handled) = match kind.map(|kind| (kind, kind.packets())) {
                Ok((_, Some((form, receiver_index)))) => {
                    let len = run_len(rest, stride, (form, receiver_index));
                    let run = Run { receiver_index, datagrams: &mut rest[..len], stride };
                    let opened = snapshot.open_run(now, from, form, run, &mut |opened| match opened {
                        Ok(delivery) => deliveries.push(delivery.behind(start)),
                        Err(reason) => self.discards.count(reason),
                    });
                    let handled = opened.and_then(|peer| match peer {
                        Some(peer) => snapshot.follow_up(now, peer, buffer, outbox),
                        None => Ok(()),
                    });
                    (start + len, handled)
                }
                Ok((kind, None)) => {
                    let received = Received { now, from, kind, bytes: first };
                    (start + first.len(), self.handle_control(&snapshot, &received, buffer, outbox))
                }
                Err(reason) => (start + first.len(), Err(reason)),
            };
            let _ = self.counted(|| handled);
            start = end;
        }
    }

    /// Retransmissions, renewals, keepalives of every peer. To be called every [`TICK`].
    pub fn handle_timeout(&self, now: Instant, buffer: &mut [u8], outbox: &mut impl Outbox) {
        let snapshot = self.snapshot.load();
        for interface in snapshot.interfaces() {
            interface.engine.handle_timeout(now);
            for peer in interface.peers.values() {
                self.send(&snapshot, peer.handle_timeout(now, buffer), buffer, outbox);
                self.search_mtu(now, &snapshot, peer, interface.mtu, buffer, outbox);
            }
        }
        self.probe_due(now, buffer, outbox);
    }

    /// Asks the peers that clear frames depend on, and tells those whose frames are no longer accepted. Part of
    /// [`Tunnel::handle_timeout`]; besides, to be called after every change of configuration, so that nobody goes on
    /// sending what is refused.
    pub fn probe_due(&self, now: Instant, buffer: &mut [u8], outbox: &mut impl Outbox) {
        let snapshot = self.snapshot.load();
        for peer in snapshot.interfaces().flat_map(|interface| interface.peers.values()) {
            if let Some(to) = peer.ask_due(now) {
                let request = Transmit { to, len: MIN_LEN };
                self.ask(now, &snapshot, peer, (request, Urgency::Routine), buffer, outbox);
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

    /// Those that there are.
    pub fn interfaces(&self) -> Vec<InterfaceId> {
        self.snapshot.load().interfaces().map(|interface| interface.id).collect()
    }

    /// In the order of public keys; empty if there is no such interface.
    pub fn peer_stats(&self, now: Instant, interface: InterfaceId) -> Vec<PeerStats> {
        let snapshot = self.snapshot.load();
        let interface = snapshot.interface(interface).into_iter();
        let peers = interface.flat_map(|interface| interface.peers.values().map(|peer| (peer, interface.mtu)));
        peers.map(|(peer, mtu)| peer.stats(now, mtu)).collect()
    }

    pub fn discards(&self) -> &DiscardCounts {
        &self.discards
    }

    /// Asks a peer at each of these endpoints whether it is there. Answers make [`Tunnel::proofs`].
    pub fn probe(
        &self,
        now: Instant,
        interface: InterfaceId,
        peer: &PublicKey,
        request: ProbeRequest<'_>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) {
        let snapshot = self.snapshot.load();
        let Some(peer) = snapshot.interface(interface).and_then(|interface| interface.peers.get(peer)) else { return };
        let len = request.size.clamp(MIN_LEN, MAX_DATAGRAM);
        for to in request.endpoints {
            self.ask(now, &snapshot, peer, (Transmit { to: *to, len }, request.urgency), buffer, outbox);
        }
    }

    /// Which endpoints of a peer have answered probes, in the order of addresses.
    pub fn proofs(&self, now: Instant, interface: InterfaceId, peer: &PublicKey) -> Vec<Proof> {
        let snapshot = self.snapshot.load();
        let peer = snapshot.interface(interface).and_then(|interface| interface.peers.get(peer));
        peer.map(|peer| peer.proofs(now)).unwrap_or_default()
    }

    /// Sends one request.
    fn ask(
        &self,
        now: Instant,
        snapshot: &Snapshot,
        peer: &Peer,
        (request, urgency): (Transmit, Urgency),
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) {
        let _ = self.counted(|| {
            let datagram = buffer.get_mut(..request.len).ok_or(Discard::Oversized)?;
            match peer.ask(now, request.to, urgency, &self.host, datagram)? {
                true => {
                    peer.asked(request.to, request.len);
                    snapshot.transmit(&request, buffer, outbox)
                }
                false => Ok(()),
            }
        });
    }

    /// Handles what carries no packets.
    fn handle_control(
        &self,
        snapshot: &Snapshot,
        received: &Received<'_>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        let Message::Probe { tag } = received.kind else {
            return snapshot.handle_handshake(received, buffer, outbox);
        };
        let Received { now, from, bytes, .. } = *received;
        if snapshot.is_inside(from) {
            return Err(Discard::InsideTunnel);
        }
        let peer = snapshot.by_tag(&tag)?;
        let probe = buffer.get_mut(..bytes.len()).ok_or(Discard::Oversized)?;
        probe.copy_from_slice(bytes);
        let (sighting, reply) = peer.handle_probe(now, from, &self.host, &self.probe_replies, probe)?;
        outbox.sighted(peer.interface, peer.public_key, sighting);
        match reply {
            Some(len) => snapshot.transmit(&Transmit { to: from, len }, buffer, outbox),
            None => Ok(()),
        }
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
    fn publish(&self, now: Instant, snapshot: &Snapshot, interface: &Interface, peers: &[PeerConfig]) -> Applied {
        let mut numbers = PeerNumbers::of(snapshot.numbers());
        let fresh = || Fresh {
            number: numbers.fresh(|| u32::from_le_bytes(self.host.random())),
            epoch: self.host.random(),
            clock: self.host.epoch,
        };
        let (interface, applied) = interface.with_peers(now, peers, fresh);
        self.snapshot.store(Arc::new(snapshot.with(interface)));
        applied
    }
}

/// How many bytes at the head of `datagrams` are messages of this form for this receiver.
fn run_len(datagrams: &[u8], stride: usize, of: (Form, u32)) -> usize {
    let is_of = |datagram: &&[u8]| Message::parse(datagram).is_ok_and(|kind| kind.packets() == Some(of));
    datagrams.chunks(stride).take_while(is_of).map(<[u8]>::len).sum()
}
