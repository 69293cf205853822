//! The timers of a peer that move with every train: kept in atomics, so that data threads move them without a lock
//! (whitepaper §6.2, §6.5). Those of handshakes are in `peer`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::peer::REKEY_TIMEOUT;
use crate::host::Epoch;

/// Who received data and has nothing to send says so after this long.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Timers {
    epoch: Epoch,
    /// When what was received must have been answered, by an empty packet if by nothing else.
    keepalive: Deadline,
    /// When a peer that was sent data and says nothing is taken for lost.
    silence: Deadline,
    /// How long a peer may say nothing; differs a little from peer to peer.
    patience: Duration,
    last_sent: AtomicU64,
    /// In nanoseconds; 0 is never.
    persistent_keepalive: AtomicU64,
}

/// Nanoseconds since the epoch; 0 is "not set".
#[derive(Default)]
struct Deadline(AtomicU64);

impl Deadline {
    /// Does nothing if it was set already.
    fn start(&self, at: u64) {
        // A look first: most packets find it set, and need not write.
        if self.0.load(Ordering::Relaxed) == 0 {
            let _ = self.0.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn stop(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// Stops it if it is due.
    fn take(&self, now: u64) -> bool {
        let at = self.0.load(Ordering::Relaxed);
        at != 0 && at <= now && self.0.compare_exchange(at, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Timers {
    pub(super) fn new(now: Instant, epoch: Epoch, jitter: Duration, persistent_keepalive: Option<Duration>) -> Self {
        let timers = Self {
            epoch,
            keepalive: Deadline::default(),
            silence: Deadline::default(),
            patience: KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter,
            last_sent: AtomicU64::new(epoch.nanos(now)),
            persistent_keepalive: AtomicU64::new(0),
        };
        timers.set_persistent_keepalive(persistent_keepalive);
        timers
    }

    pub(super) fn set_persistent_keepalive(&self, interval: Option<Duration>) {
        self.persistent_keepalive.store(interval.map_or(0, nanos), Ordering::Relaxed);
    }

    /// Anything authentic went to the peer.
    pub(super) fn sent(&self, now: Instant) {
        self.last_sent.store(self.epoch.nanos(now), Ordering::Relaxed);
        self.keepalive.stop();
    }

    pub(super) fn sent_data(&self, now: Instant) {
        self.sent(now);
        self.silence.start(self.epoch.nanos(now) + nanos(self.patience));
    }

    /// Anything authentic came from the peer.
    pub(super) fn received(&self) {
        self.silence.stop();
    }

    pub(super) fn received_data(&self, now: Instant) {
        self.received();
        self.keepalive.start(self.epoch.nanos(now) + nanos(KEEPALIVE_TIMEOUT));
    }

    /// Whether the peer has been silent for too long; said once.
    pub(super) fn is_peer_lost(&self, now: Instant) -> bool {
        self.silence.take(self.epoch.nanos(now))
    }

    /// Whether to answer by an empty packet; said once. An empty packet is no data, so two peers never keep each other
    /// talking.
    pub(super) fn is_keepalive_due(&self, now: Instant) -> bool {
        self.keepalive.take(self.epoch.nanos(now))
    }

    pub(super) fn is_persistent_keepalive_due(&self, now: Instant) -> bool {
        let interval = self.persistent_keepalive.load(Ordering::Relaxed);
        let silent = self.epoch.nanos(now).saturating_sub(self.last_sent.load(Ordering::Relaxed));
        interval != 0 && silent >= interval
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX >> 1)
}
