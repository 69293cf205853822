//! What the data threads note for whoever watches over a peer's path: whether packets pass, and since when nothing
//! answers them. Nothing is decided here.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Peer;
use crate::host::Epoch;

/// What passed between us and a peer lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Packets of the overlay, either way.
    pub has_traffic: bool,
    /// For how long packets have been going to the endpoint in use without anything authentic from there.
    pub unanswered: Option<Duration>,
    /// Where a pinned peer was heard of beside that.
    pub elsewhere: Option<SocketAddr>,
}

/// What a probe has shown, told as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// The peer answered at an endpoint what it was asked at that time, and saw us at `mapped`.
    Answer { endpoint: SocketAddr, asked_at: Instant, mapped: SocketAddr },
    /// It asked us from there, and doubts its own path if it is an alarm.
    Request { from: SocketAddr, is_alarm: bool },
}

/// Shared by the data threads, without a lock; written only if it changes.
pub(super) struct Watch {
    clock: Epoch,
    has_traffic: AtomicBool,
    has_moved: AtomicBool,
    /// When the first of the packets was sent that nothing has answered; 0 if all are.
    unanswered_since: AtomicU64,
}

impl Watch {
    pub(super) fn new(clock: Epoch) -> Self {
        let [has_traffic, has_moved] = [(); 2].map(|()| AtomicBool::new(false));
        Self { clock, has_traffic, has_moved, unanswered_since: AtomicU64::new(0) }
    }

    pub(super) fn sent(&self, now: Instant) {
        self.received();
        if self.unanswered_since.load(Ordering::Relaxed) == 0 {
            self.unanswered_since.store(self.clock.nanos(now), Ordering::Relaxed);
        }
    }

    pub(super) fn received(&self) {
        if !self.has_traffic.load(Ordering::Relaxed) {
            self.has_traffic.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn answered(&self) {
        if self.unanswered_since.load(Ordering::Relaxed) != 0 {
            self.unanswered_since.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn moved(&self) {
        self.has_moved.store(true, Ordering::Relaxed);
    }

    fn unanswered(&self, now: Instant) -> Option<Duration> {
        let since = self.unanswered_since.load(Ordering::Relaxed);
        (since != 0).then(|| Duration::from_nanos(self.clock.nanos(now).saturating_sub(since)))
    }
}

impl Peer {
    /// What passed since this was asked last; nothing of an idle peer.
    pub(crate) fn activity(&self, now: Instant) -> Option<Activity> {
        let (has_traffic, has_moved) = (take(&self.watch.has_traffic), take(&self.watch.has_moved));
        let unanswered = self.watch.unanswered(now);
        if !has_traffic && !has_moved && unanswered.is_none() {
            return None;
        }
        Some(Activity { has_traffic, unanswered, elsewhere: self.whereabouts().elsewhere })
    }
}

fn take(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed) && flag.swap(false, Ordering::Relaxed)
}
