//! The engine of the crate `boringtun`: the only code that names it.
//!
//! It reads the clock itself, so the `now` of our traits drives only what we added around it: persistent keepalives
//! that can change on a living session, a limit on how often a handshake is started, and the checks that keep its
//! panics unreachable.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey as NoisePublicKey, SharedSecret, StaticSecret};

use super::{Direction, Engine, Initiation, Opened, PeerEngine, PeerParameters, Refusal, Run, Sealed, WeakKey};
use crate::datapath::REJECT_AFTER_MESSAGES;
use crate::discard::Discard;
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::message::{
    COOKIE_REPLY_LEN, DATA_HEADER, DATA_OVERHEAD, HANDSHAKE_INITIATION_LEN, MAX_DATAGRAM, Message, sender_index,
};
use crate::train::Train;

/// Handshake messages per second that are worked on without asking for a cookie. One costs about 0.1 ms, so a flood
/// takes a fifth of a core at most, and a thousand peers that return at once need no second round trip.
const HANDSHAKES_PER_SECOND: u64 = 2_000;
/// A handshake started within this time is still under way, even around the world.
const MIN_INITIATION_INTERVAL: Duration = Duration::from_millis(250);
/// How long the first initiations of a handshake stand unanswered. One lost datagram, or one that came before the other
/// side knew us or its NAT let us in, must not cost a whole [`REKEY_TIMEOUT`].
const FIRST_RETRIES: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// How long an unanswered initiation stands before the next (whitepaper §6.1).
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);

thread_local! {
    /// `Tunn` seals and opens from one buffer into another.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_DATAGRAM + DATA_OVERHEAD].into());
}

/// One interface on `boringtun`.
pub(crate) struct BoringtunEngine {
    secret: StaticSecret,
    public: NoisePublicKey,
    /// Counts what [`Engine::admit`] lets through.
    limiter: RateLimiter,
    /// Given to every `Tunn`, which checks again what was admitted already.
    unlimited: Arc<RateLimiter>,
}

impl BoringtunEngine {
    pub(crate) fn new(private_key: &PrivateKey) -> Self {
        let secret = private_key.secret();
        let public = NoisePublicKey::from(&secret);
        Self {
            limiter: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            secret,
            public,
        }
    }
}

impl Engine for BoringtunEngine {
    fn public_key(&self) -> PublicKey {
        PublicKey::from_bytes(*self.public.as_bytes())
    }

    fn agree(&self, with: &PublicKey) -> SharedSecret {
        self.secret.diffie_hellman(&NoisePublicKey::from(*with.as_bytes()))
    }

    fn admit(&self, _now: Instant, from: SocketAddr, message: &[u8], reply: &mut [u8]) -> Result<(), Refusal> {
        if reply.len() < COOKIE_REPLY_LEN {
            return Err(Refusal::Discard(Discard::Oversized));
        }
        match self.limiter.verify_packet(Some(from.ip()), message, reply) {
            Ok(_) => Ok(()),
            Err(TunnResult::WriteToNetwork(cookie)) => Err(Refusal::Cookie(cookie.len())),
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => Err(Refusal::WrongMac),
            Err(_) => Err(Refusal::Discard(Discard::Malformed)),
        }
    }

    fn read_initiation(&self, message: &[u8]) -> Result<Initiation, Discard> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(message) else {
            return Err(Discard::Malformed);
        };
        let half = parse_handshake_anon(&self.secret, &self.public, &initiation).map_err(|_| Discard::NotAuthentic)?;
        Ok(Initiation { from: PublicKey::from_bytes(half.peer_static_public), noise: None })
    }

    fn peer(&self, now: Instant, parameters: PeerParameters) -> Result<Box<dyn PeerEngine>, WeakKey> {
        let public_key = NoisePublicKey::from(*parameters.public_key.as_bytes());
        if !self.secret.diffie_hellman(&public_key).was_contributory() {
            return Err(WeakKey);
        }
        let tunn = Tunn::new(
            self.secret.clone(),
            public_key,
            parameters.preshared_key.as_ref().map(PresharedKey::bytes),
            None,
            parameters.number,
            Some(self.unlimited.clone()),
        );
        Ok(Box::new(BoringtunPeer(Mutex::new(State {
            tunn,
            preshared_key: parameters.preshared_key,
            initiation: None,
            queued: false,
            unconfirmed: None,
            last_handshake: None,
            last_initiation: None,
            attempts: 0,
            last_sent: now,
            persistent_keepalive: parameters.persistent_keepalive,
        }))))
    }

    fn handle_timeout(&self, _now: Instant) {
        self.limiter.reset_count();
    }
}

/// Every packet takes the lock: `Tunn` keeps its sessions to itself.
struct BoringtunPeer(Mutex<State>);

struct State {
    tunn: Tunn,
    /// `Tunn` neither changes its own nor tells it.
    preshared_key: Option<PresharedKey>,
    /// Written when a packet found no session; sent by [`PeerEngine::renew`].
    initiation: Option<Box<[u8]>>,
    /// Packets may wait inside `tunn` for a session.
    queued: bool,
    /// We answered an initiation; the first packet to this index of ours confirms the new session.
    unconfirmed: Option<u32>,
    last_handshake: Option<Instant>,
    last_initiation: Option<Instant>,
    /// Initiations since a handshake was last completed.
    attempts: usize,
    last_sent: Instant,
    persistent_keepalive: Option<Duration>,
}

impl BoringtunPeer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerEngine for BoringtunPeer {
    fn seal_train(&self, now: Instant, train: &mut Train<'_>) -> Result<Sealed, Discard> {
        let mut state = self.lock();
        SCRATCH.with_borrow_mut(|scratch| {
            let mut sealed = Sealed::Ready;
            for datagram in train.datagrams_mut() {
                let packet = DATA_HEADER..datagram.len() - (DATA_OVERHEAD - DATA_HEADER);
                match state.seal(now, &datagram[packet], scratch) {
                    Some(len) if is_data(&scratch[..len]) => datagram.copy_from_slice(&scratch[..len]),
                    initiation => {
                        sealed = Sealed::Waiting;
                        state.initiation = initiation.map(|len| scratch[..len].into()).or(state.initiation.take());
                    }
                }
            }
            Ok(sealed)
        })
    }

    fn open_run(&self, now: Instant, run: Run<'_>, opened: &mut dyn FnMut(Result<Opened<'_>, Discard>)) {
        let mut state = self.lock();
        SCRATCH.with_borrow_mut(|scratch| {
            for (position, datagram) in run.datagrams.chunks_mut(run.stride).enumerate() {
                // `Tunn` knows the index that it gave out.
                datagram[4..8].copy_from_slice(&run.receiver_index.to_le_bytes());
                let result = state.open_data(now, run.receiver_index, datagram, scratch);
                let at = position * run.stride;
                opened(result.map(|len| {
                    let packet = datagram.len() - DATA_OVERHEAD;
                    datagram[..len].copy_from_slice(&scratch[..len]);
                    // `Tunn` has cut the padding off.
                    datagram[len..packet].fill(0);
                    Opened { at, packet: &datagram[..packet] }
                }));
            }
        });
    }

    fn respond(
        &self,
        now: Instant,
        message: &[u8],
        _initiation: Initiation,
        answer: &mut [u8],
    ) -> Result<Option<usize>, Discard> {
        let mut state = self.lock();
        let len = state.open_handshake(now, message, answer)?;
        state.unconfirmed = sender_index(answer);
        Ok(len)
    }

    fn handle_reply(&self, now: Instant, message: &[u8], answer: &mut [u8]) -> Result<Option<usize>, Discard> {
        let mut state = self.lock();
        let len = state.open_handshake(now, message, answer)?;
        if matches!(Message::parse(message), Ok(Message::HandshakeResponse { .. })) {
            state.completed(now);
        }
        Ok(len)
    }

    fn has_queued(&self, _now: Instant) -> bool {
        let state = self.lock();
        state.queued && state.has_session()
    }

    fn seal_queued(&self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        // An empty datagram asks `Tunn` for what waits.
        let len = written(state.tunn.decapsulate(None, &[], datagram));
        state.queued = len.is_some();
        state.sent(now, len, datagram)
    }

    fn renew(&self, _now: Instant, _direction: Direction, message: &mut [u8]) -> Option<usize> {
        // `Tunn` renews on its own when its timers are looked at.
        let initiation = self.lock().initiation.take()?;
        message.get_mut(..initiation.len())?.copy_from_slice(&initiation);
        Some(initiation.len())
    }

    fn initiate(&self, now: Instant, message: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        if state.since_initiation(now) < MIN_INITIATION_INTERVAL {
            return None;
        }
        state.attempts = 0;
        state.start_handshake(now, message)
    }

    fn keepalive(&self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        self.lock().keepalive(now, datagram)
    }

    fn handle_timeout(&self, now: Instant, message: &mut [u8]) -> Option<usize> {
        let mut state = self.lock();
        let len = written(state.tunn.update_timers(message));
        if len.is_some() {
            return state.sent(now, len, message);
        }
        if state.is_retry_due(now) {
            return state.start_handshake(now, message);
        }
        if state.persistent_keepalive.is_none_or(|interval| now.saturating_duration_since(state.last_sent) < interval) {
            return None;
        }
        match state.keepalive(now, message) {
            // A peer that must stay reachable is never given up: `Tunn` stops after 90 s, this starts it again.
            None if state.since_initiation(now) >= REKEY_TIMEOUT => state.start_handshake(now, message),
            len => len,
        }
    }

    fn set_persistent_keepalive(&self, interval: Option<Duration>) {
        self.lock().persistent_keepalive = interval;
    }

    fn has_session(&self, _now: Instant) -> bool {
        self.lock().has_session()
    }

    fn set_preshared_key(&self, key: Option<&PresharedKey>) -> bool {
        self.lock().preshared_key.as_ref() == key
    }

    fn last_handshake(&self) -> Option<Instant> {
        self.lock().last_handshake
    }
}

impl State {
    /// A packet's datagram, or an initiation where there is no session yet.
    fn seal(&mut self, now: Instant, packet: &[u8], datagram: &mut [u8]) -> Option<usize> {
        self.queued |= !self.has_session();
        let len = written(self.tunn.encapsulate(packet, datagram));
        self.sent(now, len, datagram)
    }

    /// The length of the inner packet.
    fn open_data(
        &mut self,
        now: Instant,
        receiver_index: u32,
        datagram: &[u8],
        packet: &mut [u8],
    ) -> Result<usize, Discard> {
        if matches!(Message::parse(datagram)?, Message::Data { counter, .. } if counter >= REJECT_AFTER_MESSAGES) {
            return Err(Discard::CounterExhausted);
        }
        let len = match self.tunn.decapsulate(None, datagram, packet) {
            TunnResult::Err(error) => return Err(discard(&error)),
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => packet.len(),
            TunnResult::WriteToNetwork(_) | TunnResult::Done => 0,
        };
        if self.unconfirmed == Some(receiver_index) {
            self.completed(now);
        }
        Ok(len)
    }

    fn open_handshake(&mut self, now: Instant, message: &[u8], answer: &mut [u8]) -> Result<Option<usize>, Discard> {
        if answer.len() < HANDSHAKE_INITIATION_LEN {
            return Err(Discard::Oversized);
        }
        let len = match self.tunn.decapsulate(None, message, answer) {
            TunnResult::Err(error) => return Err(discard(&error)),
            result => written(result),
        };
        Ok(self.sent(now, len, answer))
    }

    fn keepalive(&mut self, now: Instant, datagram: &mut [u8]) -> Option<usize> {
        if !self.has_session() || datagram.len() < DATA_OVERHEAD {
            return None;
        }
        let len = written(self.tunn.encapsulate(&[], datagram));
        self.sent(now, len, datagram)
    }

    fn has_session(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    fn start_handshake(&mut self, now: Instant, message: &mut [u8]) -> Option<usize> {
        let len = written(self.tunn.format_handshake_initiation(message, true));
        self.sent(now, len, message)
    }

    fn completed(&mut self, now: Instant) {
        self.last_handshake = Some(now);
        self.unconfirmed = None;
        self.attempts = 0;
    }

    fn is_retry_due(&self, now: Instant) -> bool {
        let stands = self.attempts.checked_sub(1).and_then(|first| FIRST_RETRIES.get(first));
        stands.is_some_and(|stands| self.since_initiation(now) >= *stands)
    }

    fn since_initiation(&self, now: Instant) -> Duration {
        self.last_initiation.map_or(Duration::MAX, |last| now.saturating_duration_since(last))
    }

    /// Notes what is about to be sent: `Tunn` starts handshakes of its own accord.
    fn sent(&mut self, now: Instant, len: Option<usize>, datagram: &[u8]) -> Option<usize> {
        let sent = len?;
        self.last_sent = now;
        if Message::parse(&datagram[..sent]) == Ok(Message::HandshakeInitiation) {
            // After a longer silence it is another handshake than the one before.
            let continued = self.since_initiation(now) <= 2 * REKEY_TIMEOUT;
            self.attempts = if continued { self.attempts + 1 } else { 1 };
            self.last_initiation = Some(now);
        }
        len
    }
}

fn is_data(message: &[u8]) -> bool {
    matches!(Message::parse(message), Ok(Message::Data { .. }))
}

/// The length of what is for the peer.
fn written(result: TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(datagram) => Some(datagram.len()),
        _ => None,
    }
}

fn discard(error: &WireGuardError) -> Discard {
    match error {
        WireGuardError::WrongIndex | WireGuardError::NoCurrentSession | WireGuardError::ConnectionExpired => {
            Discard::NoSession
        }
        WireGuardError::WrongTai64nTimestamp | WireGuardError::InvalidTai64nTimestamp => Discard::StaleHandshake,
        WireGuardError::UnexpectedPacket => Discard::UnexpectedReply,
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Discard::Replay,
        WireGuardError::WrongKey => Discard::UnknownPeer,
        WireGuardError::InvalidMac => Discard::WrongMac,
        WireGuardError::UnderLoad => Discard::UnderLoad,
        // An authentic packet with something else than IP inside.
        WireGuardError::InvalidPacket => Discard::NotIp,
        WireGuardError::InvalidAeadTag
        | WireGuardError::WrongPacketType
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::DestinationBufferTooSmall
        | WireGuardError::LockFailed => Discard::NotAuthentic,
    }
}
