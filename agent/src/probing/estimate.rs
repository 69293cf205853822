//! What many requests tell together: the round trip, and how many are lost. Pure.

use std::time::Duration;

/// Of as many requests as one word remembers.
const REMEMBERED: u32 = u64::BITS;
/// Fewer say nothing of loss.
const ENOUGH: u32 = 8;

/// Of so many round trips the middle one counts: a single one that is late says more of a busy machine than of the path.
const SAMPLES: usize = 8;
/// Fewer have no middle: one that was late could be all that is known.
const SURE: usize = 3;

/// Smoothed round trip and its variation (RFC 6298 §2), which say how long to wait; and the last ones, which say how far
/// it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    last: [Duration; SAMPLES],
    count: usize,
}

impl RoundTrip {
    pub(super) fn first(rtt: Duration) -> Self {
        Self { smoothed: rtt, variation: rtt / 2, last: [rtt; SAMPLES], count: 1 }
    }

    pub(super) fn update(&mut self, rtt: Duration) {
        self.variation = (3 * self.variation + self.smoothed.abs_diff(rtt)) / 4;
        self.smoothed = (7 * self.smoothed + rtt) / 8;
        self.last.rotate_right(1);
        self.last[0] = rtt;
        self.count = (self.count + 1).min(SAMPLES);
    }

    /// The path may be another one now: all but the last round trip are forgotten.
    pub(super) fn doubt(&mut self) {
        self.count = 1;
    }

    /// Of the last ones; the shorter one of two in the middle.
    pub(super) fn median(self) -> Duration {
        let mut last = self.last;
        let last = &mut last[..self.count];
        last.sort_unstable();
        last[(last.len() - 1) / 2]
    }

    /// Whether one that was late decides nothing.
    pub(super) fn is_sure(self) -> bool {
        self.count >= SURE
    }

    pub(super) fn timeout(self) -> Duration {
        self.smoothed + 4 * self.variation
    }
}

/// How the last requests ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    /// A bit for each that was lost; the last one is the lowest.
    lost: u64,
    count: u32,
}

impl Outcomes {
    pub(super) fn push(&mut self, is_answered: bool) {
        self.lost = self.lost << 1 | u64::from(!is_answered);
        self.count = (self.count + 1).min(REMEMBERED);
    }

    /// Nothing before there are enough of them.
    pub(super) fn loss_permille(self) -> u16 {
        if self.count < ENOUGH {
            return 0;
        }
        u16::try_from(1_000 * self.lost.count_ones() / self.count).unwrap_or(1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn round_trips_are_smoothed_as_rfc_6298_says() {
        let mut round_trip = RoundTrip::first(ms(80));
        assert_eq!((round_trip.smoothed, round_trip.timeout()), (ms(80), ms(240)));
        round_trip.update(ms(160));
        assert_eq!((round_trip.smoothed, round_trip.timeout()), (ms(90), ms(290)));
    }

    #[test]
    fn single_late_answers_make_no_path_longer() {
        let mut round_trip = RoundTrip::first(ms(90));
        round_trip.update(ms(10));
        assert!(!round_trip.is_sure());
        round_trip.update(ms(11));
        assert_eq!((round_trip.is_sure(), round_trip.median()), (true, ms(11)));
        for rtt in [80, 11, 10, 90, 12, 11, 10, 85, 11] {
            round_trip.update(ms(rtt));
            assert!(round_trip.median() <= ms(12), "{round_trip:?}");
        }
        (0..5).for_each(|_| round_trip.update(ms(40)));
        assert_eq!(round_trip.median(), ms(40));
    }

    #[test]
    fn loss_is_that_of_the_last_64_and_of_no_fewer_than_8() {
        let mut outcomes = Outcomes::default();
        (0..7).for_each(|_| outcomes.push(false));
        assert_eq!(outcomes.loss_permille(), 0);
        outcomes.push(true);
        assert_eq!(outcomes.loss_permille(), 875);
        (0..48).for_each(|_| outcomes.push(true));
        assert_eq!(outcomes.loss_permille(), 125);
        (0..16).for_each(|_| outcomes.push(true));
        assert_eq!(outcomes.loss_permille(), 0);
    }
}
