//! A budget of requests, and the peers that wait for it in the order in which they came. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::PeerId;
use super::rate::Rate;

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    rate: Rate,
    waiting: VecDeque<PeerId>,
}

impl Lane {
    /// `burst` requests may go at once.
    pub(super) fn new(now: Instant, interval: Duration, burst: u32) -> Self {
        Self { rate: Rate::new(now, interval, burst), waiting: VecDeque::new() }
    }

    /// Takes one request out of the budget, if there is one left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.rate.take(now)
    }

    pub(super) fn wait(&mut self, peer: PeerId) {
        self.waiting.push_back(peer);
    }

    /// The one that has waited longest, if something is left for it.
    pub(super) fn next(&mut self, now: Instant) -> Option<PeerId> {
        if self.rate.ready_at() > now {
            return None;
        }
        self.waiting.pop_front()
    }

    /// When something is left for the first one.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.waiting.front().map(|_| self.rate.ready_at())
    }
}
