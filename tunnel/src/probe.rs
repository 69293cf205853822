//! Probes: sealed datagrams of ours beside WireGuard's messages, by which a peer shows that it can be reached at an
//! endpoint, how far away that is and where it sees us. Only an answered challenge proves an endpoint.
//!
//! Nothing here moves a WireGuard endpoint, a timer or a window, and nothing decides when to probe: [`crate::Tunnel`] is
//! told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::datapath::Window;
use crate::discard::Discard;
use crate::host::Host;
use crate::key::PresharedKey;

mod endpoint;
mod keys;
mod wire;

pub use endpoint::Proof;
pub use wire::Urgency;

use endpoint::{Asked, Endpoint};
pub(crate) use keys::PairKeys;
use wire::Challenge;
pub(crate) use wire::{Body, MESSAGE_TYPE, MIN_LEN, Tag, Terms};

/// Endpoints of one peer that are remembered; as many as a host may tell of itself.
const MAX_ENDPOINTS: usize = 16;
/// Requests of a peer may overtake each other by this many words of 64: they take different ways to us.
const WINDOW_WORDS: usize = 4;

/// Replies per second to one source: a site of VMs behind one NAT that returns, each with several endpoints.
pub(crate) const REPLIES_PER_SECOND: u32 = 256;

/// UDP payload of the shortest request, and of its reply.
pub const PROBE_LEN: usize = MIN_LEN;

/// What to ask a peer.
#[derive(Debug, Clone, Copy)]
pub struct ProbeRequest<'a> {
    pub endpoints: &'a [SocketAddr],
    /// UDP payload of each request, padded to it; at least that of the shortest. Replies are never longer than that.
    pub size: usize,
    pub urgency: Urgency,
}

/// The probes of one peer, both ways.
pub(crate) struct Probes {
    keys: ArcSwap<PairKeys>,
    state: Mutex<State>,
}

struct State {
    is_enabled: bool,
    /// That the keys were made with.
    preshared_key: Option<PresharedKey>,
    /// Of the next request.
    counter: u64,
    /// Requests that came.
    received: Window<WINDOW_WORDS>,
    endpoints: Vec<Endpoint>,
}

/// What a probe means that was read.
pub(crate) enum Heard {
    /// To be answered.
    Request { challenge: Challenge, accepts: Duration, urgency: Urgency },
    /// The endpoint it came from is proved, by a request of `len` bytes.
    Answer { asked_at: Instant, len: usize, mapped: SocketAddr, terms: Terms },
}

impl Probes {
    /// `keys` were made with this preshared key.
    pub(crate) fn new(keys: PairKeys, preshared_key: Option<&PresharedKey>, is_enabled: bool) -> Self {
        let preshared_key = preshared_key.cloned();
        let state = State { is_enabled, preshared_key, counter: 0, received: Window::new(), endpoints: Vec::new() };
        Self { keys: ArcSwap::from_pointee(keys), state: Mutex::new(state) }
    }

    /// Takes the keys that another preshared key makes; what was asked under those of before is not answered any more.
    pub(crate) fn set_preshared_key(&self, preshared_key: Option<&PresharedKey>, keys: impl FnOnce() -> PairKeys) {
        let mut state = self.lock();
        if state.preshared_key.as_ref() != preshared_key {
            state.preshared_key = preshared_key.cloned();
            self.keys.store(Arc::new(keys()));
        }
    }

    /// By which the peer's probes are known.
    pub(crate) fn tag(&self) -> Tag {
        self.keys.load().incoming.tag
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.lock().is_enabled
    }

    pub(crate) fn enable(&self, is_enabled: bool) {
        let mut state = self.lock();
        if state.is_enabled && !is_enabled {
            state.endpoints = Vec::new();
        }
        state.is_enabled = is_enabled;
    }

    /// Writes a request for `to` that fills `datagram`; false if this peer is not probed.
    pub(crate) fn ask(
        &self,
        now: Instant,
        to: SocketAddr,
        (accepts, urgency): (Duration, Urgency),
        host: &Host,
        datagram: &mut [u8],
    ) -> Result<bool, Discard> {
        let challenge: Challenge = host.random();
        let mut state = self.lock();
        if !state.is_enabled {
            return Ok(false);
        }
        // The time at first, so that a restart does not begin below what was sent before; no microsecond has two.
        let begin = u64::try_from(host.epoch.time(now).as_micros()).unwrap_or(u64::MAX >> 1);
        let counter = if state.counter == 0 { begin } else { state.counter };
        state.counter = counter + 1;
        state.endpoint(now, to).ask(now, challenge, datagram.len());
        drop(state);
        wire::seal(
            &self.keys.load().outgoing,
            &host.random(),
            Body::Request { counter, challenge, accepts, urgency },
            datagram,
        )?;
        Ok(true)
    }

    /// Reads a probe that bears our tag; `probe` is of no use afterwards.
    pub(crate) fn open(&self, now: Instant, from: SocketAddr, probe: &mut [u8]) -> Result<Heard, Discard> {
        match wire::open(&self.keys.load().incoming, probe)? {
            Body::Request { counter, challenge, accepts, urgency } => {
                self.lock().take_request(counter).map(|()| Heard::Request { challenge, accepts, urgency })
            }
            Body::Reply { challenge, seen_from, terms } => {
                let asked = self.lock().take_reply(now, from, &challenge, seen_from)?;
                Ok(Heard::Answer { asked_at: asked.at, len: asked.len, mapped: seen_from, terms })
            }
        }
    }

    /// Writes the reply to a request that came from `to`; the result is its length.
    pub(crate) fn reply(
        &self,
        to: SocketAddr,
        challenge: Challenge,
        terms: Terms,
        host: &Host,
        datagram: &mut [u8],
    ) -> Result<usize, Discard> {
        let datagram = datagram.get_mut(..MIN_LEN).ok_or(Discard::Oversized)?;
        let body = Body::Reply { challenge, seen_from: to, terms };
        wire::seal(&self.keys.load().outgoing, &host.random(), body, datagram).map(|()| MIN_LEN)
    }

    /// What was proved, in the order of addresses.
    pub(crate) fn proofs(&self, now: Instant) -> Vec<Proof> {
        let mut proofs: Vec<_> = self.lock().endpoints.iter().filter_map(|endpoint| endpoint.proof(now)).collect();
        proofs.sort_by_key(|proof| proof.endpoint);
        proofs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The endpoint with this address. Of too many, the one that was not asked for the longest time is forgotten.
    fn endpoint(&mut self, now: Instant, address: SocketAddr) -> &mut Endpoint {
        let known = self.endpoints.iter().position(|endpoint| endpoint.address == address);
        let place = known.unwrap_or_else(|| {
            if self.endpoints.len() >= MAX_ENDPOINTS
                && let Some((oldest, _)) = self.endpoints.iter().enumerate().min_by_key(|(_, it)| it.asked_at)
            {
                self.endpoints.swap_remove(oldest);
            }
            self.endpoints.push(Endpoint::new(now, address));
            self.endpoints.len() - 1
        });
        &mut self.endpoints[place]
    }

    fn take_request(&mut self, counter: u64) -> Result<(), Discard> {
        if !self.is_enabled {
            return Err(Discard::UnknownTag);
        }
        if counter == u64::MAX {
            return Err(Discard::CounterExhausted);
        }
        self.received.accept(counter)
    }

    fn take_reply(
        &mut self,
        now: Instant,
        from: SocketAddr,
        challenge: &Challenge,
        mapped: SocketAddr,
    ) -> Result<Asked, Discard> {
        let asked = self.endpoints.iter_mut().find(|endpoint| endpoint.asked(challenge));
        let endpoint = asked.ok_or(Discard::UnexpectedReply)?;
        if endpoint.address != from {
            return Err(Discard::Redirected);
        }
        endpoint.answered(now, challenge, mapped).ok_or(Discard::UnexpectedReply)
    }
}
