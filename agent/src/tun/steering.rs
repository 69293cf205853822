//! Through which queue a packet enters the kernel. The kernel sends what answers it out by the same one, so this decides
//! which flows wait together; for flows that nothing answers, its own hash does.
//!
//! A flow keeps its queue, or it would be reordered. Only one that waits beside a flood, and was silent while more was
//! read there than a queue holds, gets another: time alone would not do, as a thread may have to wait for a core.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Flows that are told apart; of more, some share a place, and with it a queue.
const FLOWS: usize = 1024;
/// How long a queue counts as flooded after it held more than one turn takes.
const FLOODED: Duration = Duration::from_millis(100);
/// How many packets are read from a queue until none of those is left that were there: twice what it holds.
const SILENCE: u64 = 1000;

/// Shared by the threads that write; no lock, and a race costs no more than a better queue.
#[derive(Debug)]
pub(super) struct Steering {
    /// So that nobody can choose whom to wait with.
    key: RandomState,
    begin: Instant,
    /// A queue, and when it was last used: [`Use`].
    flows: Box<[AtomicU64]>,
    /// When each was last seen flooded, in milliseconds; 0 is never.
    flooded: Box<[AtomicU64]>,
    /// How many packets were read from each, and one.
    read: Box<[AtomicU64]>,
}

/// The queue of a flow, and how much had been read there when it was last used, as one number; 0 is none.
#[derive(Debug, Clone, Copy)]
struct Use {
    queue: usize,
    read: u64,
}

impl Steering {
    pub(super) fn new(now: Instant, queues: usize) -> Self {
        let never = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        let read = (0..queues).map(|_| AtomicU64::new(1)).collect();
        Self { key: RandomState::new(), begin: now, flows: never(FLOWS), flooded: never(queues), read }
    }

    /// Where a packet goes in.
    pub(super) fn queue(&self, now: Instant, packet: &[u8]) -> usize {
        let (now, flow) = (self.millis(now), self.hash(packet));
        let place = &self.flows[flow as usize % FLOWS];
        let used = Use::unpack(place.load(Ordering::Relaxed));
        let before = used.map_or_else(|| (flow >> 32) as usize % self.flooded.len(), |used| used.queue);
        let read = |queue: usize| self.read[queue].load(Ordering::Relaxed);
        let may_change = used.is_none_or(|used| read(used.queue).saturating_sub(used.read) > SILENCE);
        let queue = if may_change { self.calm_from(now, before) } else { before };
        place.store(Use { queue, read: read(queue) }.pack(), Ordering::Relaxed);
        queue
    }

    /// Notes how many packets a turn took from a queue.
    pub(super) fn note_read(&self, queue: usize, packets: usize) {
        self.read[queue].fetch_add(packets as u64, Ordering::Relaxed);
    }

    /// Notes that a queue held more than one turn takes.
    pub(super) fn note_flooded(&self, now: Instant, queue: usize) {
        self.flooded[queue].store(self.millis(now), Ordering::Relaxed);
    }

    /// The queue `from`, or the next one that is not flooded.
    fn calm_from(&self, now: u64, from: usize) -> usize {
        let count = self.flooded.len();
        let is_calm = |queue: &usize| {
            let flooded = self.flooded[*queue].load(Ordering::Relaxed);
            flooded == 0 || now.saturating_sub(flooded) > millis(FLOODED)
        };
        (0..count).map(|step| (from + step) % count).find(is_calm).unwrap_or(from)
    }

    fn hash(&self, packet: &[u8]) -> u64 {
        let mut hasher = self.key.build_hasher();
        let (addresses, ports) = flow(packet);
        hasher.write(addresses);
        hasher.write(ports);
        hasher.finish()
    }

    /// Never 0.
    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.begin)) + 1
    }
}

impl Use {
    fn pack(self) -> u64 {
        self.read << 8 | self.queue as u64
    }

    fn unpack(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self { queue: (packed & 0xff) as usize, read: packed >> 8 })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 16)
}

/// Addresses, and ports where every packet of the flow has them.
fn flow(packet: &[u8]) -> (&[u8], &[u8]) {
    let part = |from: usize, to: usize| packet.get(from..to).unwrap_or_default();
    let (addresses, protocol, transport_at) = match packet.first().map(|byte| byte >> 4) {
        Some(4) if is_fragment(packet) => (part(12, 20), None, 0),
        Some(4) => (part(12, 20), packet.get(9), usize::from(packet[0] & 0xf) * 4),
        Some(6) => (part(8, 40), packet.get(6), 40),
        _ => (packet, None, 0),
    };
    match protocol {
        Some(&(TCP | UDP)) => (addresses, part(transport_at, transport_at + 4)),
        _ => (addresses, &[]),
    }
}

/// More of it follow, or it is not the first.
fn is_fragment(v4: &[u8]) -> bool {
    v4.get(6..8).is_some_and(|field| u16::from_be_bytes([field[0], field[1]]) & 0x3fff != 0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const QUEUES: usize = 16;

    fn udp(port: u16, flags: u8) -> Vec<u8> {
        let mut packet = vec![0; 28];
        (packet[0], packet[6], packet[9]) = (0x45, flags, UDP);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[22..24].copy_from_slice(&port.to_be_bytes());
        packet
    }

    #[test]
    fn flows_are_spread_and_each_keeps_its_queue() {
        let now = Instant::now();
        let steering = Steering::new(now, QUEUES);
        let queue = |port| steering.queue(now, &udp(port, 0x40));
        assert!((0..1000).all(|port| queue(port) == queue(port)));
        assert_eq!((0..1000).map(queue).collect::<BTreeSet<_>>(), (0..QUEUES).collect());
    }

    #[test]
    fn a_flow_leaves_a_flooded_queue_once_it_was_silent() {
        let mut now = Instant::now();
        let steering = Steering::new(now, QUEUES);
        let packet = udp(1, 0);
        let flooded = steering.queue(now, &packet);
        for _ in 0..10 {
            now += Duration::from_secs(1);
            steering.note_flooded(now, flooded);
            steering.note_read(flooded, SILENCE as usize / 2);
            assert_eq!(steering.queue(now, &packet), flooded, "packets may still wait there");
        }
        steering.note_read(flooded, 1 + SILENCE as usize);
        let calm = steering.queue(now, &packet);
        assert_ne!(calm, flooded);
        now += 2 * FLOODED;
        assert_eq!(steering.queue(now, &packet), calm, "nothing calls it back");
        (0..QUEUES).for_each(|queue| steering.note_flooded(now, queue));
        steering.note_read(calm, 1 + SILENCE as usize);
        assert_eq!(steering.queue(now, &packet), calm, "no other is better");
    }

    #[test]
    fn a_new_flow_begins_in_a_queue_that_is_not_flooded() {
        let now = Instant::now();
        let steering = Steering::new(now, QUEUES);
        (1..QUEUES).for_each(|queue| steering.note_flooded(now, queue));
        assert!((0..100).all(|port| steering.queue(now, &udp(port, 0)) == 0));
    }

    #[test]
    fn fragments_of_a_packet_stay_together() {
        let now = Instant::now();
        let steering = Steering::new(now, QUEUES);
        assert_eq!(steering.queue(now, &udp(1, 0x20)), steering.queue(now, &udp(2, 0x20)));
    }

    #[test]
    fn no_packet_is_too_short() {
        let now = Instant::now();
        let (steering, packet) = (Steering::new(now, 1), udp(1, 0));
        for len in 0..=packet.len() {
            assert_eq!(steering.queue(now, &packet[..len]), 0);
        }
        assert_eq!(steering.queue(now, &[0x60; 41]), 0);
    }
}
