//! What probes have shown of one endpoint of a peer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::wire::Challenge;

/// An answer that comes later tells nothing of the path as it is now.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Requests under way to one endpoint; one more takes the place of the oldest. Long and short ones go together when it is
/// found out what the path carries, and many when it is doubted.
const OUTSTANDING: usize = 16;

/// What an answered probe has shown of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    pub endpoint: SocketAddr,
    /// How long ago the answer came.
    pub age: Duration,
    /// Smoothed over the answers (RFC 6298 §2).
    pub rtt: Duration,
    /// Where the peer saw our request come from.
    pub mapped: SocketAddr,
    /// The longest request that was answered, as UDP payload.
    pub longest: usize,
}

pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) asked_at: Instant,
    outstanding: [Option<Asked>; OUTSTANDING],
    proved: Option<Proved>,
}

/// A request.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    challenge: Challenge,
    pub(super) at: Instant,
    /// UDP payload.
    pub(super) len: usize,
}

#[derive(Clone, Copy)]
struct Proved {
    at: Instant,
    rtt: Duration,
    mapped: SocketAddr,
    longest: usize,
}

impl Endpoint {
    pub(super) fn new(now: Instant, address: SocketAddr) -> Self {
        Self { address, asked_at: now, outstanding: [None; OUTSTANDING], proved: None }
    }

    /// Notes a request of `len` bytes.
    pub(super) fn ask(&mut self, now: Instant, challenge: Challenge, len: usize) {
        self.asked_at = now;
        self.outstanding.rotate_right(1);
        self.outstanding[0] = Some(Asked { challenge, at: now, len });
    }

    pub(super) fn asked(&self, challenge: &Challenge) -> bool {
        self.outstanding.iter().flatten().any(|asked| asked.challenge == *challenge)
    }

    /// Takes an answer that came from here, and tells to what; nothing if that was asked too long ago. No challenge is
    /// answered twice.
    pub(super) fn answered(&mut self, now: Instant, challenge: &Challenge, mapped: SocketAddr) -> Option<Asked> {
        let place = self.outstanding.iter_mut().find(|asked| asked.is_some_and(|asked| asked.challenge == *challenge));
        let asked = place.and_then(Option::take)?;
        let rtt = now.saturating_duration_since(asked.at);
        if rtt > ANSWER_WITHIN {
            return None;
        }
        let (rtt, longest) = match self.proved {
            Some(before) => ((7 * before.rtt + rtt) / 8, before.longest.max(asked.len)),
            None => (rtt, asked.len),
        };
        self.proved = Some(Proved { at: now, rtt, mapped, longest });
        Some(asked)
    }

    pub(super) fn proof(&self, now: Instant) -> Option<Proof> {
        let Proved { at, rtt, mapped, longest } = self.proved?;
        let age = now.saturating_duration_since(at);
        Some(Proof { endpoint: self.address, age, rtt, mapped, longest })
    }
}
