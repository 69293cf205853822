//! How often something may happen per source: token buckets in a bounded map.

use std::{collections::HashMap, hash::Hash, sync::Mutex, time::Duration};

use jiff::Timestamp;

/// Sources that are remembered at once; when all of them are busy, a newcomer is refused rather than memory spent.
const SOURCES: usize = 16_384;

/// `burst` at once, then one more `every` so often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateLimit {
    pub(crate) burst: u32,
    pub(crate) every: Duration,
}

impl RateLimit {
    /// A limiter that starts with full buckets.
    pub(crate) fn limiter<K>(self) -> Limiter<K> {
        Limiter { limit: self, full_at: Mutex::new(HashMap::new()) }
    }
}

/// Buckets by source. A bucket is the moment at which it is full again; one that is full is forgotten.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    limit: RateLimit,
    full_at: Mutex<HashMap<K, Timestamp>>,
}

impl<K: Hash + Eq> Limiter<K> {
    /// Takes one from the bucket of `source`; false if it was empty.
    pub(crate) fn take(&self, source: K, now: Timestamp) -> bool {
        let mut full_at = self.full_at.lock().expect("no holder of this lock panics");
        if full_at.len() >= SOURCES {
            full_at.retain(|_, full_at| *full_at > now);
        }
        let known = full_at.get(&source).copied();
        if !self.room(known, now) || (known.is_none() && full_at.len() >= SOURCES) {
            return false;
        }
        full_at.insert(source, known.unwrap_or(now).max(now) + self.limit.every);
        true
    }

    fn room(&self, full_at: Option<Timestamp>, now: Timestamp) -> bool {
        full_at.is_none_or(|full_at| full_at <= now + self.limit.every * (self.limit.burst - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_at_a_time_and_sources_do_not_disturb_each_other() {
        let limiter = RateLimit { burst: 3, every: Duration::from_secs(2) }.limiter();
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        assert!((0..3).all(|_| limiter.take("a", at(10))));
        assert!(!limiter.take("a", at(11)));
        assert!(limiter.take("b", at(11)));
        assert!(limiter.take("a", at(12)));
        assert!(!limiter.take("a", at(12)));
        assert!((0..3).all(|_| limiter.take("a", at(100))));
    }

    #[test]
    fn memory_is_bounded_and_full_buckets_are_forgotten() {
        let limiter = RateLimit { burst: 1, every: Duration::from_secs(1) }.limiter();
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        assert!((0..SOURCES).all(|source| limiter.take(source, at(0))));
        assert!(!limiter.take(SOURCES, at(0)));
        assert!(limiter.take(SOURCES, at(1)));
        assert_eq!(limiter.full_at.lock().expect("not poisoned").len(), 1);
    }
}
