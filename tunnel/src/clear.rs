//! Clear frames: packets that travel unsealed between two peers that stand in a scope which both trust, and when they
//! may. What is trusted is told from outside; here is what else must hold.
//!
//! Out: the endpoint in use has answered a sealed probe lately, and the other side said with it that it accepts clear
//! frames from us. In: the source is an endpoint that has answered ours. Both ends also bear a token, which only sealed
//! probes tell and which is another one after a restart of either. A frame moves no endpoint, no timer and no window of a
//! session.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::datapath::Window;
use crate::discard::Discard;
use crate::engine::{Opened, Run};
use crate::index::Receiver;
use crate::probe::Terms;
use crate::train::Train;

pub(crate) mod frame;

use frame::Token;

/// How long an answered probe vouches for its endpoint.
const PROVED_FOR: Duration = Duration::from_secs(10);
/// How often an endpoint with traffic is asked: two answers may be lost before clear frames end.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// How soon it may be asked out of turn, because something has changed.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How packets to a peer travel now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Clear,
    Sealed(Obstacle),
}

/// Why packets are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The endpoint in use is none of [`crate::PeerConfig::trusted_endpoints`].
    Untrusted,
    /// It has answered no probe in the last 10 s, or there is no session; without traffic it is not asked.
    Unproved,
    /// The peer does not accept clear frames.
    Unaccepted,
}

/// The clear frames of one peer, both ways.
pub(crate) struct Clear {
    /// By which the peer finds us in what it is sent; see [`Terms`].
    number: u32,
    epoch: Token,
    /// Of the next frame. It never begins anew under the same epoch.
    counter: AtomicU64,
    outgoing: ArcSwapOption<Outgoing>,
    incoming: ArcSwapOption<Incoming>,
    /// Packets passed since the endpoint was asked last.
    has_traffic: AtomicBool,
    /// Whether there is an errand.
    has_errand: AtomicBool,
    state: Mutex<State>,
}

/// Leave to send frames.
struct Outgoing {
    to: SocketAddr,
    until: Instant,
    receiver: u32,
    token: Token,
}

/// Whose frames are accepted.
struct Incoming {
    from: SocketAddr,
    until: Instant,
    exchange: Arc<Exchange>,
}

/// Frames between one run of the peer and one of ours.
struct Exchange {
    token: Token,
    received: Mutex<Window>,
}

#[derive(Default)]
struct State {
    trusted: Box<[SocketAddr]>,
    asked_at: Option<Instant>,
    /// Whom to ask out of turn, and when.
    errand: Option<(Instant, SocketAddr)>,
    /// The last one there was.
    exchange: Option<Arc<Exchange>>,
}

impl Clear {
    /// `number` is the peer's on this host; `epoch` is random.
    pub(crate) fn new(number: u32, epoch: Token, trusted: &[SocketAddr]) -> Self {
        Self {
            number,
            epoch,
            counter: AtomicU64::new(0),
            outgoing: ArcSwapOption::empty(),
            incoming: ArcSwapOption::empty(),
            has_traffic: AtomicBool::new(false),
            has_errand: AtomicBool::new(false),
            state: Mutex::new(State { trusted: trusted.into(), ..State::default() }),
        }
    }

    /// Where the peer may stand for clear frames; what is no longer trusted ends at once.
    pub(crate) fn trust(&self, now: Instant, endpoints: &[SocketAddr]) {
        let mut state = self.lock();
        if *state.trusted == *endpoints {
            return;
        }
        state.trusted = endpoints.into();
        if self.outgoing.load().as_ref().is_some_and(|outgoing| !state.trusts(outgoing.to)) {
            self.outgoing.store(None);
        }
        let revoked = self.incoming.load_full().filter(|incoming| !state.trusts(incoming.from));
        if let Some(incoming) = revoked {
            self.incoming.store(None);
            // The peer may be sending: it is told.
            self.send(&mut state, now, incoming.from);
        }
    }

    /// Writes the packets of `train` as frames for `to`; false if they have to be sealed.
    pub(crate) fn write_train(
        &self,
        now: Instant,
        to: SocketAddr,
        train: &mut Train<'_>,
        has_session: impl FnOnce() -> bool,
    ) -> bool {
        let outgoing = self.outgoing.load();
        let Some(outgoing) = outgoing.as_ref().filter(|outgoing| outgoing.is_for(now, to)) else { return false };
        if !has_session() {
            return false;
        }
        let first = self.counter.fetch_add(train.len() as u64, Ordering::Relaxed);
        let receiver = train.addressed_to(Receiver::Number(outgoing.receiver));
        for (counter, datagram) in (first..).zip(train.datagrams_mut()) {
            frame::write(datagram, receiver, counter, &outgoing.token);
        }
        true
    }

    /// Takes a run of frames. `check` says whether this peer may send a packet, before its counter is taken note of;
    /// `taken` hears of each in its order.
    pub(crate) fn take_run(
        &self,
        now: Instant,
        from: SocketAddr,
        run: &Run<'_>,
        mut check: impl FnMut(&[u8]) -> Result<(), Discard>,
        taken: &mut dyn FnMut(Result<Opened<'_>, Discard>),
    ) {
        let incoming = self.incoming.load();
        let frames = run.datagrams.chunks(run.stride).enumerate();
        let Some(incoming) = incoming.as_ref().filter(|incoming| incoming.is_from(now, from)) else {
            let reason = self.refuse(now, from, run);
            return frames.for_each(|_| taken(Err(reason)));
        };
        let mut is_ours = false;
        let mut window = incoming.exchange.received.lock().unwrap_or_else(PoisonError::into_inner);
        for (position, datagram) in frames {
            let result = frame::read(datagram, &incoming.exchange.token).and_then(|(counter, packet)| {
                is_ours = true;
                check(packet)?;
                window.accept(counter)?;
                Ok(Opened { at: position * run.stride + frame::HEADER_LEN, packet })
            });
            taken(result);
        }
        drop(window);
        if is_ours {
            self.note_traffic();
        }
    }

    /// Notes that the pair has something to say to each other.
    pub(crate) fn note_traffic(&self) {
        if !self.has_traffic.load(Ordering::Relaxed) {
            self.has_traffic.store(true, Ordering::Relaxed);
        }
    }

    /// Whom to ask now. An idle pair asks nothing.
    pub(crate) fn due(&self, now: Instant, endpoint: impl FnOnce() -> Option<SocketAddr>) -> Option<SocketAddr> {
        if !self.has_traffic.load(Ordering::Relaxed) && !self.has_errand.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        let to = match state.errand.take_if(|(at, _)| *at <= now) {
            Some((_, to)) => {
                self.has_errand.store(false, Ordering::Relaxed);
                to
            }
            None => endpoint()
                .filter(|to| state.trusts(*to) && state.since_asked(now) >= ASK_EVERY)
                .filter(|_| self.has_traffic.swap(false, Ordering::Relaxed))?,
        };
        state.asked_at = Some(now);
        Some(to)
    }

    /// Whether frames from there are accepted.
    pub(crate) fn is_proved(&self, now: Instant, endpoint: SocketAddr) -> bool {
        self.incoming.load().as_ref().is_some_and(|incoming| incoming.is_from(now, endpoint))
    }

    /// For how long we accept frames from an endpoint.
    pub(crate) fn accepts(&self, now: Instant, from: SocketAddr) -> Duration {
        let incoming = self.incoming.load();
        let incoming = incoming.as_ref().filter(|incoming| incoming.is_from(now, from));
        incoming.map_or(Duration::ZERO, |incoming| incoming.until.saturating_duration_since(now))
    }

    /// What a reply tells an endpoint of the peer.
    pub(crate) fn terms(&self, now: Instant, to: SocketAddr) -> Terms {
        let next = self.counter.load(Ordering::Relaxed);
        Terms { accepts: self.accepts(now, to), receiver: self.number, epoch: self.epoch, next }
    }

    /// The peer has asked us, and said whether it accepts frames from us.
    pub(crate) fn asked(&self, now: Instant, from: SocketAddr, accepts: Duration) {
        let mut state = self.lock();
        let is_leave = self.outgoing.load().as_ref().is_some_and(|outgoing| outgoing.is_for(now, from));
        if is_leave && accepts.is_zero() {
            self.outgoing.store(None);
        }
        // What it refused before it may grant now that it has looked for us.
        if state.trusts(from) && (!is_leave || accepts.is_zero()) {
            let at = state.next_ask(now);
            self.send(&mut state, at, from);
        }
    }

    /// An endpoint has answered what it was asked at `asked_at`.
    pub(crate) fn proved(&self, now: Instant, endpoint: SocketAddr, asked_at: Instant, terms: Terms) {
        let mut state = self.lock();
        if !state.trusts(endpoint) {
            return;
        }
        let token = frame::token(&self.epoch, &terms.epoch);
        let known = state.exchange.take().filter(|exchange| exchange.token == token);
        let exchange = known.unwrap_or_else(|| Arc::new(Exchange { token, received: Mutex::new(Window::new()) }));
        // Who forged a frame may have spent counters that the peer has yet to use.
        let mut window = exchange.received.lock().unwrap_or_else(PoisonError::into_inner);
        if !window.reaches(terms.next) {
            *window = Window::starting_at(terms.next);
        }
        drop(window);
        state.exchange = Some(exchange.clone());
        self.incoming.store(Some(Arc::new(Incoming { from: endpoint, until: now + PROVED_FOR, exchange })));
        // Counted from before the peer said it, so that leave ends here before it ends there.
        let until = asked_at + terms.accepts.min(PROVED_FOR);
        let outgoing = Outgoing { to: endpoint, until, receiver: terms.receiver, token };
        self.outgoing.store((!terms.accepts.is_zero()).then(|| Arc::new(outgoing)));
    }

    /// The peer has begun a session, perhaps because it has begun anew: until it says so again, it accepts nothing.
    pub(crate) fn session_began(&self, now: Instant) {
        if let Some(outgoing) = self.outgoing.swap(None) {
            self.send(&mut self.lock(), now, outgoing.to);
        }
    }

    pub(crate) fn transport(&self, now: Instant, endpoint: Option<SocketAddr>, has_session: bool) -> Transport {
        let Some(endpoint) = endpoint.filter(|endpoint| self.lock().trusts(*endpoint)) else {
            return Transport::Sealed(Obstacle::Untrusted);
        };
        let is_leave = self.outgoing.load().as_ref().is_some_and(|outgoing| outgoing.is_for(now, endpoint));
        let is_proved = self.is_proved(now, endpoint);
        match (is_leave && has_session, is_proved && has_session) {
            (true, _) => Transport::Clear,
            (false, true) => Transport::Sealed(Obstacle::Unaccepted),
            (false, false) => Transport::Sealed(Obstacle::Unproved),
        }
    }

    /// Why frames from there are not taken. A sender that knows the token believes that they are, and is told.
    fn refuse(&self, now: Instant, from: SocketAddr, run: &Run<'_>) -> Discard {
        let mut state = self.lock();
        let first = &run.datagrams[..run.stride.min(run.datagrams.len())];
        if state.exchange.as_ref().is_some_and(|exchange| frame::read(first, &exchange.token).is_ok()) {
            let at = state.next_ask(now);
            self.send(&mut state, at, from);
        }
        if state.trusts(from) { Discard::ClearUnproved } else { Discard::ClearRefused }
    }

    /// Has a request sent to `to`, unless another errand is waiting already.
    fn send(&self, state: &mut State, at: Instant, to: SocketAddr) {
        if state.errand.is_none_or(|(before, _)| at < before) {
            state.errand = Some((at, to));
            self.has_errand.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn trusts(&self, endpoint: SocketAddr) -> bool {
        self.trusted.contains(&endpoint)
    }

    fn since_asked(&self, now: Instant) -> Duration {
        self.asked_at.map_or(Duration::MAX, |at| now.saturating_duration_since(at))
    }

    /// When the peer may be asked out of turn.
    fn next_ask(&self, now: Instant) -> Instant {
        self.asked_at.map_or(now, |at| at + ASK_AGAIN_AFTER).max(now)
    }
}

impl Outgoing {
    fn is_for(&self, now: Instant, endpoint: SocketAddr) -> bool {
        self.to == endpoint && now < self.until
    }
}

impl Incoming {
    fn is_from(&self, now: Instant, endpoint: SocketAddr) -> bool {
        self.from == endpoint && now < self.until
    }
}
