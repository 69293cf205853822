//! When to drop from a queue that does not empty, so that senders slow down: CoDel (RFC 8289). Time is told, and how long
//! packets waited; the queue itself is the caller's.

use std::time::{Duration, Instant};

/// How long packets may wait for ever: what keeps the reader busy, a twentieth of the interval (§4.3).
const TARGET: Duration = Duration::from_micros(2500);
/// For how long they may wait longer than that, so that bursts pass: a round trip between continents. Half of what the RFC
/// suggests, as most pairs are closer, and TCP of a short round trip fills a queue again before a second packet is dropped.
const INTERVAL: Duration = Duration::from_millis(50);
/// A queue that stands again within this many intervals is dropped from as often as when it was left (§5.4).
const MEMORY: u32 = 16;

/// Of one queue.
#[derive(Debug, Default)]
pub struct CoDel {
    /// From when on the queue counts as standing, if its packets go on waiting too long.
    standing_from: Option<Instant>,
    is_dropping: bool,
    /// When the next packet is to be dropped, or would have been.
    next_drop: Option<Instant>,
    /// Packets dropped since dropping began, and what that began with.
    count: u32,
    initial_count: u32,
}

impl CoDel {
    /// Whether a packet that is taken from the queue now, after it waited for so long, is to be dropped.
    pub fn drops(&mut self, now: Instant, waited: Duration) -> bool {
        if !self.is_standing(now, waited) {
            self.is_dropping = false;
            return false;
        }
        let due = match self.next_drop.filter(|_| self.is_dropping) {
            Some(at) if now < at => return false,
            Some(at) => {
                self.count += 1;
                at
            }
            None => {
                self.begin(now);
                now
            }
        };
        self.next_drop = Some(due + INTERVAL.div_f64(f64::from(self.count).sqrt()));
        true
    }

    fn is_standing(&mut self, now: Instant, waited: Duration) -> bool {
        if waited < TARGET {
            self.standing_from = None;
            return false;
        }
        now >= *self.standing_from.get_or_insert(now + INTERVAL)
    }

    fn begin(&mut self, now: Instant) {
        let is_recent = self.next_drop.is_some_and(|at| now.saturating_duration_since(at) < MEMORY * INTERVAL);
        let reached = self.count - self.initial_count;
        self.count = if is_recent { reached.max(1) } else { 1 };
        self.initial_count = self.count;
        self.is_dropping = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_millis(3);
    const SHORT: Duration = Duration::from_millis(2);
    const STEP: Duration = Duration::from_micros(500);

    struct Queue {
        codel: CoDel,
        now: Instant,
    }

    impl Queue {
        fn new() -> Self {
            Self { codel: CoDel::default(), now: Instant::now() }
        }

        /// Packets that wait for so long; when some of them were dropped, from the first on.
        fn pass(&mut self, time: Duration, waited: Duration) -> Vec<Duration> {
            let (start, mut dropped) = (self.now, Vec::new());
            while self.now < start + time {
                if self.codel.drops(self.now, waited) {
                    dropped.push(self.now - start);
                }
                self.now += STEP;
            }
            dropped
        }
    }

    #[test]
    fn a_queue_that_waits_little_loses_nothing() {
        assert!(Queue::new().pass(Duration::from_secs(10), SHORT).is_empty());
    }

    #[test]
    fn a_burst_that_is_gone_within_an_interval_loses_nothing() {
        let mut queue = Queue::new();
        for _ in 0..20 {
            assert!(queue.pass(INTERVAL, LONG).is_empty());
            assert!(queue.pass(STEP, SHORT).is_empty());
        }
    }

    #[test]
    fn a_standing_queue_is_dropped_from_more_and_more_often() {
        let dropped = Queue::new().pass(Duration::from_secs(1), LONG);
        assert_eq!(dropped[0], INTERVAL);
        for (count, pair) in dropped.windows(2).enumerate() {
            let expected = INTERVAL.div_f64(((count + 1) as f64).sqrt());
            assert!((pair[1] - pair[0]).abs_diff(expected) <= STEP, "drop {count}: {pair:?}");
        }
        // The sum of the first 1/√n up to 19 intervals.
        assert!((100..=110).contains(&dropped.len()), "{} dropped", dropped.len());
    }

    #[test]
    fn a_queue_that_stands_again_soon_is_dropped_from_as_often_as_before() {
        let second = |pause: Duration| {
            let mut queue = Queue::new();
            queue.pass(Duration::from_secs(1), LONG);
            queue.pass(pause, SHORT);
            queue.pass(Duration::from_millis(500), LONG).len()
        };
        let fresh = Queue::new().pass(Duration::from_millis(500), LONG).len();
        assert_eq!(second(Duration::from_secs(10)), fresh);
        assert!(second(Duration::from_millis(10)) > 2 * fresh);
    }

    #[test]
    fn a_clock_that_jumps_costs_nothing() {
        // What was in the queue at that moment seems to have waited for an hour.
        let mut queue = Queue::new();
        assert!(queue.pass(Duration::from_millis(5), Duration::from_secs(3600)).is_empty());
        assert!(queue.pass(Duration::from_secs(1), Duration::ZERO).is_empty());
    }
}
