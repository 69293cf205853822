//! How much each source address has asked of us in the present second: a bounded table, so that a flood from ever new
//! addresses costs memory no more than a flood from one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sources measured at a time.
pub(crate) const MAX_SOURCES: usize = 4096;

#[derive(Default)]
pub(crate) struct Sources(HashMap<IpAddr, u32>);

impl Sources {
    /// Counts one more from `from`; false beyond `limit`, or if it is new and the table is full.
    pub(crate) fn has_room(&mut self, from: IpAddr, limit: u32) -> bool {
        let source = network(from);
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
            return false;
        }
        let count = self.0.entry(source).or_default();
        *count = count.saturating_add(1);
        *count <= limit
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Bounds what is answered: so much a second for each source.
pub(crate) struct PerSecond {
    limit: u32,
    period: Mutex<(Option<Instant>, Sources)>,
}

impl PerSecond {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, period: Mutex::default() }
    }

    pub(crate) fn admits(&self, now: Instant, from: IpAddr) -> bool {
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        if period.0.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            *period = (Some(now), Sources::default());
        }
        period.1.has_room(from, self.limit)
    }
}

/// Who has one IPv6 address has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
