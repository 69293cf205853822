//! The engine of the crate `boringtun`: the only code that names it.
//!
//! It reads the clock itself, so the `now` of our traits drives only what we added around it: persistent keepalives
//! that can change on a living session, a limit on how often a handshake is started, and the checks that keep its
//! panics unreachable.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey as NoisePublicKey, StaticSecret};

use super::{Engine, PeerEngine, PeerParameters, Refusal, Step, WeakKey};
use crate::discard::Discard;
use crate::key::{PrivateKey, PublicKey};
use crate::message::{DATA_OVERHEAD, Message, sender_index};

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
/// Counters from here on are refused (whitepaper §6.1, `REJECT_AFTER_MESSAGES`).
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// The longest handshake message.
const HANDSHAKE_LEN: usize = 148;
const COOKIE_REPLY_LEN: usize = 64;

/// One interface on `boringtun`.
pub struct BoringtunEngine {
    secret: StaticSecret,
    public: NoisePublicKey,
    /// Counts what [`Engine::admit`] lets through.
    limiter: RateLimiter,
    /// Given to every `Tunn`, which checks again what was admitted already.
    unlimited: Arc<RateLimiter>,
}

impl BoringtunEngine {
    pub fn new(private_key: &PrivateKey) -> Self {
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

    fn admit(&self, _now: Instant, from: IpAddr, message: &[u8], reply: &mut [u8]) -> Result<(), Refusal> {
        if reply.len() < COOKIE_REPLY_LEN {
            return Err(Refusal::Discard(Discard::Oversized));
        }
        match self.limiter.verify_packet(Some(from), message, reply) {
            Ok(_) => Ok(()),
            Err(TunnResult::WriteToNetwork(cookie)) => Err(Refusal::Cookie(cookie.len())),
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => Err(Refusal::WrongMac),
            Err(_) => Err(Refusal::Discard(Discard::Malformed)),
        }
    }

    fn initiator(&self, message: &[u8]) -> Result<PublicKey, Discard> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(message) else {
            return Err(Discard::Malformed);
        };
        let half = parse_handshake_anon(&self.secret, &self.public, &initiation).map_err(|_| Discard::NotAuthentic)?;
        Ok(PublicKey::from_bytes(half.peer_static_public))
    }

    fn peer(&self, now: Instant, parameters: PeerParameters) -> Result<Box<dyn PeerEngine>, WeakKey> {
        let public_key = NoisePublicKey::from(*parameters.public_key.as_bytes());
        if !self.secret.diffie_hellman(&public_key).was_contributory() {
            return Err(WeakKey);
        }
        let tunn = Tunn::new(
            self.secret.clone(),
            public_key,
            parameters.preshared_key.map(|key| key.bytes()),
            None,
            parameters.index,
            Some(self.unlimited.clone()),
        );
        Ok(Box::new(BoringtunPeer {
            tunn,
            queued: false,
            unconfirmed: None,
            last_handshake: None,
            last_initiation: None,
            attempts: 0,
            last_sent: now,
            persistent_keepalive: parameters.persistent_keepalive,
        }))
    }

    fn handle_timeout(&self, _now: Instant) {
        self.limiter.reset_count();
    }
}

struct BoringtunPeer {
    tunn: Tunn,
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

impl PeerEngine for BoringtunPeer {
    fn seal(&mut self, now: Instant, packet: &[u8], datagram: &mut [u8]) -> Result<Step, Discard> {
        if datagram.len() < (packet.len() + DATA_OVERHEAD).max(HANDSHAKE_LEN) {
            return Err(Discard::Oversized);
        }
        self.queued |= !self.has_session();
        let step = written(self.tunn.encapsulate(packet, datagram));
        Ok(self.sent(now, step, datagram))
    }

    fn open(&mut self, now: Instant, message: &[u8], out: &mut [u8]) -> Result<Step, Discard> {
        let kind = Message::parse(message)?;
        if out.len() < message.len().max(HANDSHAKE_LEN) {
            return Err(Discard::Oversized);
        }
        if matches!(kind, Message::Data { counter, .. } if counter >= REJECT_AFTER_MESSAGES) {
            return Err(Discard::CounterExhausted);
        }
        let step = match self.tunn.decapsulate(None, message, out) {
            TunnResult::Err(error) => return Err(discard(&error)),
            result => written(result),
        };
        match kind {
            Message::HandshakeInitiation => self.unconfirmed = sender_index(out),
            Message::HandshakeResponse { .. } => self.completed(now),
            Message::Data { receiver_index, .. } if self.unconfirmed == Some(receiver_index) => self.completed(now),
            Message::Data { .. } | Message::CookieReply { .. } => {}
        }
        Ok(self.sent(now, step, out))
    }

    fn has_queued(&self) -> bool {
        self.queued && self.has_session()
    }

    fn seal_queued(&mut self, now: Instant, datagram: &mut [u8]) -> Step {
        // An empty datagram asks `Tunn` for what waits.
        let step = written(self.tunn.decapsulate(None, &[], datagram));
        self.queued = step != Step::Nothing;
        self.sent(now, step, datagram)
    }

    fn initiate(&mut self, now: Instant, datagram: &mut [u8]) -> Step {
        if self.since_initiation(now) < MIN_INITIATION_INTERVAL {
            return Step::Nothing;
        }
        self.attempts = 0;
        self.start_handshake(now, datagram)
    }

    fn keepalive(&mut self, now: Instant, datagram: &mut [u8]) -> Step {
        if !self.has_session() || datagram.len() < DATA_OVERHEAD {
            return Step::Nothing;
        }
        let step = written(self.tunn.encapsulate(&[], datagram));
        self.sent(now, step, datagram)
    }

    fn handle_timeout(&mut self, now: Instant, datagram: &mut [u8]) -> Step {
        let step = written(self.tunn.update_timers(datagram));
        if step != Step::Nothing {
            return self.sent(now, step, datagram);
        }
        if self.is_retry_due(now) {
            return self.start_handshake(now, datagram);
        }
        if self.persistent_keepalive.is_none_or(|interval| now.saturating_duration_since(self.last_sent) < interval) {
            return Step::Nothing;
        }
        match self.keepalive(now, datagram) {
            // A peer that must stay reachable is never given up: `Tunn` stops after 90 s, this starts it again.
            Step::Nothing if self.since_initiation(now) >= REKEY_TIMEOUT => self.start_handshake(now, datagram),
            step => step,
        }
    }

    fn set_persistent_keepalive(&mut self, interval: Option<Duration>) {
        self.persistent_keepalive = interval;
    }

    fn last_handshake(&self) -> Option<Instant> {
        self.last_handshake
    }
}

impl BoringtunPeer {
    fn has_session(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    fn start_handshake(&mut self, now: Instant, datagram: &mut [u8]) -> Step {
        let step = written(self.tunn.format_handshake_initiation(datagram, true));
        self.sent(now, step, datagram)
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
    fn sent(&mut self, now: Instant, step: Step, datagram: &[u8]) -> Step {
        let Step::Datagram(len) = step else { return step };
        self.last_sent = now;
        if Message::parse(&datagram[..len]) == Ok(Message::HandshakeInitiation) {
            // After a longer silence it is another handshake than the one before.
            let continued = self.since_initiation(now) <= 2 * REKEY_TIMEOUT;
            self.attempts = if continued { self.attempts + 1 } else { 1 };
            self.last_initiation = Some(now);
        }
        step
    }
}

fn written(result: TunnResult<'_>) -> Step {
    match result {
        TunnResult::WriteToNetwork(datagram) => Step::Datagram(datagram.len()),
        TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => Step::Packet(packet.len()),
        TunnResult::Done | TunnResult::Err(_) => Step::Nothing,
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
