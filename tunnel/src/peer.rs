//! One peer: its engine, where it is, and its counters. What passes beside its sessions is in `outside`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clear::frame::Token;
use crate::clear::{Clear, Transport};
use crate::config::{PeerConfig, Roaming};
use crate::discard::Discard;
use crate::engine::{Direction, Initiation, Opened, PeerEngine, Run, Sealed};
use crate::host::Epoch;
use crate::interface::InterfaceId;
use crate::key::PublicKey;
use crate::message::{DATA_OVERHEAD, Message};
use crate::mtu::PathMtu;
use crate::probe::Probes;
use crate::train::Train;
use crate::volume::{Carried, Counters, Scope, Volume};

mod activity;
mod outside;

use activity::Watch;
pub use activity::{Activity, Sighting};

/// What a peer has been doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    pub public_key: PublicKey,
    /// Another one than before: the peer was made anew, and its counters began at zero.
    pub number: u32,
    /// Where its packets go: where its last authentic one came from or configuration put it since, unless it is pinned.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake was completed.
    pub last_handshake: Option<Duration>,
    /// Payload of UDP datagrams, as `wg show` counts: handshakes and keepalives included.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// By the kind of path, in the order of [`Scope::ALL`]; probes included.
    pub volumes: [Volume; Scope::ALL.len()],
    /// How packets to it travel now.
    pub transport: Transport,
    /// The longest inner packet that goes to it.
    pub mtu: u16,
}

/// What every peer has of its own.
pub(crate) struct Fresh {
    /// 24 bits, unused on this host.
    pub(crate) number: u32,
    /// Random.
    pub(crate) epoch: Token,
    /// The host's.
    pub(crate) clock: Epoch,
}

pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    pub(crate) interface: InterfaceId,
    /// By which session indices lead here.
    pub(crate) number: u32,
    engine: Box<dyn PeerEngine>,
    pub(crate) probes: Probes,
    clear: Clear,
    pub(crate) mtu: PathMtu,
    watch: Watch,
    whereabouts: Mutex<Whereabouts>,
    tx_bytes: AtomicU64,
    rx_bytes: AtomicU64,
    counters: Counters,
}

struct Whereabouts {
    endpoint: Option<SocketAddr>,
    roaming: Roaming,
    /// Where else something authentic came from last, though it is pinned.
    elsewhere: Option<SocketAddr>,
    /// What configuration said last, to tell a change of it from roaming.
    configured: Option<SocketAddr>,
}

/// A message from the wire.
#[derive(Clone, Copy)]
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

impl Peer {
    pub(crate) fn new(
        config: &PeerConfig,
        interface: InterfaceId,
        number: u32,
        engine: Box<dyn PeerEngine>,
        probes: Probes,
        clear: Clear,
        clock: Epoch,
    ) -> Self {
        let whereabouts = Whereabouts {
            endpoint: config.endpoint,
            roaming: config.roaming,
            elsewhere: None,
            configured: config.endpoint,
        };
        Self {
            public_key: config.public_key,
            interface,
            number,
            engine,
            probes,
            clear,
            mtu: PathMtu::default(),
            watch: Watch::new(clock),
            whereabouts: Mutex::new(whereabouts),
            tx_bytes: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            counters: Counters::default(),
        }
    }

    /// Takes the preshared key of `config`; false if the engine cannot without losing the session.
    pub(crate) fn takes_key_of(&self, config: &PeerConfig) -> bool {
        self.engine.set_preshared_key(config.preshared_key.as_ref())
    }

    /// Takes on what may change on a living session; true if the endpoint was changed by it.
    pub(crate) fn reconfigure(&self, now: Instant, config: &PeerConfig) -> bool {
        self.engine.set_persistent_keepalive(config.persistent_keepalive);
        self.probes.enable(config.probes);
        self.clear.trust(now, config.trusted());
        let mut whereabouts = self.whereabouts();
        whereabouts.roaming = config.roaming;
        if whereabouts.configured == config.endpoint {
            return false;
        }
        whereabouts.configured = config.endpoint;
        if config.roaming == Roaming::Pinned {
            return false;
        }
        let moved = config.endpoint.is_some() && whereabouts.endpoint != config.endpoint;
        if moved {
            whereabouts.endpoint = config.endpoint;
        }
        moved
    }

    /// Moves it there, also if configuration said so before and the peer was heard of elsewhere since.
    pub(crate) fn set_endpoint(&self, endpoint: SocketAddr) {
        let mut whereabouts = self.whereabouts();
        whereabouts.endpoint = Some(endpoint);
        whereabouts.configured = Some(endpoint);
    }

    /// Sends what is sent from now on there, or nowhere; what was heard before counts for the former path alone.
    pub(crate) fn steer(&self, to: Option<SocketAddr>) {
        let mut whereabouts = self.whereabouts();
        whereabouts.endpoint = to;
        whereabouts.elsewhere = None;
        self.watch.answered();
    }

    /// Makes datagrams of the packets of a train, and tells where to send them; nowhere if they wait for a session.
    pub(crate) fn seal_train(&self, now: Instant, train: &mut Train<'_>) -> Result<Option<SocketAddr>, Discard> {
        let to = self.endpoint().ok_or(Discard::NoEndpoint)?;
        self.watch.sent(now);
        self.clear.note_traffic();
        self.mtu.note_sent(train.longest());
        if train.may_overtake() && !self.probes.is_enabled() {
            train.set_may_overtake(false);
        }
        if self.clear.write_train(now, to, train, || self.engine.has_session(now)) {
            self.count_sent(to, Carried::train(train).in_clear());
            return Ok(Some(to));
        }
        match self.engine.seal_train(now, train)? {
            Sealed::Ready => {
                self.count_sent(to, Carried::train(train));
                Ok(Some(to))
            }
            Sealed::Waiting => Ok(None),
        }
    }

    /// Opens a run of data messages; an authentic one tells where the peer is. False if there is none.
    pub(crate) fn open_run(
        &self,
        now: Instant,
        from: SocketAddr,
        run: Run<'_>,
        mut opened: impl FnMut(Result<Opened<'_>, Discard>),
    ) -> bool {
        let (mut authentic, mut longest) = (Carried::default(), 0);
        self.engine.open_run(now, run, &mut |result| {
            if let Ok(Opened { packet, .. }) = &result {
                authentic = authentic.and_data(packet.len());
                longest = longest.max(packet.len());
            }
            opened(result);
        });
        if longest > 0 {
            self.watch.received();
            self.clear.note_traffic();
            self.mtu.note_received(longest);
        }
        if authentic.datagrams > 0 {
            self.heard(from, authentic);
        }
        authentic.datagrams > 0
    }

    /// Answers a handshake initiation.
    pub(crate) fn respond(
        &self,
        received: &Received<'_>,
        initiation: Initiation,
        answer: &mut [u8],
    ) -> Result<Option<Transmit>, Discard> {
        let len = self.engine.respond(received.now, received.bytes, initiation, answer)?;
        self.heard(received.from, Carried::one(received.bytes.len()));
        self.clear.session_began(received.now);
        Ok(self.transmit(received.from, len.map(Carried::one)))
    }

    /// Takes a handshake response or a cookie reply.
    pub(crate) fn handle_reply(&self, received: &Received<'_>, answer: &mut [u8]) -> Result<Option<Transmit>, Discard> {
        let len = self.engine.handle_reply(received.now, received.bytes, answer)?;
        let carried = Carried::one(received.bytes.len());
        if matches!(received.kind, Message::CookieReply { .. }) {
            self.count_received(received.from, carried);
        } else {
            self.heard(received.from, carried);
        }
        Ok(self.transmit(received.from, len.map(Carried::one)))
    }

    /// The next packet that had waited for a session.
    pub(crate) fn seal_queued(&self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        if !self.engine.has_queued(now) {
            return None;
        }
        let to = self.endpoint()?;
        let len = self.engine.seal_queued(now, buffer)?;
        self.transmit(to, Some(Carried::default().and_data(len - DATA_OVERHEAD)))
    }

    pub(crate) fn renew(&self, now: Instant, direction: Direction, buffer: &mut [u8]) -> Option<Transmit> {
        self.with_endpoint(|engine| engine.renew(now, direction, buffer))
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

    pub(crate) fn has_session(&self, now: Instant) -> bool {
        self.engine.has_session(now)
    }

    pub(crate) fn stats(&self, now: Instant, default_mtu: u16) -> PeerStats {
        let endpoint = self.endpoint();
        PeerStats {
            public_key: self.public_key,
            number: self.number,
            endpoint,
            transport: self.clear.transport(now, endpoint, self.engine.has_session(now)),
            last_handshake: self.engine.last_handshake().map(|at| now.saturating_duration_since(at)),
            tx_bytes: self.tx_bytes.load(Ordering::Relaxed),
            rx_bytes: self.rx_bytes.load(Ordering::Relaxed),
            mtu: self.mtu.found().unwrap_or(default_mtu),
            volumes: self.counters.volumes(),
        }
    }

    /// Without an endpoint the engine is not asked: it would believe that something was sent.
    fn with_endpoint(&self, act: impl FnOnce(&dyn PeerEngine) -> Option<usize>) -> Option<Transmit> {
        let to = self.endpoint()?;
        self.transmit(to, act(self.engine.as_ref()).map(Carried::one))
    }

    fn transmit(&self, to: SocketAddr, carried: Option<Carried>) -> Option<Transmit> {
        let carried = carried?;
        self.count_sent(to, carried);
        Some(Transmit { to, len: carried.payload })
    }

    fn count_sent(&self, to: SocketAddr, carried: Carried) {
        self.tx_bytes.fetch_add(carried.payload as u64, Ordering::Relaxed);
        self.counters.sent(to, carried);
    }

    fn count_received(&self, from: SocketAddr, carried: Carried) {
        self.rx_bytes.fetch_add(carried.payload as u64, Ordering::Relaxed);
        self.counters.received(from, carried);
    }

    /// Something authentic came from there.
    fn heard(&self, from: SocketAddr, carried: Carried) {
        self.count_received(from, carried);
        self.was_at(from);
    }

    /// The peer itself, and not long ago, sent something from there.
    fn was_at(&self, from: SocketAddr) {
        let mut whereabouts = self.whereabouts();
        if whereabouts.endpoint == Some(from) {
            self.watch.answered();
        } else if whereabouts.roaming == Roaming::ByPackets {
            whereabouts.endpoint = Some(from);
            self.watch.answered();
        } else if whereabouts.elsewhere != Some(from) {
            whereabouts.elsewhere = Some(from);
            self.watch.moved();
        }
    }

    fn endpoint(&self) -> Option<SocketAddr> {
        self.whereabouts().endpoint
    }

    fn whereabouts(&self) -> MutexGuard<'_, Whereabouts> {
        // A panic while it was held is a bug of ours, and no reason to stop the other peers.
        self.whereabouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
