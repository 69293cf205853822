//! When the leases of this process end. Their keys are in the file; their time is not, because none outlives it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::raw::LeaseId;

/// The living leases.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    living: BTreeMap<LeaseId, Term>,
}

#[derive(Debug, Clone, Copy)]
struct Term {
    ttl: Duration,
    ends: Instant,
}

impl Leases {
    /// Begins a lease; `None` when the id is taken.
    pub(super) fn begin(&mut self, id: LeaseId, ttl: Duration, now: Instant) -> Option<LeaseId> {
        if self.living.contains_key(&id) {
            return None;
        }
        self.living.insert(id, Term { ttl, ends: now + ttl });
        Some(id)
    }

    /// Gives a lease its whole time again; false when it has none left.
    pub(super) fn renew(&mut self, id: LeaseId, now: Instant) -> bool {
        match self.living.get_mut(&id) {
            Some(term) => {
                term.ends = now + term.ttl;
                true
            }
            None => false,
        }
    }

    /// Ends a lease; false when it had ended.
    pub(super) fn end(&mut self, id: LeaseId) -> bool {
        self.living.remove(&id).is_some()
    }

    pub(super) fn is_living(&self, id: LeaseId) -> bool {
        self.living.contains_key(&id)
    }

    /// Those whose time is over.
    pub(super) fn overdue(&self, now: Instant) -> Vec<LeaseId> {
        self.living.iter().filter(|(_, term)| term.ends <= now).map(|(id, _)| *id).collect()
    }

    /// When the next one is.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.living.values().map(|term| term.ends).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(4);

    #[test]
    fn a_lease_ends_when_it_is_not_renewed() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        let id = leases.begin(LeaseId(1), TTL, start).unwrap();
        assert!(leases.renew(id, start + Duration::from_secs(3)));
        assert_eq!(leases.overdue(start + Duration::from_secs(6)), []);
        assert_eq!(leases.next_end(), Some(start + Duration::from_secs(7)));
        assert_eq!(leases.overdue(start + Duration::from_secs(7)), [id]);
    }

    #[test]
    fn an_ended_lease_cannot_be_renewed() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        let id = leases.begin(LeaseId(1), TTL, start).unwrap();
        assert!(leases.end(id));
        assert!(!leases.renew(id, start) && !leases.end(id) && !leases.is_living(id));
    }

    #[test]
    fn an_id_is_given_once() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        assert!(leases.begin(LeaseId(1), TTL, start).is_some());
        assert!(leases.begin(LeaseId(1), TTL, start).is_none());
    }
}
