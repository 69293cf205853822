//! What all interfaces of a host share and `tunnel` cannot have by itself: where time begins, and randomness.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::CryptoRng;

use crate::index::{SessionIndex, SessionIndices};

/// One moment on both clocks. From then on only the monotonic one is followed, so that no correction of the other makes
/// a handshake look old.
#[derive(Debug, Clone, Copy)]
pub struct Epoch {
    instant: Instant,
    /// Since 1970.
    time: Duration,
}

impl Epoch {
    pub fn new(instant: Instant, time: SystemTime) -> Self {
        Self { instant, time: time.duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    /// Since 1970.
    pub(crate) fn time(&self, now: Instant) -> Duration {
        self.time + now.saturating_duration_since(self.instant)
    }

    /// For atomics; never 0, which is free to mean "not set".
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.instant).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

pub(crate) struct Host {
    pub(crate) epoch: Epoch,
    pub(crate) indices: Arc<SessionIndices>,
    rng: Mutex<Box<dyn CryptoRng + Send>>,
}

impl Host {
    pub(crate) fn new(epoch: Epoch, rng: impl CryptoRng + Send + 'static) -> Self {
        Self { epoch, indices: Arc::default(), rng: Mutex::new(Box::new(rng)) }
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }

    pub(crate) fn assign_index(&self, peer: u32) -> SessionIndex {
        self.indices.assign(peer, &mut **self.rng.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
