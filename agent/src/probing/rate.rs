//! So many requests in a time, with bursts (a virtual schedule, ITU-T I.371). Pure.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub(super) struct Rate {
    /// Between two requests.
    interval: Duration,
    /// How far requests may run ahead of the schedule.
    tolerance: Duration,
    /// When the next one is on schedule.
    next_at: Instant,
}

impl Rate {
    /// `burst` requests may go at once.
    pub(super) fn new(now: Instant, interval: Duration, burst: u32) -> Self {
        Self { interval, tolerance: interval * burst.saturating_sub(1), next_at: now }
    }

    /// Takes one request, if there is one left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.ready_at() > now {
            return false;
        }
        self.next_at = self.next_at.max(now) + self.interval;
        true
    }

    /// When there is one left.
    pub(super) fn ready_at(&self) -> Instant {
        self.next_at.checked_sub(self.tolerance).unwrap_or(self.next_at)
    }
}
