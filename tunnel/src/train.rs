//! Trains: packets that share a way, handled in one go and sent in one system call.
//!
//! Out: a [`Train`] is the buffer of one `sendmsg` with `UDP_SEGMENT`; packets are written where their datagrams will
//! be, and sealed there. In: what `UDP_GRO` put together is opened where it lies, and a [`Delivery`] says which bytes
//! of it are an inner packet.

use std::net::SocketAddr;
use std::ops::Range;

use crate::index::Receiver;
use crate::interface::InterfaceId;
use crate::message::{DATA_HEADER, DATA_OVERHEAD, MAX_DATAGRAM};

/// How many datagrams every kernel with `UDP_SEGMENT` takes at once (`UDP_MAX_SEGMENTS` before 6.9).
pub const MAX_TRAIN: usize = 64;
/// Inner packets are padded to a multiple of this (whitepaper §5.4.6).
const PADDING: usize = 16;

/// Inner packets for one peer, all of one length but the last, which may be shorter. Made by [`crate::Tunnel::train`]
/// in a buffer of the caller.
pub struct Train<'a> {
    buffer: &'a mut [u8],
    interface: InterfaceId,
    mtu: usize,
    /// Of every packet but the last.
    packet_len: usize,
    last_len: usize,
    count: usize,
    may_overtake: bool,
}

impl<'a> Train<'a> {
    pub(crate) fn new(interface: InterfaceId, mtu: u16, buffer: &'a mut [u8]) -> Self {
        Self { buffer, interface, mtu: mtu.into(), packet_len: 0, last_len: 0, count: 0, may_overtake: false }
    }

    /// A train of one packet that needs no padding any more.
    pub(crate) fn padded_already(buffer: &'a mut [u8]) -> Self {
        Self::new(InterfaceId(0), 0, buffer)
    }

    /// Room for one more packet, to be filled whole. `None`: it is longer than the first, comes after a shorter one,
    /// or there is no room; what is here must be sealed first.
    pub fn slot(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.count == 0 {
            self.packet_len = len;
        }
        let start = self.count * self.stride();
        let end = start + DATA_OVERHEAD + self.padded(len);
        let fits = len <= self.packet_len && self.last_len == self.packet_len || self.count == 0;
        if !fits || self.count == MAX_TRAIN || end > self.buffer.len().min(MAX_DATAGRAM) {
            return None;
        }
        self.count += 1;
        self.last_len = len;
        let (packet, padding) = self.buffer[start + DATA_HEADER..end - (DATA_OVERHEAD - DATA_HEADER)].split_at_mut(len);
        padding.fill(0);
        Some(packet)
    }

    /// Copies a packet into the next slot; false where [`Train::slot`] gives none.
    pub fn push(&mut self, packet: &[u8]) -> bool {
        self.slot(packet.len()).map(|slot| slot.copy_from_slice(packet)).is_some()
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The length of the longest packet.
    pub(crate) fn longest(&self) -> usize {
        self.packet_len
    }

    /// Whether the receiver may open it before trains that wait there, if it is an agent of ours. For flows of which no
    /// other packet waits: those of one flow are not to overtake each other.
    pub fn set_may_overtake(&mut self, may_overtake: bool) {
        self.may_overtake = may_overtake;
    }

    pub fn may_overtake(&self) -> bool {
        self.may_overtake
    }

    /// What its messages are to be addressed to.
    pub(crate) fn addressed_to(&self, receiver: Receiver) -> u32 {
        if self.may_overtake { receiver.overtaking() } else { receiver.plain() }
    }

    /// Leaves out the packets that `keep` does not want; the others move up.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let (count, stride, last_len) = (self.count, self.stride(), self.last_len);
        self.count = 0;
        self.last_len = self.packet_len;
        for position in 0..count {
            let len = if position + 1 == count { last_len } else { self.packet_len };
            let start = position * stride + DATA_HEADER;
            if keep(&self.buffer[start..start + len]) {
                // With its padding.
                let end = start + self.padded(len);
                self.buffer.copy_within(start..end, self.count * stride + DATA_HEADER);
                self.count += 1;
                self.last_len = len;
            }
        }
    }

    pub(crate) fn interface(&self) -> InterfaceId {
        self.interface
    }

    /// The inner packets, without padding.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.datagrams().chunks(self.stride()).enumerate().map(|(position, datagram)| {
            let len = if position + 1 == self.count { self.last_len } else { self.packet_len };
            &datagram[DATA_HEADER..DATA_HEADER + len]
        })
    }

    /// All datagrams, one after the other; each is header, padded packet, room for the tag.
    pub(crate) fn datagrams(&self) -> &[u8] {
        &self.buffer[..self.wire_len()]
    }

    pub(crate) fn datagrams_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let (len, stride) = (self.wire_len(), self.stride());
        self.buffer[..len].chunks_mut(stride)
    }

    /// The inner packets with their padding.
    pub(crate) fn padded_packets(&self) -> impl Iterator<Item = &[u8]> {
        let tag = DATA_OVERHEAD - DATA_HEADER;
        self.datagrams().chunks(self.stride()).map(move |datagram| &datagram[DATA_HEADER..datagram.len() - tag])
    }

    /// The length of every datagram but the last: the segment size of `UDP_SEGMENT`.
    pub(crate) fn stride(&self) -> usize {
        DATA_OVERHEAD + self.padded(self.packet_len)
    }

    fn wire_len(&self) -> usize {
        match self.count.checked_sub(1) {
            Some(full) => full * self.stride() + DATA_OVERHEAD + self.padded(self.last_len),
            None => 0,
        }
    }

    /// Never padded beyond the MTU: a full packet's datagram must fit the path.
    fn padded(&self, len: usize) -> usize {
        len.next_multiple_of(PADDING).min(self.mtu.max(len))
    }
}

/// Datagrams that one sender sent, one after the other: each `segment_size` long but the last, which may be shorter.
pub struct ReceivedTrain<'a> {
    pub from: SocketAddr,
    pub datagrams: &'a mut [u8],
    pub segment_size: usize,
}

/// An inner packet that came out of a received train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub interface: InterfaceId,
    /// Where it lies in [`ReceivedTrain::datagrams`].
    pub packet: Range<usize>,
}

impl Delivery {
    /// The same, seen from `offset` bytes before.
    pub(crate) fn behind(self, offset: usize) -> Self {
        Self { packet: self.packet.start + offset..self.packet.end + offset, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn train(buffer: &mut [u8]) -> Train<'_> {
        Train::new(InterfaceId(0), 1420, buffer)
    }

    #[test]
    fn only_the_last_packet_may_be_shorter() {
        let mut buffer = [0xaa; 4096];
        let mut train = train(&mut buffer);
        assert!(train.push(&[1; 100]) && train.push(&[2; 100]));
        assert!(!train.push(&[3; 101]));
        assert!(train.push(&[3; 99]));
        assert!(!train.push(&[4; 99]));
        assert_eq!((train.len(), train.stride()), (3, 32 + 112));
        assert_eq!(train.packets().collect::<Vec<_>>(), [&[1; 100][..], &[2; 100], &[3; 99]]);
        assert_eq!(train.datagrams()[16 + 100..16 + 112], [0; 12], "padding is nothing that was there before");
    }

    #[test]
    fn what_is_left_of_a_train_is_one() {
        for kept in 0u8..16 {
            let mut buffer = [0xaa; 4096];
            let mut train = train(&mut buffer);
            let packets: Vec<Vec<u8>> = [100, 100, 100, 60].into_iter().zip(0..).map(|(len, i)| vec![i; len]).collect();
            assert!(packets.iter().all(|packet| train.push(packet)));
            train.retain(|packet| kept & 1 << packet[0] != 0);
            let left: Vec<_> = packets.iter().filter(|packet| kept & 1 << packet[0] != 0).collect();
            assert_eq!(train.packets().collect::<Vec<_>>(), left);
            assert_eq!(train.len(), left.len());
            assert_eq!(train.push(&[9; 100]), kept & 8 == 0, "a shorter one is still the last");
        }
    }

    #[test]
    fn padding_stops_at_the_mtu() {
        let mut buffer = [0; 20_000];
        for (len, datagram) in [(0, 32), (1, 48), (16, 48), (1404, 1440), (1419, 1452), (1420, 1452), (9000, 9032)] {
            let mut train = train(&mut buffer);
            train.slot(len);
            assert_eq!(train.datagrams().len(), datagram);
        }
    }

    #[test]
    fn a_train_is_no_longer_than_one_send_takes() {
        let mut buffer = vec![0; 1 << 17];
        let mut train = train(&mut buffer);
        while train.push(&[0; 1420]) {}
        assert_eq!((train.len(), train.datagrams().len()), (45, 45 * 1452));
        let mut train = Train::new(InterfaceId(0), 1420, &mut buffer);
        while train.push(&[0; 64]) {}
        assert_eq!(train.len(), MAX_TRAIN);
        let mut train = Train::new(InterfaceId(0), 1420, &mut buffer);
        assert!(train.slot(MAX_DATAGRAM - DATA_OVERHEAD + 1).is_none() && train.is_empty());
        assert!(train.slot(MAX_DATAGRAM - DATA_OVERHEAD).is_some());
    }

    proptest! {
        #[test]
        fn packets_lie_where_their_datagrams_will_be(lens in prop::collection::vec(0usize..2000, 0..70)) {
            let mut buffer = vec![0xaa; 30_000];
            let mut train = train(&mut buffer);
            let pushed: Vec<_> = lens.iter().enumerate().map(|(i, len)| vec![i as u8; *len])
                .filter(|packet| train.push(packet)).collect();
            prop_assert_eq!(train.packets().map(<[u8]>::to_vec).collect::<Vec<_>>(), pushed);
            let (stride, count, len) = (train.stride(), train.len(), train.datagrams().len());
            let datagrams: Vec<usize> = train.datagrams().chunks(stride).map(<[u8]>::len).collect();
            prop_assert_eq!(datagrams.len(), count);
            prop_assert_eq!(datagrams.iter().sum::<usize>(), len);
            prop_assert!(datagrams.iter().rev().skip(1).all(|len| *len == stride));
        }
    }
}
