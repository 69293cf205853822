//! Datagrams on their way out, gathered into trains: as many of one length for one destination as one system call takes
//! (`UDP_SEGMENT`).

use std::net::SocketAddr;

use cladnet_tunnel::offload::MAX_SEGMENTS;

/// Two full trains: while the kernel sends one, the data of the other is still in the core's cache.
const CAPACITY: usize = 2 * MAX_TRAIN;
/// The longest payload of a UDP datagram over IPv4, which is what the kernel cuts.
const MAX_TRAIN: usize = 65_507;
/// Flows to as many peers by turns make trains of one datagram each.
const MAX_TRAINS: usize = 64;

/// How many datagrams of this length one train takes.
pub(crate) fn train_len(datagram: usize) -> usize {
    (MAX_TRAIN / datagram.max(1)).clamp(1, MAX_SEGMENTS)
}

/// A thread's own; nothing is allocated after it was made.
#[derive(Debug)]
pub(crate) struct Trains {
    bytes: Vec<u8>,
    trains: Vec<Extent>,
}

/// Datagrams of one length for one destination; the last may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Train<'a> {
    pub(super) to: SocketAddr,
    pub(super) bytes: &'a [u8],
    pub(super) segment: usize,
}

#[derive(Debug)]
struct Extent {
    to: SocketAddr,
    start: usize,
    len: usize,
    segment: usize,
}

impl Trains {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(CAPACITY), trains: Vec::with_capacity(MAX_TRAINS) }
    }

    /// False if there is no room before these are sent.
    #[must_use]
    pub(crate) fn push(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        let joins = self.trains.last().is_some_and(|last| last.takes(to, datagram));
        let has_place = joins || self.trains.len() < MAX_TRAINS;
        if !has_place || self.bytes.len() + datagram.len() > CAPACITY {
            return false;
        }
        match self.trains.last_mut().filter(|_| joins) {
            Some(last) => last.len += datagram.len(),
            None => {
                let (start, len) = (self.bytes.len(), datagram.len());
                self.trains.push(Extent { to, start, len, segment: len });
            }
        }
        self.bytes.extend_from_slice(datagram);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Train<'_>> {
        self.trains.iter().map(|Extent { to, start, len, segment }| Train {
            to: *to,
            bytes: &self.bytes[*start..start + len],
            segment: *segment,
        })
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.trains.clear();
    }
}

impl Extent {
    fn takes(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        let is_open = self.segment > 0 && self.len.is_multiple_of(self.segment);
        let has_room = self.len + datagram.len() <= MAX_TRAIN && self.len / self.segment.max(1) < MAX_SEGMENTS;
        self.to == to && is_open && has_room && (1..=self.segment).contains(&datagram.len())
    }
}

impl<'a> Train<'a> {
    pub(super) fn datagrams(self) -> impl Iterator<Item = Train<'a>> {
        let to = self.to;
        cut(self.bytes, self.segment).map(move |bytes| Train { to, bytes, segment: bytes.len() })
    }

    pub(super) fn is_single(&self) -> bool {
        self.bytes.len() <= self.segment
    }
}

/// The datagrams of a train. An empty one is one too.
pub(super) fn cut(train: &[u8], segment: usize) -> impl Iterator<Item = &[u8]> {
    let count = train.len().div_ceil(segment.max(1)).max(1);
    (0..count).map(move |index| {
        let start = index * segment;
        &train[start..train.len().min(start + segment)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lens(trains: &Trains) -> Vec<Vec<usize>> {
        trains.iter().map(|train| train.datagrams().map(|datagram| datagram.bytes.len()).collect()).collect()
    }

    #[test]
    fn a_train_is_of_one_length_but_for_its_end() {
        let to = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut trains = Trains::new();
        for len in [100, 100, 40, 100, 100, 120, 120] {
            assert!(trains.push(to, &[0; 200][..len]));
        }
        assert_eq!(lens(&trains), [vec![100, 100, 40], vec![100, 100], vec![120, 120]]);
    }

    #[test]
    fn every_destination_has_trains_of_its_own() {
        let [one, two] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let mut trains = Trains::new();
        for to in [one, one, two, one] {
            assert!(trains.push(to, &[0; 100]));
        }
        let sent: Vec<_> = trains.iter().map(|train| (train.to, train.bytes.len())).collect();
        assert_eq!(sent, [(one, 200), (two, 100), (one, 100)]);
    }

    #[test]
    fn no_train_is_longer_than_the_kernel_takes() {
        let to = SocketAddr::from(([192, 0, 2, 1], 1));
        for len in [1, 32, 1452, 9000, 65_507] {
            let mut trains = Trains::new();
            while trains.push(to, &vec![0; len]) {}
            for train in lens(&trains) {
                assert!(train.len() <= train_len(len) && train.iter().sum::<usize>() <= MAX_TRAIN, "{len}: {train:?}");
            }
            assert_eq!(lens(&trains)[0].len(), train_len(len));
        }
        assert_eq!(train_len(1452), 45);
    }

    #[test]
    fn an_empty_datagram_travels_alone() {
        let to = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut trains = Trains::new();
        assert!(trains.push(to, &[]) && trains.push(to, &[1]) && trains.push(to, &[]));
        assert_eq!(trains.iter().map(|train| train.bytes.len()).collect::<Vec<_>>(), [0, 1, 0]);
    }
}
