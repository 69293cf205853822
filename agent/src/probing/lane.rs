//! A budget of requests, and the peers that wait for it in the order in which they came. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::PeerId;

/// So many requests in a time, with bursts, and a queue for those that come too soon (a virtual schedule, ITU-T I.371).
#[derive(Debug)]
pub(super) struct Lane {
    /// Between two requests.
    interval: Duration,
    /// How far requests may run ahead of the schedule.
    tolerance: Duration,
    /// When the next one is on schedule.
    next_at: Instant,
    waiting: VecDeque<PeerId>,
}

impl Lane {
    /// `burst` requests may go at once.
    pub(super) fn new(now: Instant, interval: Duration, burst: u32) -> Self {
        let tolerance = interval * burst.saturating_sub(1);
        Self { interval, tolerance, next_at: now, waiting: VecDeque::new() }
    }

    /// Takes one request out of the budget, if there is one left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.next_at > now + self.tolerance {
            return false;
        }
        self.next_at = self.next_at.max(now) + self.interval;
        true
    }

    pub(super) fn wait(&mut self, peer: PeerId) {
        self.waiting.push_back(peer);
    }

    /// The one that has waited longest, if something is left for it.
    pub(super) fn next(&mut self, now: Instant) -> Option<PeerId> {
        if self.next_at > now + self.tolerance {
            return None;
        }
        self.waiting.pop_front()
    }

    /// When something is left for the first one.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.waiting.front()?;
        Some(self.next_at.checked_sub(self.tolerance).unwrap_or(self.next_at))
    }
}
