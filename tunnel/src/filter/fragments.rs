//! Datagrams whose first fragment was let through: the later ones carry no ports to be judged by.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::flow::Datagram;

/// Beyond this the oldest of the peer that has most of them is forgotten, so that no peer pushes out another's. Fragments of one datagram travel together, so few are open at any time; a full
/// list costs a look through 12 KB for every fragment, and nothing for what is whole.
const CAPACITY: usize = 256;
/// As long as a receiver waits for the rest (Linux: `ipfrag_time`).
const LIFETIME: Duration = Duration::from_secs(30);

/// Oldest first.
#[derive(Default)]
pub(super) struct Fragments(VecDeque<Admitted>);

struct Admitted {
    datagram: Datagram,
    /// Whose it is.
    peer: u32,
    since: Instant,
}

impl Fragments {
    pub(super) fn admit(&mut self, now: Instant, peer: u32, datagram: Datagram) {
        self.expire(now);
        if self.0.len() == CAPACITY {
            self.make_room();
        }
        self.0.push_back(Admitted { datagram, peer, since: now });
    }

    pub(super) fn is_admitted(&mut self, now: Instant, datagram: Datagram) -> bool {
        self.expire(now);
        self.0.iter().any(|known| known.datagram == datagram)
    }

    fn expire(&mut self, now: Instant) {
        while self.0.front().is_some_and(|oldest| now.saturating_duration_since(oldest.since) > LIFETIME) {
            self.0.pop_front();
        }
    }

    fn make_room(&mut self) {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for known in &self.0 {
            *counts.entry(known.peer).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(peer, _)| peer);
        if let Some(oldest) = self.0.iter().position(|known| Some(known.peer) == most) {
            self.0.remove(oldest);
        }
    }
}
