//! Through which queue a packet enters the kernel. The kernel sends what answers it out by the same one, so this decides
//! which flows wait together; for flows that nothing answers, its own hash does.
//!
//! A flow begins in a queue that nobody uses, if there is one, so that a ping does not wait behind a transfer. It keeps its
//! queue, or it would be reordered, until nothing of it can wait there: it was silent for long, or, beside a flood, while
//! more was read there than a queue holds. Then it begins anew.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Flows that are told apart; of more, some share a place, and with it a queue.
const FLOWS: usize = 1024;
/// How long a queue counts as in use after something passed through it, and a flow as not silent.
const USED: Duration = Duration::from_secs(1);
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
    /// [`Use`]s.
    flows: Box<[AtomicU64]>,
    queues: Box<[Queue]>,
}

/// Times are in milliseconds; 0 is never.
#[derive(Debug, Default)]
struct Queue {
    /// When something last passed through it.
    used: AtomicU64,
    /// When it was last seen flooded.
    flooded: AtomicU64,
    /// What was there at this time has been read since.
    cleared: AtomicU64,
    /// How many packets were read since `counted_from`, which becomes the next `cleared`.
    read: AtomicU64,
    counted_from: AtomicU64,
}

/// The queue of a flow, and when it was last used, as one number; 0 is none.
#[derive(Debug, Clone, Copy)]
struct Use {
    queue: usize,
    at: u64,
}

impl Steering {
    pub(super) fn new(now: Instant, queues: usize) -> Self {
        Self {
            key: RandomState::new(),
            begin: now,
            flows: (0..FLOWS).map(|_| AtomicU64::new(0)).collect(),
            queues: (0..queues).map(|_| Queue::default()).collect(),
        }
    }

    /// Where a packet goes in.
    pub(super) fn queue(&self, now: Instant, packet: &[u8]) -> usize {
        let (now, flow) = (self.millis(now), self.hash(packet));
        let place = &self.flows[flow as usize % FLOWS];
        let queue = match Use::unpack(place.load(Ordering::Relaxed)) {
            None => self.better_than(now, (flow >> 32) as usize % self.queues.len()),
            Some(before) if self.queues[before.queue].is_left(now, before.at) => self.better_than(now, before.queue),
            Some(before) => before.queue,
        };
        place.store(Use { queue, at: now }.pack(), Ordering::Relaxed);
        note(now, &self.queues[queue].used);
        queue
    }

    /// Notes how many packets a turn took from a queue, and whether it left some.
    pub(super) fn note_turn(&self, now: Instant, queue: usize, packets: usize, is_flooded: bool) {
        let (now, queue) = (self.millis(now), &self.queues[queue]);
        note(now, &queue.used);
        if is_flooded {
            note(now, &queue.flooded);
        }
        let mut read = queue.read.load(Ordering::Relaxed) + packets as u64;
        if read > SILENCE {
            queue.cleared.store(queue.counted_from.swap(now, Ordering::Relaxed), Ordering::Relaxed);
            read = 0;
        }
        queue.read.store(read, Ordering::Relaxed);
    }

    /// The first queue from `from` on that nobody uses; if all are in use, one that is not flooded.
    fn better_than(&self, now: u64, from: usize) -> usize {
        let count = self.queues.len();
        let mut from_there_on = (0..count).map(|step| (from + step) % count);
        let is_unused = |queue: &usize| !is_lately(now, &self.queues[*queue].used, USED);
        let is_calm = |queue: &usize| !self.queues[*queue].is_flooded(now);
        from_there_on.clone().find(is_unused).or_else(|| from_there_on.find(is_calm)).unwrap_or(from)
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

impl Queue {
    fn is_flooded(&self, now: u64) -> bool {
        is_lately(now, &self.flooded, FLOODED)
    }

    /// Whether nothing waits here any more of a flow that last used it at `at`, and it may be better off elsewhere.
    fn is_left(&self, now: u64, at: u64) -> bool {
        now.saturating_sub(at) > millis(USED) || self.is_flooded(now) && at < self.cleared.load(Ordering::Relaxed)
    }
}

impl Use {
    fn pack(self) -> u64 {
        self.at << 8 | self.queue as u64
    }

    fn unpack(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self { queue: (packed & 0xff) as usize, at: packed >> 8 })
    }
}

/// Written only if it changes, so that threads do not take the line from each other.
fn note(now: u64, time: &AtomicU64) {
    if time.load(Ordering::Relaxed) != now {
        time.store(now, Ordering::Relaxed);
    }
}

fn is_lately(now: u64, time: &AtomicU64, within: Duration) -> bool {
    let time = time.load(Ordering::Relaxed);
    time != 0 && now.saturating_sub(time) <= millis(within)
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

    /// Flows that share no place.
    fn apart(steering: &Steering, count: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut places = BTreeSet::new();
        let packets = (1..).map(|port| udp(port, 0));
        packets.filter(move |packet| places.insert(steering.hash(packet) as usize % FLOWS)).take(count)
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
            now += FLOODED;
            steering.note_turn(now, flooded, SILENCE as usize / 2, true);
            assert_eq!(steering.queue(now, &packet), flooded, "packets may still wait there");
        }
        for _ in 0..5 {
            now += FLOODED;
            steering.note_turn(now, flooded, SILENCE as usize / 2, true);
        }
        let calm = steering.queue(now, &packet);
        assert_ne!(calm, flooded);
        now += 2 * FLOODED;
        assert_eq!(steering.queue(now, &packet), calm, "nothing calls it back");
        for queue in (0..5).flat_map(|_| 0..QUEUES) {
            now += FLOODED / 100;
            steering.note_turn(now, queue, SILENCE as usize / 2, true);
        }
        assert_eq!(steering.queue(now, &packet), calm, "no other is better");
    }

    #[test]
    fn a_flow_begins_in_a_queue_that_nobody_uses() {
        let mut now = Instant::now();
        let steering = Steering::new(now, QUEUES);
        // What nothing answers has a queue too.
        steering.note_turn(now, 3, 1, false);
        let taken: BTreeSet<_> = apart(&steering, QUEUES - 1).map(|packet| steering.queue(now, &packet)).collect();
        assert_eq!(taken, (0..QUEUES).filter(|queue| *queue != 3).collect());
        let packet = udp(1, 0);
        let queue = steering.queue(now, &packet);
        now += 2 * USED;
        let others = (0..QUEUES).filter(|other| *other != (queue + 1) % QUEUES);
        others.for_each(|queue| steering.note_turn(now, queue, 1, false));
        assert_eq!(steering.queue(now, &packet), (queue + 1) % QUEUES, "silent for long, it begins anew");
    }

    #[test]
    fn a_flow_begins_in_a_queue_that_is_not_flooded() {
        let now = Instant::now();
        let steering = Steering::new(now, QUEUES);
        (0..QUEUES).for_each(|queue| steering.note_turn(now, queue, 64, queue > 0));
        assert!((0..100).all(|port| steering.queue(now, &udp(port, 0)) == 0));
    }

    #[test]
    fn a_flow_that_little_answers_stays() {
        let now = Instant::now();
        let steering = Steering::new(now, QUEUES);
        let queue = steering.queue(now, &udp(1, 0));
        steering.note_turn(now + USED / 2, queue, 3 * SILENCE as usize, false);
        assert_eq!(steering.queue(now + USED, &udp(1, 0)), queue, "it would be reordered for nothing");
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
