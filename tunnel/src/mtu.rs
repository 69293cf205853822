//! What the path to a peer carries, found by probes of full length: the longest inner packet that reaches it whole.
//!
//! The data threads note what passes and read what is in force, without a lock. When to ask what is the [`search`]'s
//! business; a pair that exchanges no long packets asks nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::message::DATA_OVERHEAD;
use crate::probe;

mod search;
#[cfg(test)]
mod tests;
pub(crate) mod too_long;

use search::{FLOOR, Search, Seen};

/// The MTU of one peer's path.
#[derive(Default)]
pub(crate) struct PathMtu {
    /// 0: that of the interface.
    found: AtomicU16,
    sent_long: AtomicBool,
    received_long: AtomicBool,
    heard: AtomicBool,
    is_busy: AtomicBool,
    search: Mutex<Option<Searched>>,
}

struct Searched {
    endpoint: SocketAddr,
    /// The interface's.
    default: u16,
    search: Search,
}

/// Probes to send, all to one endpoint and whole: what no link on the way may cut.
pub(crate) struct Probing {
    pub(crate) to: SocketAddr,
    /// UDP payload of each; unused ones are zero.
    pub(crate) lens: [usize; 2],
}

impl PathMtu {
    /// The longest packet that is to be sent, if that is not what the interface has.
    pub(crate) fn found(&self) -> Option<u16> {
        Some(self.found.load(Ordering::Relaxed)).filter(|found| *found != 0)
    }

    /// Packets were sent, the longest of this length.
    pub(crate) fn note_sent(&self, longest: usize) {
        if longest > FLOOR.into() {
            note(&self.sent_long);
        }
    }

    /// A packet came, with its padding.
    pub(crate) fn note_received(&self, padded: usize) {
        if padded > 0 {
            note(&self.heard);
        }
        if padded > FLOOR.into() {
            note(&self.received_long);
        }
    }

    /// What to ask now. To be called every [`crate::TICK`]; `endpoint` is the one in use, if it answers probes;
    /// `default` the interface's MTU.
    pub(crate) fn due(
        &self,
        now: Instant,
        endpoint: impl FnOnce() -> Option<SocketAddr>,
        default: u16,
    ) -> Option<Probing> {
        let seen = Seen {
            sent_long: self.sent_long.swap(false, Ordering::Relaxed),
            received_long: self.received_long.swap(false, Ordering::Relaxed),
            heard: self.heard.swap(false, Ordering::Relaxed),
        };
        let is_long = seen.sent_long || seen.received_long;
        if !is_long && !seen.heard && !self.is_busy.load(Ordering::Relaxed) && self.found().is_none() {
            return None;
        }
        let to = endpoint()?;
        let mut searched = self.lock();
        if searched.is_none() && !is_long {
            return None;
        }
        let search = match searched.take() {
            Some(known) if known.default == default && known.endpoint == to => known.search,
            Some(known) if known.default == default => known.search.moved(now, to.ip()),
            _ => Search::new(now, to.ip(), default),
        };
        let searched = searched.insert(Searched { endpoint: to, default, search });
        let ask = searched.search.poll(now, seen);
        self.publish(searched);
        let ask = ask?;
        let small = if ask.with_small { probe::MIN_LEN } else { 0 };
        Some(Probing { to, lens: [usize::from(ask.size) + DATA_OVERHEAD, small] })
    }

    /// A request of `len` bytes to `endpoint` was answered.
    pub(crate) fn answered(&self, now: Instant, endpoint: SocketAddr, len: usize) {
        self.with(endpoint, |search| match packet_len(len) {
            Some(size) => search.answered(now, size),
            None => search.answered_small(now),
        });
    }

    /// Our own link does not take a request of `len` bytes in one piece.
    pub(crate) fn refused(&self, now: Instant, endpoint: SocketAddr, len: usize) {
        self.with(endpoint, |search| {
            if let Some(size) = packet_len(len) {
                search.refuse(now, size);
            }
        });
    }

    fn with(&self, endpoint: SocketAddr, act: impl FnOnce(&mut Search)) {
        let mut searched = self.lock();
        if let Some(searched) = searched.as_mut().filter(|searched| searched.endpoint == endpoint) {
            act(&mut searched.search);
            self.publish(searched);
        }
    }

    fn publish(&self, searched: &Searched) {
        let in_force = searched.search.in_force();
        self.found.store(if in_force == searched.default { 0 } else { in_force }, Ordering::Relaxed);
        self.is_busy.store(searched.search.is_busy(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Searched>> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The packet that makes a datagram of this length, unless it is the least probe.
fn packet_len(datagram: usize) -> Option<u16> {
    u16::try_from(datagram.checked_sub(DATA_OVERHEAD)?).ok().filter(|_| datagram > probe::MIN_LEN)
}

/// Written only if it changes, so that the data threads do not take the line from each other.
fn note(flag: &AtomicBool) {
    if !flag.load(Ordering::Relaxed) {
        flag.store(true, Ordering::Relaxed);
    }
}
