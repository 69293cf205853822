//! One peer: its engine and endpoint behind one lock, its counters beside it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::PeerConfig;
use crate::discard::Discard;
use crate::engine::{PeerEngine, Step};
use crate::interface::InterfaceId;
use crate::key::{PresharedKey, PublicKey};
use crate::message::Message;

/// What a peer has been doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    pub public_key: PublicKey,
    /// Where its last authentic packet came from, or where configuration put it since.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake was completed.
    pub last_handshake: Option<Duration>,
    /// Payload of UDP datagrams, as `wg show` counts: handshakes and keepalives included.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) interface: InterfaceId,
    /// The upper 24 bits of its session indices.
    pub(crate) index: u32,
    preshared_key: Option<PresharedKey>,
    state: Mutex<State>,
    tx_bytes: AtomicU64,
    rx_bytes: AtomicU64,
}

struct State {
    engine: Box<dyn PeerEngine>,
    endpoint: Option<SocketAddr>,
    /// What configuration said last, to tell a change of it from roaming.
    configured_endpoint: Option<SocketAddr>,
}

/// A message from the wire.
pub(crate) struct Received<'a> {
    pub(crate) now: Instant,
    pub(crate) from: SocketAddr,
    pub(crate) kind: Message,
    pub(crate) bytes: &'a [u8],
}

/// Bytes for the wire, in the caller's buffer.
pub(crate) struct Transmit {
    pub(crate) to: SocketAddr,
    pub(crate) len: usize,
}

/// What an authentic message led to.
pub(crate) struct Opened {
    pub(crate) step: Step,
    /// Packets that had waited for a session can go now: see [`Peer::seal_queued`].
    pub(crate) queued: bool,
}

impl Peer {
    pub(crate) fn new(config: &PeerConfig, interface: InterfaceId, index: u32, engine: Box<dyn PeerEngine>) -> Self {
        Self {
            public_key: config.public_key,
            interface,
            index,
            preshared_key: config.preshared_key.clone(),
            state: Mutex::new(State { engine, endpoint: config.endpoint, configured_endpoint: config.endpoint }),
            tx_bytes: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
        }
    }

    /// Whether `config` can be taken on without losing the session.
    pub(crate) fn accepts(&self, config: &PeerConfig) -> bool {
        self.public_key == config.public_key && self.preshared_key == config.preshared_key
    }

    /// Takes on what may change on a living session; true if the endpoint was changed by it.
    pub(crate) fn reconfigure(&self, config: &PeerConfig) -> bool {
        let mut state = self.lock();
        state.engine.set_persistent_keepalive(config.persistent_keepalive);
        if state.configured_endpoint == config.endpoint {
            return false;
        }
        state.configured_endpoint = config.endpoint;
        let moved = config.endpoint.is_some() && state.endpoint != config.endpoint;
        if moved {
            state.endpoint = config.endpoint;
        }
        moved
    }

    pub(crate) fn seal(&self, now: Instant, packet: &[u8], buffer: &mut [u8]) -> Result<Option<Transmit>, Discard> {
        let mut state = self.lock();
        let to = state.endpoint.ok_or(Discard::NoEndpoint)?;
        let step = state.engine.seal(now, packet, buffer)?;
        Ok(self.transmit(to, step))
    }

    pub(crate) fn open(&self, received: &Received<'_>, buffer: &mut [u8]) -> Result<Opened, Discard> {
        let mut state = self.lock();
        let step = state.engine.open(received.now, received.bytes, buffer)?;
        if !matches!(received.kind, Message::CookieReply { .. }) && state.endpoint != Some(received.from) {
            state.endpoint = Some(received.from);
        }
        self.rx_bytes.fetch_add(received.bytes.len() as u64, Ordering::Relaxed);
        if let Step::Datagram(len) = step {
            self.tx_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(Opened { step, queued: state.engine.has_queued() })
    }

    pub(crate) fn seal_queued(&self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.with_endpoint(|engine| engine.seal_queued(now, buffer))
    }

    pub(crate) fn initiate(&self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.with_endpoint(|engine| engine.initiate(now, buffer))
    }

    pub(crate) fn keepalive(&self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.with_endpoint(|engine| engine.keepalive(now, buffer))
    }

    pub(crate) fn handle_timeout(&self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.with_endpoint(|engine| engine.handle_timeout(now, buffer))
    }

    pub(crate) fn stats(&self, now: Instant) -> PeerStats {
        let state = self.lock();
        PeerStats {
            public_key: self.public_key,
            endpoint: state.endpoint,
            last_handshake: state.engine.last_handshake().map(|at| now.saturating_duration_since(at)),
            tx_bytes: self.tx_bytes.load(Ordering::Relaxed),
            rx_bytes: self.rx_bytes.load(Ordering::Relaxed),
        }
    }

    /// Without an endpoint the engine is not asked: it would believe that something was sent.
    fn with_endpoint(&self, act: impl FnOnce(&mut dyn PeerEngine) -> Step) -> Option<Transmit> {
        let mut state = self.lock();
        let to = state.endpoint?;
        let step = act(state.engine.as_mut());
        self.transmit(to, step)
    }

    fn transmit(&self, to: SocketAddr, step: Step) -> Option<Transmit> {
        let Step::Datagram(len) = step else { return None };
        self.tx_bytes.fetch_add(len as u64, Ordering::Relaxed);
        Some(Transmit { to, len })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held is a bug of ours, and no reason to stop the other peers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
