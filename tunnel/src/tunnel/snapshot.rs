//! Who is who at one moment: interfaces, peers by index, and the way of a received message through them. Immutable.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Outbox;
use crate::discard::Discard;
use crate::engine::{Refusal, Step};
use crate::interface::{Interface, InterfaceId, MAX_INTERFACES};
use crate::message::Message;
use crate::packet::Addresses;
use crate::peer::{Peer, Received, Transmit};

#[derive(Clone, Default)]
pub(super) struct Snapshot {
    interfaces: [Option<Arc<Interface>>; MAX_INTERFACES],
    /// By the upper 24 bits of a session's index; the lower 8 tell a peer's sessions apart.
    peers: HashMap<u32, Arc<Peer>>,
}

/// What became of a message at the door.
enum Admitted<'a> {
    Peer(&'a Arc<Peer>),
    /// This many bytes of the buffer are the answer.
    Cookie(usize),
}

impl Snapshot {
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &Arc<Interface>> {
        self.interfaces.iter().flatten()
    }

    pub(super) fn interface(&self, id: InterfaceId) -> Option<&Arc<Interface>> {
        self.interfaces.get(id.slot())?.as_ref()
    }

    pub(super) fn free_slot(&self) -> Option<InterfaceId> {
        self.interfaces.iter().position(Option::is_none).map(InterfaceId)
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        self.peers.keys().copied()
    }

    /// This with `interface` in place of what had its id.
    pub(super) fn with(&self, interface: Interface) -> Self {
        let id = interface.id;
        let mut next = self.without(id);
        next.peers.extend(interface.peers.values().map(|peer| (peer.index, peer.clone())));
        next.interfaces[id.slot()] = Some(Arc::new(interface));
        next
    }

    pub(super) fn without(&self, id: InterfaceId) -> Self {
        let mut next = self.clone();
        next.interfaces[id.slot()] = None;
        next.peers.retain(|_, peer| peer.interface != id);
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

    pub(super) fn open(
        &self,
        received: &Received<'_>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        if self.is_inside(received.from) {
            return Err(Discard::InsideTunnel);
        }
        match self.admit(received, buffer)? {
            Admitted::Peer(peer) => self.open_from(peer, received, buffer, outbox),
            Admitted::Cookie(len) => {
                outbox.transmit(received.from, &buffer[..len]);
                Err(Discard::UnderLoad)
            }
        }
    }

    fn is_inside(&self, endpoint: SocketAddr) -> bool {
        self.interfaces().any(|interface| interface.network.contains(&endpoint.ip()))
    }

    /// Finds whose message it is; handshakes also have to pass the interface's limit.
    fn admit(&self, received: &Received<'_>, reply: &mut [u8]) -> Result<Admitted<'_>, Discard> {
        match received.kind {
            Message::HandshakeInitiation => self.admit_initiation(received, reply),
            Message::HandshakeResponse { receiver_index } => {
                let peer = self.peer(receiver_index)?;
                let interface = self.interface(peer.interface).ok_or(Discard::UnknownInterface)?;
                match interface.engine.admit(received.now, received.from.ip(), received.bytes, reply) {
                    Ok(()) => Ok(Admitted::Peer(peer)),
                    Err(refusal) => Admitted::refused(refusal),
                }
            }
            Message::CookieReply { receiver_index } | Message::Data { receiver_index, .. } => {
                self.peer(receiver_index).map(Admitted::Peer)
            }
        }
    }

    /// An initiation names no index: the interface is the one whose key its mac1 was made with.
    fn admit_initiation(&self, received: &Received<'_>, reply: &mut [u8]) -> Result<Admitted<'_>, Discard> {
        for interface in self.interfaces() {
            match interface.engine.admit(received.now, received.from.ip(), received.bytes, reply) {
                Ok(()) => {
                    let initiator = interface.engine.initiator(received.bytes)?;
                    return interface.peers.get(&initiator).map(Admitted::Peer).ok_or(Discard::UnknownPeer);
                }
                Err(Refusal::WrongMac) => {}
                Err(refusal) => return Admitted::refused(refusal),
            }
        }
        Err(Discard::WrongMac)
    }

    fn peer(&self, receiver_index: u32) -> Result<&Arc<Peer>, Discard> {
        self.peers.get(&(receiver_index >> 8)).ok_or(Discard::UnknownIndex)
    }

    fn open_from(
        &self,
        peer: &Arc<Peer>,
        received: &Received<'_>,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        let opened = peer.open(received, buffer)?;
        let result = match opened.step {
            Step::Nothing => Ok(()),
            Step::Datagram(len) => self.transmit(&Transmit { to: received.from, len }, buffer, outbox),
            Step::Packet(len) => self.deliver(peer, &buffer[..len], outbox),
        };
        if opened.queued {
            while let Some(transmit) = peer.seal_queued(received.now, buffer) {
                self.transmit(&transmit, buffer, outbox)?;
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

impl Admitted<'_> {
    fn refused(refusal: Refusal) -> Result<Self, Discard> {
        match refusal {
            Refusal::WrongMac => Err(Discard::WrongMac),
            Refusal::Cookie(len) => Ok(Self::Cookie(len)),
            Refusal::Discard(reason) => Err(reason),
        }
    }
}
