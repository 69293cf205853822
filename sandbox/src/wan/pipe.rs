//! One direction of a pair of sites: a queue of packets on their way. Reads no clock and throws no dice: both are handed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::topology::LinkQuality;

/// Bytes on their way at once: half a second of 1 Gbit/s. What comes on top is dropped, as by any router.
const CAPACITY: usize = 64 << 20;

/// How a packet fared when it entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It waits until then. The first of an empty pipe: the pipe has to be looked at by then.
    Queued {
        release: Instant,
        first: bool,
    },
    Lost,
    Overflow,
}

/// A packet on its way.
pub(super) struct Frame {
    release: Instant,
    pub(super) destination: usize,
    pub(super) bytes: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Pipe {
    delay: Duration,
    jitter: Duration,
    /// Of 2^32.
    loss: u64,
    queue: VecDeque<Frame>,
    queued_bytes: usize,
    last_release: Option<Instant>,
}

impl Pipe {
    /// Changes the quality; packets on their way keep their time, and later ones do not overtake them.
    pub(super) fn set_quality(&mut self, quality: &LinkQuality) {
        let milliseconds = |value: f64| Duration::from_secs_f64(value / 1e3);
        self.delay = milliseconds(quality.delay_ms);
        self.jitter = milliseconds(quality.jitter_ms);
        let share = if quality.blackhole { 1.0 } else { quality.loss_percent / 100.0 };
        self.loss = (share * (1u64 << 32) as f64) as u64;
    }

    /// Lets a packet in; `dice` are two independent random numbers.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        dice: (u32, u32),
        destination: usize,
        packet: &[u8],
        buffers: &mut Buffers,
    ) -> Entry {
        if u64::from(dice.0) < self.loss {
            return Entry::Lost;
        }
        if self.queued_bytes + packet.len() > CAPACITY {
            return Entry::Overflow;
        }
        let jitter = self.jitter.mul_f64(f64::from(dice.1) / f64::from(u32::MAX));
        let earliest = now + self.delay + jitter;
        let release = self.last_release.map_or(earliest, |last| earliest.max(last));
        self.last_release = Some(release);
        let first = self.queue.is_empty();
        self.queued_bytes += packet.len();
        self.queue.push_back(Frame { release, destination, bytes: buffers.filled(packet) });
        Entry::Queued { release, first }
    }

    /// The next packet whose time has come.
    pub(super) fn leave(&mut self, now: Instant) -> Option<Frame> {
        let frame = self.queue.pop_front_if(|frame| frame.release <= now)?;
        self.queued_bytes -= frame.bytes.len();
        Some(frame)
    }

    /// When the next packet leaves.
    pub(super) fn next_release(&self) -> Option<Instant> {
        self.queue.front().map(|frame| frame.release)
    }
}

/// Buffers that are used again, so that a packet costs no allocation once the WAN has run for a while.
#[derive(Default)]
pub(super) struct Buffers {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Buffers {
    /// What a packet of the usual MTU fits into.
    const SMALL: usize = 2048;
    /// What a super-packet fits into.
    const LARGE: usize = 1 << 16;
    /// Kept for later, 8 MiB of each kind; the rest is given back to the system.
    const KEPT: usize = 8 << 20;

    fn filled(&mut self, packet: &[u8]) -> Vec<u8> {
        let (pool, size) = if packet.len() <= Self::SMALL {
            (&mut self.small, Self::SMALL)
        } else {
            (&mut self.large, Self::LARGE.max(packet.len()))
        };
        let mut buffer = pool.pop().unwrap_or_else(|| Vec::with_capacity(size));
        buffer.clear();
        buffer.extend_from_slice(packet);
        buffer
    }

    pub(super) fn give_back(&mut self, buffer: Vec<u8>) {
        let (pool, size) = match buffer.capacity() {
            ..=Self::SMALL => (&mut self.small, Self::SMALL),
            _ => (&mut self.large, Self::LARGE),
        };
        if pool.len() * size < Self::KEPT {
            pool.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(delay_ms: f64, jitter_ms: f64, loss_percent: f64) -> Pipe {
        let mut pipe = Pipe::default();
        pipe.set_quality(&LinkQuality { delay_ms, jitter_ms, loss_percent, blackhole: false });
        pipe
    }

    #[test]
    fn a_packet_leaves_after_its_delay_and_not_before() {
        let (mut pipe, mut buffers, now) = (pipe(10.0, 0.0, 0.0), Buffers::default(), Instant::now());
        let release = now + Duration::from_millis(10);
        assert_eq!(pipe.enter(now, (0, 0), 7, b"x", &mut buffers), Entry::Queued { release, first: true });
        assert!(pipe.leave(release - Duration::from_nanos(1)).is_none());
        let frame = pipe.leave(release).expect("its time has come");
        assert_eq!((frame.destination, frame.bytes.as_slice()), (7, b"x".as_slice()));
        assert!(pipe.next_release().is_none());
    }

    #[test]
    fn jitter_never_reorders_and_a_shorter_delay_never_overtakes() {
        let (mut pipe, mut buffers, now) = (pipe(10.0, 5.0, 0.0), Buffers::default(), Instant::now());
        pipe.enter(now, (0, u32::MAX), 0, b"late", &mut buffers);
        pipe.enter(now, (0, 0), 0, b"early", &mut buffers);
        pipe.set_quality(&LinkQuality::default());
        pipe.enter(now, (0, 0), 0, b"fast", &mut buffers);
        let release = now + Duration::from_millis(15);
        assert!(pipe.leave(release - Duration::from_nanos(1)).is_none());
        let order: Vec<Vec<u8>> = std::iter::from_fn(|| pipe.leave(release)).map(|frame| frame.bytes).collect();
        assert_eq!(order, [b"late".to_vec(), b"early".to_vec(), b"fast".to_vec()]);
    }

    #[test]
    fn loss_takes_its_share_exactly() {
        let (mut pipe, mut buffers, now) = (pipe(0.0, 0.0, 25.0), Buffers::default(), Instant::now());
        let quarter = 1 << 30;
        assert_eq!(pipe.enter(now, (quarter - 1, 0), 0, b"x", &mut buffers), Entry::Lost);
        assert!(matches!(pipe.enter(now, (quarter, 0), 0, b"x", &mut buffers), Entry::Queued { .. }));
        pipe.set_quality(&LinkQuality { blackhole: true, ..LinkQuality::default() });
        assert_eq!(pipe.enter(now, (u32::MAX, 0), 0, b"x", &mut buffers), Entry::Lost);
    }

    #[test]
    fn a_full_pipe_drops_the_newest() {
        let (mut pipe, mut buffers, now) = (pipe(1.0, 0.0, 0.0), Buffers::default(), Instant::now());
        let packet = vec![0; 1 << 16];
        for _ in 0..CAPACITY / packet.len() {
            assert!(matches!(pipe.enter(now, (0, 0), 0, &packet, &mut buffers), Entry::Queued { .. }));
        }
        assert_eq!(pipe.enter(now, (0, 0), 0, b"x", &mut buffers), Entry::Overflow);
        assert!(pipe.leave(now + Duration::from_secs(1)).is_some());
        assert!(matches!(pipe.enter(now, (0, 0), 0, b"x", &mut buffers), Entry::Queued { .. }));
    }
}
