//! Datagrams whose first fragment was let through: the later ones carry no ports to be judged by.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::flow::Datagram;

/// Beyond this the oldest is forgotten. Fragments of one datagram travel together, so few are open at any time; a full
/// list costs a look through 12 KB for every fragment, and nothing for what is whole.
const CAPACITY: usize = 256;
/// As long as a receiver waits for the rest (Linux: `ipfrag_time`).
const LIFETIME: Duration = Duration::from_secs(30);

/// Oldest first.
#[derive(Default)]
pub(super) struct Fragments(VecDeque<(Datagram, Instant)>);

impl Fragments {
    pub(super) fn admit(&mut self, now: Instant, datagram: Datagram) {
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back((datagram, now));
    }

    pub(super) fn is_admitted(&mut self, now: Instant, datagram: Datagram) -> bool {
        while self.0.front().is_some_and(|(_, since)| now.saturating_duration_since(*since) > LIFETIME) {
            self.0.pop_front();
        }
        self.0.iter().any(|(known, _)| *known == datagram)
    }
}
