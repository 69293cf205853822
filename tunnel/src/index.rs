//! Session indices: the 32-bit numbers by which others address a session of ours, and whose they are; and lanes, by which
//! data of different peers can be kept apart before it is read.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rand::Rng;

use crate::clear::frame;

/// How many lanes there are: the data of a peer is always in one, and peers are spread over them evenly.
pub const LANES: usize = 8;
/// How many queues data waits in: each lane has a second one, for what may overtake.
pub const QUEUES: usize = 2 * LANES;
/// A lane as bits of a peer's number, and of an index eight bits further up: there it is with either engine.
const LANE_BITS: u32 = LANES as u32 - 1;
/// Beside these: the sender lets the message overtake. It is never part of a number or an index, only of what is addressed
/// to one.
const OVERTAKES: u32 = LANES as u32;

/// The queue of a data message or a clear frame: its lane, or as many more as there are lanes if it may overtake; none of a
/// message of another kind. So few bytes say it that even a filter in the kernel can tell: the type and one byte behind
/// it, see [`LANE_AT`].
pub fn queue(datagram: &[u8]) -> Option<usize> {
    let [message_type, 0, 0, 0, ..] = datagram else { return None };
    let at = LANE_AT.into_iter().find_map(|(known, at)| (known == *message_type).then_some(at))?;
    datagram.get(at).map(|byte| usize::from(*byte) % QUEUES)
}

/// How a message is addressed: to an index, or a number in a clear frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    Index(u32),
    Number(u32),
}

impl Receiver {
    /// As a message says it that may overtake.
    pub(crate) fn overtaking(self) -> u32 {
        match self {
            Self::Index(index) => index | OVERTAKES << 8,
            Self::Number(number) => number | OVERTAKES,
        }
    }

    /// As any other message says it. Who is no agent of ours gives every bit of an index a meaning of its own.
    pub(crate) fn plain(self) -> u32 {
        match self {
            Self::Index(receiver) | Self::Number(receiver) => receiver,
        }
    }

    /// As we gave it out, whatever a message says.
    pub(crate) fn given(self) -> u32 {
        match self {
            Self::Index(index) => index & !(OVERTAKES << 8),
            Self::Number(number) => number & !OVERTAKES,
        }
    }
}

/// The message types that have lanes, and where their lane is: in the second byte of an index, or the first of a
/// number.
pub const LANE_AT: [(u8, usize); 2] = [(4, 5), (frame::MESSAGE_TYPE, 4)];

/// Every index in use on the host. Random but for the lane, so that an observer cannot tell which sessions belong
/// together.
#[derive(Default)]
pub(crate) struct SessionIndices(RwLock<HashMap<u32, u32>>);

/// An index while somebody uses it.
pub(crate) struct SessionIndex {
    value: u32,
    indices: Arc<SessionIndices>,
}

impl SessionIndices {
    /// A fresh index of the peer with this number.
    pub(crate) fn assign(self: &Arc<Self>, peer: u32, rng: &mut (impl Rng + ?Sized)) -> SessionIndex {
        let mut owners = self.write();
        loop {
            let value = rng.next_u32() & !((LANE_BITS | OVERTAKES) << 8) | (peer & LANE_BITS) << 8;
            if let std::collections::hash_map::Entry::Vacant(free) = owners.entry(value) {
                free.insert(peer);
                return SessionIndex { value, indices: self.clone() };
            }
        }
    }

    /// The number of the peer whose session this is. What was never assigned belongs to an engine that numbers its
    /// sessions itself, in a block of 256 for each peer.
    pub(crate) fn peer(&self, index: u32) -> u32 {
        self.read().get(&index).copied().unwrap_or(index >> 8)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<u32, u32>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u32, u32>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionIndex {
    pub(crate) fn value(&self) -> u32 {
        self.value
    }
}

impl Drop for SessionIndex {
    fn drop(&mut self) {
        self.indices.write().remove(&self.value);
    }
}

/// The numbers of a host's peers, which have 24 bits.
pub(crate) struct PeerNumbers {
    taken: HashSet<u32>,
    in_lane: [usize; LANES],
}

impl PeerNumbers {
    pub(crate) fn of(taken: impl IntoIterator<Item = u32>) -> Self {
        let mut numbers = Self { taken: HashSet::new(), in_lane: [0; LANES] };
        for number in taken {
            numbers.insert(number);
        }
        numbers
    }

    /// One that is not taken, in the emptiest lane.
    pub(crate) fn fresh(&mut self, mut random: impl FnMut() -> u32) -> u32 {
        let emptiest = (0..).zip(self.in_lane).min_by_key(|(_, peers)| *peers).map_or(0, |(lane, _)| lane);
        loop {
            let number = random() >> 8 & !(LANE_BITS | OVERTAKES) | emptiest;
            if self.insert(number) {
                return number;
            }
        }
    }

    fn insert(&mut self, number: u32) -> bool {
        let is_new = self.taken.insert(number);
        self.in_lane[(number & LANE_BITS) as usize] += usize::from(is_new);
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_spread_over_lanes_and_all_sessions_of_one_are_in_its_lane() {
        let (indices, mut rng) = (Arc::new(SessionIndices::default()), rand::rng());
        let mut numbers = PeerNumbers::of([0x10, 0x20, 0x11]);
        let fresh: Vec<_> = (0..4 * LANES - 3).map(|_| numbers.fresh(|| rng.next_u32())).collect();
        assert_eq!(numbers.in_lane, [4; LANES]);
        for number in fresh {
            assert_eq!(number >> 24, 0);
            for index in [indices.assign(number, &mut rng).value(), number << 8 | 0x5a] {
                let mut datagram = [4, 0, 0, 0, 0, 0, 0, 0, 9, 9];
                datagram[4..8].copy_from_slice(&index.to_le_bytes());
                assert_eq!(queue(&datagram), Some(number as usize % LANES));
                datagram[4..8].copy_from_slice(&Receiver::Index(index).overtaking().to_le_bytes());
                assert_eq!(queue(&datagram), Some(LANES + number as usize % LANES));
                assert_eq!(Receiver::Index(Receiver::Index(index).overtaking()).given(), index);
            }
        }
        assert_eq!(queue(&[0xc2, 0, 0, 0, 0x13, 0xff]), Some(3), "of a clear frame, by the peer's number");
        assert_eq!(queue(&[0xc2, 0, 0, 0, 0x1b, 0xff]), Some(LANES + 3));
        assert_eq!(Receiver::Number(Receiver::Number(0x13).overtaking()).given(), 0x13);
        assert_eq!((queue(&[1, 0, 0, 0, 0, 0]), queue(&[4, 0, 0, 0, 0]), queue(&[])), (None, None, None));
    }

    #[test]
    fn an_index_is_its_peers_until_it_is_dropped() {
        let (indices, mut rng) = (Arc::new(SessionIndices::default()), rand::rng());
        let held: Vec<_> = (0..1000).map(|peer| indices.assign(peer, &mut rng)).collect();
        assert!(held.iter().zip(0..).all(|(index, peer)| indices.peer(index.value()) == peer));
        let first = held[0].value();
        drop(held);
        assert_eq!(indices.peer(first), first >> 8);
        assert!(indices.read().is_empty());
    }
}
