//! Which flows say so little that their packets may overtake those of others at the receiver, where all that a peer sends
//! would wait in one queue.

use std::time::{Duration, Instant};

/// What may be said at once: a connection's first window (RFC 6928: ten segments).
const BURST: f64 = 16_000.0;
/// What may be said for good, bytes a second: pings, calls and terminals, not transfers.
const RATE: f64 = 1e6;
/// After a silence of this length all is forgotten, and packets overtake again. What was sent before has left the receiver's
/// queue by then, so that no flow overtakes itself, unless a thread waits as long for a core.
const SILENCE: Duration = Duration::from_millis(20);

/// The pace of one queue of an interface, and so of the flows in it.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// What was said lately, in bytes, falling by [`RATE`].
    said: f64,
    at: Instant,
    is_bulk: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { said: 0.0, at: now, is_bulk: false }
    }

    /// Notes what was read. Whether it may overtake.
    pub(super) fn note(&mut self, now: Instant, bytes: usize) -> bool {
        let passed = now.saturating_duration_since(self.at);
        if passed >= SILENCE {
            *self = Self::new(now);
        }
        self.said = (self.said - passed.as_secs_f64() * RATE).max(0.0) + bytes as f64;
        self.at = now;
        self.is_bulk |= self.said > BURST;
        !self.is_bulk
    }

    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What becomes of packets of so many bytes, each so long after the one before.
    fn overtaking(packets: impl IntoIterator<Item = (Duration, usize)>) -> Vec<bool> {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut note = |(after, bytes)| {
            now += after;
            pace.note(now, bytes)
        };
        packets.into_iter().map(&mut note).collect()
    }

    #[test]
    fn pings_and_calls_always_overtake() {
        assert!(overtaking([(10 * MS, 84); 1000]).into_iter().all(|overtakes| overtakes));
        assert!(overtaking([(MS, 900); 1000]).into_iter().all(|overtakes| overtakes));
    }

    #[test]
    fn a_transfer_overtakes_with_its_first_window_only() {
        let overtaking = overtaking([(MS / 10, 1420); 1000]);
        assert!(overtaking[..11].iter().all(|overtakes| *overtakes));
        assert!(overtaking[13..].iter().all(|overtakes| !*overtakes));
        assert_eq!(self::overtaking([(MS, 64_000)]), [false]);
    }

    #[test]
    fn who_was_fast_overtakes_after_a_silence_only() {
        let (fast, slow) = ((MS / 10, 64_000), (2 * MS, 100));
        let after = |silence| overtaking([fast; 100].into_iter().chain([slow; 100]).chain([(silence, 100), slow]));
        assert_eq!(after(19 * MS), [false; 202]);
        let after = after(20 * MS);
        assert_eq!((&after[..200], &after[200..]), (&[false; 200][..], &[true; 2][..]));
    }
}
