//! What the paths to peers carry: the probes that find it out, and packets that are longer.

use std::sync::Arc;
use std::time::Instant;

use super::snapshot::Snapshot;
use super::{Outbox, Tunnel};
use crate::discard::Discard;
use crate::interface::InterfaceId;
use crate::key::PublicKey;
use crate::mtu::Probing;
use crate::mtu::too_long::{self, TooLong};
use crate::packet::Addresses;
use crate::peer::{Peer, Transmit};
use crate::probe::Urgency;
use crate::train::Train;

/// How often one inner sender is told what its path carries: one answer is enough, if it arrives.
pub(super) const ANSWERS_PER_SECOND: u32 = 10;

impl Tunnel {
    /// What the paths to peers carry, where that is not the interface's MTU; in the order of public keys.
    pub fn path_mtus(&self, interface: InterfaceId) -> Vec<(PublicKey, u16)> {
        let snapshot = self.snapshot.load();
        let peers = snapshot.interface(interface).into_iter().flat_map(|interface| interface.peers.values());
        peers.filter_map(|peer| Some((peer.public_key, peer.mtu.found()?))).collect()
    }

    /// Sends a train to the peer that it is for, and tells who that is.
    pub(super) fn send_train<'s>(
        &self,
        now: Instant,
        snapshot: &'s Snapshot,
        train: &mut Train<'_>,
        outbox: &mut impl Outbox,
    ) -> Result<&'s Arc<Peer>, Discard> {
        let (peer, mtu) = snapshot.receiver(now, train)?;
        if train.longest() > mtu.into() {
            self.refuse_long(now, mtu, train, outbox)?;
        }
        snapshot.seal(now, peer, train, outbox)?;
        Ok(peer)
    }

    /// Takes the packets out of a train that are longer than `mtu` and must not be cut, and tells their senders. An error
    /// if nothing is left.
    fn refuse_long(
        &self,
        now: Instant,
        mtu: u16,
        train: &mut Train<'_>,
        outbox: &mut impl Outbox,
    ) -> Result<(), Discard> {
        let (interface, mut refused, mut space) = (train.interface(), 0, [0; too_long::MAX_ANSWER]);
        train.retain(|packet| {
            if packet.len() <= mtu.into() || TooLong::of(packet) == TooLong::Goes {
                return true;
            }
            refused += 1;
            let is_welcome = Addresses::of(packet).is_ok_and(|it| self.long_senders.admits(now, it.source));
            if let Some(len) = is_welcome.then(|| too_long::answer(packet, mtu, &mut space)).flatten() {
                outbox.deliver(interface, &space[..len]);
            }
            false
        });
        // The error stands for one of them.
        let uncounted = usize::from(train.is_empty());
        (uncounted..refused).for_each(|_| self.discards.count(Discard::TooLong));
        if train.is_empty() { Err(Discard::TooLong) } else { Ok(()) }
    }

    /// Sends the probes that are due to find out what the path to a peer carries; `default` is the interface's MTU.
    pub(super) fn search_mtu(
        &self,
        now: Instant,
        snapshot: &Snapshot,
        peer: &Peer,
        default: u16,
        buffer: &mut [u8],
        outbox: &mut impl Outbox,
    ) {
        let Some(Probing { to, lens }) = peer.mtu_due(now, default) else { return };
        for len in lens.into_iter().filter(|len| *len > 0) {
            let _ = self.counted(|| {
                let datagram = buffer.get_mut(..len).ok_or(Discard::Oversized)?;
                if !peer.ask(now, to, Urgency::Routine, &self.host, datagram)? {
                    return Ok(());
                }
                match snapshot.transmit_whole(&Transmit { to, len }, buffer, outbox)? {
                    true => peer.asked(to, len),
                    false => peer.mtu.refused(now, to, len),
                }
                Ok(())
            });
        }
    }
}
