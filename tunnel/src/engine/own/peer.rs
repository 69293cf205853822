//! One peer: when to begin a handshake, when to repeat it, when to give up, and which packets wait for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::cookie::{MACS_LEN, MacWriter};
use super::noise::{INITIATION_LEN, Identity, Initiated, Keys, RESPONSE_LEN, Timestamp};
use super::sessions::Sessions;
use super::timers::{KEEPALIVE_TIMEOUT, Timers};
use crate::datapath::{Keypair, REJECT_AFTER_TIME, Role, SessionKeys};
use crate::discard::Discard;
use crate::engine::{Direction, Initiation, Opened, PeerEngine, PeerParameters, Run, Sealed};
use crate::index::SessionIndex;
use crate::key::{PresharedKey, PublicKey};
use crate::message::{
    DATA_OVERHEAD, HANDSHAKE_INITIATION_LEN, HANDSHAKE_RESPONSE_LEN, Message, sender_index, write_head,
};
use crate::train::Train;

/// How long an unanswered initiation stands before the next (whitepaper §6.1), but for [`FIRST_RETRIES`].
pub(super) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Up to this much is added, so that two peers do not repeat in step.
const MAX_JITTER: Duration = Duration::from_millis(333);
/// How long a handshake is tried.
const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// How long the first initiations of a handshake stand unanswered. One lost datagram, or one that came before the other
/// side knew us or its NAT let us in, must not cost a whole [`REKEY_TIMEOUT`].
const FIRST_RETRIES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// A handshake started within this time is still under way, even around the world.
const MIN_INITIATION_INTERVAL: Duration = Duration::from_millis(250);
/// An initiator that only receives renews a session that is this old, in time before the sender must stop.
const RENEW_RECEIVING_AFTER: Duration =
    REJECT_AFTER_TIME.saturating_sub(KEEPALIVE_TIMEOUT).saturating_sub(REKEY_TIMEOUT);
/// What waits for a session: as much as one train.
const MAX_QUEUED_BYTES: usize = 1 << 16;

pub(super) struct OwnPeer {
    identity: Arc<Identity>,
    public_key: PublicKey,
    number: u32,
    sessions: ArcSwap<Sessions>,
    timers: Timers,
    /// Whether the queue is worth a look.
    is_waiting: AtomicBool,
    state: Mutex<State>,
}

/// What handshakes change. Data threads come here only without a session, or when it is renewed.
struct State {
    preshared_key: Option<PresharedKey>,
    macs: MacWriter,
    initiated: Option<Box<Pending>>,
    attempt: Option<Attempt>,
    last_initiation: Option<Instant>,
    last_timestamp: Timestamp,
    /// Of the newest initiation that we received.
    newest_timestamp: Timestamp,
    last_handshake: Option<Instant>,
    /// Padded packets.
    queue: VecDeque<Box<[u8]>>,
    queued_bytes: usize,
}

/// An initiation that stands unanswered.
struct Pending {
    noise: Initiated,
    index: SessionIndex,
}

/// A handshake that is tried again and again.
struct Attempt {
    since: Instant,
    initiations: usize,
    retry_at: Instant,
}

impl OwnPeer {
    pub(super) fn new(now: Instant, identity: Arc<Identity>, parameters: PeerParameters) -> Self {
        let PeerParameters { public_key, preshared_key, persistent_keepalive, number } = parameters;
        let timers = Timers::new(now, identity.host.epoch, jitter(&identity), persistent_keepalive);
        let state = State {
            preshared_key,
            macs: MacWriter::new(&public_key),
            initiated: None,
            attempt: None,
            last_initiation: None,
            last_timestamp: Timestamp::default(),
            newest_timestamp: Timestamp::default(),
            last_handshake: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
        };
        Self {
            identity,
            public_key,
            number,
            sessions: ArcSwap::default(),
            timers,
            is_waiting: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the session to send under, if there is one.
    fn with_current<T>(&self, now: Instant, act: impl FnOnce(&Keypair) -> T) -> Option<T> {
        self.sessions.load().current().filter(|keypair| keypair.is_alive(now)).map(|keypair| act(keypair))
    }

    /// Seals a train under the current session; false if there is none.
    fn seal_now(&self, now: Instant, train: &mut Train<'_>) -> bool {
        let sealed = self.with_current(now, |keypair| keypair.seal_train(train).is_ok()).unwrap_or(false);
        if sealed {
            self.timers.sent_data(now);
        }
        sealed
    }

    /// Seals one padded packet under the current session.
    fn seal_one(&self, now: Instant, packet: &[u8], datagram: &mut [u8]) -> Option<usize> {
        let mut train = Train::padded_already(datagram);
        if !train.push(packet) {
            return None;
        }
        self.with_current(now, |keypair| keypair.seal_train(&mut train))?.ok()?;
        let len = train.datagrams().len();
        if packet.is_empty() {
            self.timers.sent(now)
        } else {
            self.timers.sent_data(now)
        }
        Some(len)
    }

    /// Begins or repeats a handshake: writes an initiation.
    fn start_handshake(&self, now: Instant, state: &mut State, message: &mut [u8]) -> Option<usize> {
        let message = message.get_mut(..HANDSHAKE_INITIATION_LEN)?;
        let host = &self.identity.host;
        let timestamp = later(tai64n(host.epoch.time(now)), state.last_timestamp);
        let index = host.assign_index(self.number);
        write_head(message, 1, &index.value().to_le_bytes());
        let noise = &mut message[8..8 + INITIATION_LEN];
        let initiated = self.identity.initiate(&self.public_key, state.preshared_key.as_ref(), &timestamp, noise);
        let pending = Pending { noise: initiated.ok()?, index };
        state.macs.write(now, message);
        state.last_timestamp = timestamp;
        state.last_initiation = Some(now);
        state.initiated = Some(Box::new(pending));
        let (since, initiations) = state.attempt.as_ref().map_or((now, 1), |it| (it.since, it.initiations + 1));
        let stands = FIRST_RETRIES.get(initiations - 1).copied();
        let retry_at = now + stands.unwrap_or_else(|| REKEY_TIMEOUT + jitter(&self.identity));
        state.attempt = Some(Attempt { since, initiations, retry_at });
        self.timers.sent(now);
        Some(HANDSHAKE_INITIATION_LEN)
    }

    /// Starts a handshake unless one is under way.
    fn start_if_idle(&self, now: Instant, state: &mut State, message: &mut [u8]) -> Option<usize> {
        if state.attempt.is_some() { None } else { self.start_handshake(now, state, message) }
    }

    fn accept(&self, now: Instant, keys: &Keys, role: Role, index: SessionIndex, remote_index: u32) {
        let keys = SessionKeys { send: &keys.send, receive: &keys.receive, remote_index, role };
        let sessions = self.sessions.load().with(Keypair::new(now, index, &keys));
        self.sessions.store(Arc::new(sessions));
        self.timers.received();
    }

    /// The peer has used the session that we answered for: it is ours to use as well.
    fn confirm(&self, now: Instant, keypair: &Arc<Keypair>) {
        let mut state = self.lock();
        if let Some(sessions) = self.sessions.load().confirmed(keypair) {
            self.sessions.store(Arc::new(sessions));
            state.completed(now);
        }
    }

    fn retry(&self, now: Instant, state: &mut State, message: &mut [u8]) -> Option<usize> {
        let attempt = state.attempt.as_ref().filter(|attempt| attempt.retry_at <= now)?;
        if now.saturating_duration_since(attempt.since) < REKEY_ATTEMPT_TIME {
            return self.start_handshake(now, state, message);
        }
        state.give_up();
        None
    }
}

impl PeerEngine for OwnPeer {
    fn seal_train(&self, now: Instant, train: &mut Train<'_>) -> Result<Sealed, Discard> {
        if self.seal_now(now, train) {
            return Ok(Sealed::Ready);
        }
        let mut state = self.lock();
        // A session may have come meanwhile, and nobody would look into the queue again.
        if self.seal_now(now, train) {
            return Ok(Sealed::Ready);
        }
        self.is_waiting.store(true, Ordering::Relaxed);
        train.padded_packets().try_for_each(|packet| state.enqueue(packet))?;
        Ok(Sealed::Waiting)
    }

    fn open_run(&self, now: Instant, run: Run<'_>, opened: &mut dyn FnMut(Result<Opened<'_>, Discard>)) {
        let Run { receiver_index, datagrams, stride } = run;
        let sessions = self.sessions.load();
        let keypair = match sessions.find(receiver_index) {
            Some(keypair) if keypair.is_alive(now) => keypair,
            found => {
                let reason = if found.is_some() { Discard::NoSession } else { Discard::UnknownIndex };
                return datagrams.chunks(stride).for_each(|_| opened(Err(reason)));
            }
        };
        let (mut authentic, mut data) = (false, false);
        keypair.open_run(datagrams, stride, |result| {
            authentic |= result.is_ok();
            data |= result.as_ref().is_ok_and(|opened| !opened.packet.is_empty());
            opened(result);
        });
        if authentic && sessions.is_next(keypair) {
            self.confirm(now, keypair);
        }
        match (authentic, data) {
            (_, true) => self.timers.received_data(now),
            (true, false) => self.timers.received(),
            (false, false) => {}
        }
    }

    fn respond(
        &self,
        now: Instant,
        message: &[u8],
        initiation: Initiation,
        answer: &mut [u8],
    ) -> Result<Option<usize>, Discard> {
        let consumed = initiation.noise.ok_or(Discard::NotAuthentic)?;
        let remote_index = sender_index(message).ok_or(Discard::Malformed)?;
        let answer = answer.get_mut(..HANDSHAKE_RESPONSE_LEN).ok_or(Discard::Oversized)?;
        let mut state = self.lock();
        if consumed.timestamp <= state.newest_timestamp {
            return Err(Discard::StaleHandshake);
        }
        state.newest_timestamp = consumed.timestamp;
        let index = self.identity.host.assign_index(self.number);
        write_head(answer, 2, &index.value().to_le_bytes());
        answer[8..12].copy_from_slice(&remote_index.to_le_bytes());
        let keys = consumed.respond(state.preshared_key.as_ref(), &mut answer[12..12 + RESPONSE_LEN])?;
        state.macs.write(now, answer);
        self.accept(now, &keys, Role::Responder, index, remote_index);
        self.timers.sent(now);
        Ok(Some(HANDSHAKE_RESPONSE_LEN))
    }

    fn handle_reply(&self, now: Instant, message: &[u8], answer: &mut [u8]) -> Result<Option<usize>, Discard> {
        let mut state = self.lock();
        match Message::parse(message)? {
            Message::CookieReply { .. } => return state.macs.take_cookie(now, message).map(|()| None),
            Message::HandshakeResponse { receiver_index } => {
                let mut pending = state
                    .initiated
                    .take_if(|pending| pending.index.value() == receiver_index)
                    .ok_or(Discard::UnexpectedReply)?;
                let noise = &message[12..HANDSHAKE_RESPONSE_LEN - MACS_LEN];
                let remote_index = sender_index(message).ok_or(Discard::Malformed)?;
                match pending.noise.finish(noise) {
                    Ok(keys) => self.accept(now, &keys, Role::Initiator, pending.index, remote_index),
                    Err(reason) => {
                        // A forger must not end a handshake: the true response may still come.
                        state.initiated = Some(pending);
                        return Err(reason);
                    }
                }
                state.completed(now);
            }
            _ => return Err(Discard::UnexpectedReply),
        }
        // The responder may send only once it has heard us.
        let queued = !state.queue.is_empty();
        drop(state);
        Ok(if queued { None } else { self.keepalive(now, answer) })
    }

    fn has_queued(&self, now: Instant) -> bool {
        self.is_waiting.load(Ordering::Relaxed) && self.has_session(now)
    }

    fn seal_queued(&self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        let packet = state.dequeue();
        self.is_waiting.store(!state.queue.is_empty(), Ordering::Relaxed);
        drop(state);
        self.seal_one(now, &packet?, datagram)
    }

    fn renew(&self, now: Instant, direction: Direction, message: &mut [u8]) -> Option<usize> {
        let is_due = self.with_current(now, |keypair| match direction {
            Direction::Sent => keypair.is_worn(now),
            Direction::Received => keypair.role() == Role::Initiator && keypair.age(now) >= RENEW_RECEIVING_AFTER,
        });
        if is_due.unwrap_or(direction == Direction::Sent) {
            self.start_if_idle(now, &mut self.lock(), message)
        } else {
            None
        }
    }

    fn initiate(&self, now: Instant, message: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        if state.since_initiation(now) < MIN_INITIATION_INTERVAL {
            return None;
        }
        state.attempt = None;
        self.start_handshake(now, &mut state, message)
    }

    fn keepalive(&self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        self.seal_one(now, &[], datagram.get_mut(..DATA_OVERHEAD)?)
    }

    fn handle_timeout(&self, now: Instant, message: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        if let Some(sessions) = self.sessions.load().without_dead(now) {
            self.sessions.store(Arc::new(sessions));
        }
        // The other side's handshake was completed instead, and no response can be under way any more.
        if state.attempt.is_none() && state.since_initiation(now) >= REKEY_TIMEOUT {
            state.initiated = None;
        }
        if let Some(len) = self.retry(now, &mut state, message) {
            return Some(len);
        }
        if self.timers.is_peer_lost(now)
            && let Some(len) = self.start_if_idle(now, &mut state, message)
        {
            return Some(len);
        }
        if !self.timers.is_keepalive_due(now) && !self.timers.is_persistent_keepalive_due(now) {
            return None;
        }
        // A peer that must stay reachable is never given up: without a session, a handshake is begun again.
        let is_worn = self.with_current(now, |keypair| keypair.is_worn(now)).unwrap_or(true);
        match is_worn.then(|| self.start_if_idle(now, &mut state, message)).flatten() {
            None => self.keepalive(now, message),
            started => started,
        }
    }

    fn set_persistent_keepalive(&self, interval: Option<Duration>) {
        self.timers.set_persistent_keepalive(interval);
    }

    fn has_session(&self, now: Instant) -> bool {
        self.with_current(now, |_| ()).is_some()
    }

    fn set_preshared_key(&self, key: Option<&PresharedKey>) -> bool {
        let mut state = self.lock();
        if state.preshared_key.as_ref() != key {
            state.preshared_key = key.cloned();
            // Its answer would make a session with the key of before; the next one is due soon.
            state.initiated = None;
        }
        true
    }

    fn last_handshake(&self) -> Option<Instant> {
        self.lock().last_handshake
    }
}

impl State {
    fn since_initiation(&self, now: Instant) -> Duration {
        self.last_initiation.map_or(Duration::MAX, |last| now.saturating_duration_since(last))
    }

    fn completed(&mut self, now: Instant) {
        self.last_handshake = Some(now);
        self.attempt = None;
    }

    fn give_up(&mut self) {
        self.attempt = None;
        self.initiated = None;
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
    }

    fn enqueue(&mut self, packet: &[u8]) -> Result<(), Discard> {
        if self.queued_bytes + packet.len() > MAX_QUEUED_BYTES {
            return Err(Discard::NoSession);
        }
        self.queued_bytes += packet.len();
        self.queue.push_back(packet.into());
        Ok(())
    }

    fn dequeue(&mut self) -> Option<Box<[u8]>> {
        let packet = self.queue.pop_front()?;
        self.queued_bytes -= packet.len();
        if self.queue.is_empty() {
            // Not even its room is kept: most peers wait once.
            self.queue = VecDeque::new();
        }
        Some(packet)
    }
}

fn jitter(identity: &Identity) -> Duration {
    MAX_JITTER * u32::from(u16::from_le_bytes(identity.host.random())) / u32::from(u16::MAX)
}

/// The label of a moment since 1970, as leap seconds were then.
fn tai64n(time: Duration) -> Timestamp {
    let mut label = Timestamp::default();
    label[..8].copy_from_slice(&((1 << 62) + 10 + time.as_secs()).to_be_bytes());
    label[8..].copy_from_slice(&time.subsec_nanos().to_be_bytes());
    label
}

/// `timestamp`, or what comes right after `last` if that is later: the peer takes no equal one.
fn later(timestamp: Timestamp, last: Timestamp) -> Timestamp {
    if timestamp > last {
        return timestamp;
    }
    let mut bytes = [0; 16];
    bytes[4..].copy_from_slice(&last);
    let after = u128::from_be_bytes(bytes) + 1;
    let mut label = Timestamp::default();
    label.copy_from_slice(&after.to_be_bytes()[4..]);
    label
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn timestamps_only_rise(times in prop::collection::vec(0u64..5_000_000_000, 1..20)) {
            let mut last = Timestamp::default();
            for nanos in times {
                let next = later(tai64n(Duration::from_nanos(nanos)), last);
                prop_assert!(next > last);
                last = next;
            }
        }
    }

    #[test]
    fn a_label_counts_from_1970_in_tai() {
        let label = tai64n(Duration::new(1, 2));
        assert_eq!(label, [0x40, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 2]);
    }
}
