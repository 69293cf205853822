//! Transport: packets of a session, sealed and opened in place, train by train (whitepaper §5.4.6).
//!
//! A [`Keypair`] is shared by the data threads and never locked as a whole. What leads to one is `engine`'s business.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::discard::Discard;
use crate::engine::Opened;
use crate::index::{Receiver, SessionIndex};
use crate::message::{self, DATA_HEADER, DATA_OVERHEAD};
use crate::train::Train;

mod aead;
mod window;

pub(crate) use aead::library as aead_library;
use aead::{Aead, DataAead, TAG_LEN};
pub(crate) use window::Window;

/// A session is not used for sending beyond this many packets, nor are later counters received (whitepaper §6.1).
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// A session is renewed after this many packets.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// A session older than this is renewed by its initiator when it sends.
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// A session older than this is dead.
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// How many packets share one lock of the replay window.
const RUN: usize = u64::BITS as usize;

/// Who began the handshake: only the initiator renews a session by age, so that both ends do not at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Initiator,
    Responder,
}

/// The keys of one session, both directions.
pub(crate) struct Keypair {
    send: DataAead,
    receive: DataAead,
    local_index: SessionIndex,
    remote_index: u32,
    created: Instant,
    role: Role,
    counter: CacheLine<AtomicU64>,
    received: CacheLine<Received>,
}

/// Keeps what one direction writes out of the other's cache lines.
#[repr(align(64))]
struct CacheLine<T>(T);

struct Received {
    /// Counters below are too old, whatever the window says: a look without the lock.
    oldest: AtomicU64,
    window: Mutex<Window>,
}

/// What a handshake agreed on.
pub(crate) struct SessionKeys<'a> {
    pub(crate) send: &'a [u8; 32],
    pub(crate) receive: &'a [u8; 32],
    pub(crate) remote_index: u32,
    pub(crate) role: Role,
}

impl Keypair {
    pub(crate) fn new(now: Instant, local_index: SessionIndex, keys: &SessionKeys<'_>) -> Self {
        Self {
            send: DataAead::new(keys.send),
            receive: DataAead::new(keys.receive),
            local_index,
            remote_index: keys.remote_index,
            created: now,
            role: keys.role,
            counter: CacheLine(AtomicU64::new(0)),
            received: CacheLine(Received { oldest: AtomicU64::new(0), window: Mutex::new(Window::new()) }),
        }
    }

    pub(crate) fn local_index(&self) -> u32 {
        self.local_index.value()
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        self.age(now) < REJECT_AFTER_TIME
    }

    /// Whether to send on it means to renew it.
    pub(crate) fn is_worn(&self, now: Instant) -> bool {
        self.counter.0.load(Ordering::Relaxed) >= REKEY_AFTER_MESSAGES
            || self.role == Role::Initiator && self.age(now) >= REKEY_AFTER_TIME
    }

    /// Seals every packet of `train` where it lies.
    pub(crate) fn seal_train(&self, train: &mut Train<'_>) -> Result<(), Discard> {
        let first = self.reserve(train.len() as u64)?;
        let receiver = train.addressed_to(Receiver::Index(self.remote_index));
        for (counter, datagram) in (first..).zip(train.datagrams_mut()) {
            message::write_data_header(datagram, receiver, counter);
            self.send.seal(counter, &mut datagram[DATA_HEADER..]);
        }
        Ok(())
    }

    /// Opens datagrams with our index, each `stride` long but the last, where they lie. `opened` hears of each in its
    /// order.
    pub(crate) fn open_run(
        &self,
        datagrams: &mut [u8],
        stride: usize,
        mut opened: impl FnMut(Result<Opened<'_>, Discard>),
    ) {
        for (run, datagrams) in datagrams.chunks_mut(stride * RUN).enumerate() {
            let mut verdicts = [Err(Discard::Malformed); RUN];
            for (verdict, datagram) in verdicts.iter_mut().zip(datagrams.chunks_mut(stride)) {
                *verdict = self.decrypt(datagram);
            }
            self.check_replays(&mut verdicts);
            for ((position, datagram), verdict) in datagrams.chunks(stride).enumerate().zip(verdicts) {
                let at = (run * RUN + position) * stride + DATA_HEADER;
                opened(verdict.map(|_| Opened { at, packet: &datagram[DATA_HEADER..datagram.len() - TAG_LEN] }));
            }
        }
    }

    /// `n` consecutive counters, of which this is the first.
    fn reserve(&self, n: u64) -> Result<u64, Discard> {
        // The look before keeps the counter from running on towards its wrap, the look after decides.
        if self.counter.0.load(Ordering::Relaxed) + n > REJECT_AFTER_MESSAGES {
            return Err(Discard::CounterExhausted);
        }
        let first = self.counter.0.fetch_add(n, Ordering::Relaxed);
        if first + n > REJECT_AFTER_MESSAGES { Err(Discard::CounterExhausted) } else { Ok(first) }
    }

    /// The counter of an authentic datagram, whose inner packet is in clear then.
    fn decrypt(&self, datagram: &mut [u8]) -> Result<u64, Discard> {
        if datagram.len() < DATA_OVERHEAD {
            return Err(Discard::Malformed);
        }
        let counter = message::data_counter(datagram).ok_or(Discard::Malformed)?;
        if counter >= REJECT_AFTER_MESSAGES {
            return Err(Discard::CounterExhausted);
        }
        if counter < self.received.0.oldest.load(Ordering::Relaxed) {
            return Err(Discard::Replay);
        }
        self.receive.open(counter, &mut datagram[DATA_HEADER..])?;
        Ok(counter)
    }

    fn check_replays(&self, verdicts: &mut [Result<u64, Discard>]) {
        let mut window = self.received.0.window.lock().unwrap_or_else(PoisonError::into_inner);
        for verdict in verdicts {
            if let Ok(counter) = *verdict
                && let Err(replay) = window.accept(counter)
            {
                *verdict = Err(replay);
            }
        }
        self.received.0.oldest.store(window.oldest(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
