//! Who is who at one moment: interfaces, peers by index, and the way of a received message through them. Immutable.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::Outbox;
use crate::discard::Discard;
use crate::engine::{Direction, Initiation, Opened, Refusal, Run};
use crate::filter::Memo;
use crate::index::SessionIndices;
use crate::interface::{Interface, InterfaceId, MAX_INTERFACES};
use crate::message::{Form, Message};
use crate::packet::{self, Addresses};
use crate::peer::{Peer, Received, Transmit};
use crate::probe;
use crate::train::{Delivery, Train};

#[derive(Clone)]
pub(super) struct Snapshot {
    interfaces: [Option<Arc<Interface>>; MAX_INTERFACES],
    /// By their numbers.
    peers: HashMap<u32, Arc<Peer>>,
    /// By the tags of their probes.
    tags: HashMap<probe::Tag, Arc<Peer>>,
    indices: Arc<SessionIndices>,
}

/// What became of a message at the door.
enum Admitted<'a> {
    Initiation(&'a Arc<Peer>, Initiation),
    Reply(&'a Arc<Peer>),
    /// This many bytes of the buffer are the answer.
    Cookie(usize),
}

impl Snapshot {
    pub(super) fn new(indices: Arc<SessionIndices>) -> Self {
        Self { interfaces: Default::default(), peers: HashMap::new(), tags: HashMap::new(), indices }
    }

    pub(super) fn interfaces(&self) -> impl Iterator<Item = &Arc<Interface>> {
        self.interfaces.iter().flatten()
    }

    pub(super) fn interface(&self, id: InterfaceId) -> Option<&Arc<Interface>> {
        self.interfaces.get(id.slot())?.as_ref()
    }

    pub(super) fn free_slot(&self) -> Option<InterfaceId> {
        self.interfaces.iter().position(Option::is_none).map(InterfaceId)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.peers.keys().copied()
    }

    /// This with `interface` in place of what had its id.
    pub(super) fn with(&self, interface: Interface) -> Self {
        let id = interface.id;
        let mut next = self.without(id);
        next.peers.extend(interface.peers.values().map(|peer| (peer.number, peer.clone())));
        next.tags.extend(interface.peers.values().map(|peer| (peer.probes.tag(), peer.clone())));
        next.interfaces[id.slot()] = Some(Arc::new(interface));
        next
    }

    pub(super) fn without(&self, id: InterfaceId) -> Self {
        let mut next = self.clone();
        next.interfaces[id.slot()] = None;
        next.peers.retain(|_, peer| peer.interface != id);
        next.tags.retain(|_, peer| peer.interface != id);
        next
    }

    /// Writes out what a peer had sealed. A datagram that would enter a tunnel of ours would be sealed again, and
    /// again.
    pub(super) fn transmit(&self, to: &Transmit, buffer: &[u8], outbox: &mut impl Outbox) -> Result<(), Discard> {
        if self.is_inside(to.to) {
            return Err(Discard::InsideTunnel);
        }
        outbox.transmit(to.to, &buffer[..to.len]);
        Ok(())
    }

    /// The same for what must arrive whole; false if the link does not take it so.
    pub(super) fn transmit_whole(
        &self,
        to: &Transmit,
        buffer: &[u8],
        outbox: &mut impl Outbox,
    ) -> Result<bool, Discard> {
        if self.is_inside(to.to) {
            return Err(Discard::InsideTunnel);
        }
        Ok(outbox.transmit_whole(to.to, &buffer[..to.len]))
    }

    /// An empty train, padded as far as the path to `to` carries.
    pub(super) fn train<'a>(
        &self,
        id: InterfaceId,
        to: Option<IpAddr>,
        space: &'a mut [u8],
    ) -> Result<Train<'a>, Discard> {
        let interface = self.interface(id).ok_or(Discard::UnknownInterface)?;
        let found = to.and_then(|to| interface.allowed_ips.lookup(to)).and_then(|peer| peer.mtu.found());
        Ok(Train::new(id, found.unwrap_or(interface.mtu), space))
    }

    /// The peer responsible for a train's destination, and the longest packet that goes to it.
    pub(super) fn receiver(&self, now: Instant, train: &Train<'_>) -> Result<(&Arc<Peer>, u16), Discard> {
        let interface = self.interface(train.interface()).ok_or(Discard::UnknownInterface)?;
        let mut peer: Option<(IpAddr, &Arc<Peer>)> = None;
        for packet in train.packets() {
            let destination = Addresses::of(packet)?.destination;
            if peer.is_some_and(|(known, _)| known == destination) {
                continue;
            }
            let found = interface.allowed_ips.lookup(destination).ok_or(Discard::NoRoute)?;
            if peer.is_some_and(|(_, first)| !Arc::ptr_eq(first, found)) {
                return Err(Discard::NoRoute);
            }
            peer = Some((destination, found));
        }
        let (_, peer) = peer.ok_or(Discard::NotIp)?;
        if let Some(filter) = &interface.filter {
            let mut noted = Memo::default();
            train.packets().for_each(|packet| filter.note_sent(now, packet, peer.number, &mut noted));
        }
        Ok((peer, interface.longest_to(peer)))
    }

    /// Seals a train for a peer and sends it, or what must come before.
    pub(super) fn seal(
        &self,
        now: Instant,
        peer: &Peer,
        train: &mut Train<'_>,
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        if let Some(to) = peer.seal_train(now, train)? {
            if self.is_inside(to) {
                return Err(Discard::InsideTunnel);
            }
            outbox.transmit_train(to, train.datagrams(), train.stride());
        }
        Ok(())
    }

    /// Opens a run of messages that carry packets where they lie; the result is whose they are, if they are anybody's.
    pub(super) fn open_run(
        &self,
        now: Instant,
        from: SocketAddr,
        form: Form,
        run: Run<'_>,
        opened: &mut dyn FnMut(Result<Delivery, Discard>),
    ) -> Result<Option<&Arc<Peer>>, Discard> {
        if self.is_inside(from) {
            return Err(Discard::InsideTunnel);
        }
        let peer = match form {
            Form::Sealed => self.peer(run.receiver_index)?,
            Form::Clear => self.peers.get(&run.receiver_index).ok_or(Discard::UnknownIndex)?,
        };
        let interface = self.interface(peer.interface).ok_or(Discard::UnknownInterface)?;
        let (mut checked, mut memo) = (None, Memo::default());
        let mut accept = |result: Result<Opened<'_>, Discard>| match result {
            // A keepalive.
            Ok(Opened { packet: [], .. }) => {}
            Ok(Opened { at, packet: padded }) => {
                opened(inner_len(interface, peer, padded, &mut checked).and_then(|len| {
                    if let Some(filter) = &interface.filter {
                        let is_theirs = |address| interface.leads_to(address, peer);
                        filter.admit(now, &padded[..len], peer.number, is_theirs, &mut memo)?;
                    }
                    Ok(Delivery { interface: interface.id, packet: at..at + len })
                }))
            }
            Err(reason) => opened(Err(reason)),
        };
        let is_theirs = match form {
            Form::Sealed => peer.open_run(now, from, run, accept),
            Form::Clear => {
                let mut owned = None;
                let is_owned = |padded: &[u8]| inner_len(interface, peer, padded, &mut owned).map(drop);
                peer.take_clear(now, from, &run, is_owned, &mut accept)
            }
        };
        Ok(is_theirs.then_some(peer))
    }

    /// Handles a handshake message or a cookie reply.
    pub(super) fn handle_handshake(
        &self,
        received: &Received<'_>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        if self.is_inside(received.from) {
            return Err(Discard::InsideTunnel);
        }
        let (peer, answer) = match self.admit(received, buffer)? {
            Admitted::Initiation(peer, initiation) => (peer, peer.respond(received, initiation, buffer)?),
            Admitted::Reply(peer) => (peer, peer.handle_reply(received, buffer)?),
            Admitted::Cookie(len) => {
                outbox.transmit(received.from, &buffer[..len]);
                return Err(Discard::UnderLoad);
            }
        };
        if let Some(answer) = answer {
            self.transmit(&answer, buffer, outbox)?;
        }
        self.follow_up(received.now, peer, buffer, outbox)
    }

    /// What a peer can send now that something was heard of it.
    pub(super) fn follow_up(
        &self,
        now: Instant,
        peer: &Peer,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        while let Some(transmit) = peer.seal_queued(now, buffer) {
            self.transmit(&transmit, buffer, outbox)?;
        }
        self.renew(now, peer, Direction::Received, buffer, outbox)
    }

    /// Sends the handshake initiation that is due after a train.
    pub(super) fn renew(
        &self,
        now: Instant,
        peer: &Peer,
        direction: Direction,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        match peer.renew(now, direction, buffer) {
            Some(transmit) => self.transmit(&transmit, buffer, outbox),
            None => Ok(()),
        }
    }

    pub(super) fn by_tag(&self, tag: &probe::Tag) -> Result<&Arc<Peer>, Discard> {
        self.tags.get(tag).ok_or(Discard::UnknownTag)
    }

    pub(super) fn is_inside(&self, endpoint: SocketAddr) -> bool {
        self.interfaces().any(|interface| interface.holds(endpoint.ip()))
    }

    /// Finds whose message it is; handshakes also have to pass the interface's limit.
    fn admit(&self, received: &Received<'_>, reply: &mut [u8]) -> Result<Admitted<'_>, Discard> {
        match received.kind {
            Message::HandshakeInitiation => self.admit_initiation(received, reply),
            Message::HandshakeResponse { receiver_index } => {
                let peer = self.peer(receiver_index)?;
                let interface = self.interface(peer.interface).ok_or(Discard::UnknownInterface)?;
                match interface.engine.admit(received.now, received.from, received.bytes, reply) {
                    Ok(()) => Ok(Admitted::Reply(peer)),
                    Err(refusal) => Admitted::refused(refusal),
                }
            }
            Message::CookieReply { receiver_index } => self.peer(receiver_index).map(Admitted::Reply),
            Message::Data { .. } | Message::Clear { .. } | Message::Probe { .. } => Err(Discard::Malformed),
        }
    }

    /// An initiation names no index: the interface is the one whose key its mac1 was made with.
    fn admit_initiation(&self, received: &Received<'_>, reply: &mut [u8]) -> Result<Admitted<'_>, Discard> {
        for interface in self.interfaces() {
            match interface.engine.admit(received.now, received.from, received.bytes, reply) {
                Ok(()) => {
                    let initiation = interface.engine.read_initiation(received.bytes)?;
                    let peer = interface.peers.get(&initiation.from).ok_or(Discard::UnknownPeer)?;
                    return Ok(Admitted::Initiation(peer, initiation));
                }
                Err(Refusal::WrongMac) => {}
                Err(refusal) => return Admitted::refused(refusal),
            }
        }
        Err(Discard::WrongMac)
    }

    fn peer(&self, receiver_index: u32) -> Result<&Arc<Peer>, Discard> {
        self.peers.get(&self.indices.peer(receiver_index)).ok_or(Discard::UnknownIndex)
    }
}

/// The length of a packet that `peer` may send us. The source must route back to this very peer; otherwise a member
/// could speak for another. `checked` is the last source that did.
fn inner_len(
    interface: &Interface,
    peer: &Arc<Peer>,
    padded: &[u8],
    checked: &mut Option<IpAddr>,
) -> Result<usize, Discard> {
    let source = Addresses::of(padded)?.source;
    if *checked != Some(source) {
        if !interface.leads_to(source, peer) {
            return Err(Discard::ForeignSource);
        }
        *checked = Some(source);
    }
    packet::length(padded)
}

impl Admitted<'_> {
    fn refused(refusal: Refusal) -> Result<Self, Discard> {
        match refusal {
            Refusal::WrongMac => Err(Discard::WrongMac),
            Refusal::Cookie(len) => Ok(Self::Cookie(len)),
            Refusal::Discard(reason) => Err(reason),
        }
    }
}
