//! The Noise handshake of WireGuard (whitepaper §5.4.2, §5.4.3), by the crate `snow`: the only code that names it.
//! What WireGuard adds around Noise, indices and MACs, is not here.

use std::sync::Arc;

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};
use x25519_dalek::{PublicKey as NoisePublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::discard::Discard;
use crate::host::Host;
use crate::key::{PresharedKey, PrivateKey, PublicKey};

/// What Noise writes of a handshake initiation: ephemeral, static and timestamp, the latter two sealed.
pub(super) const INITIATION_LEN: usize = 32 + 48 + TIMESTAMP_LEN + 16;
/// What Noise writes of a handshake response: ephemeral, and the tag of nothing.
pub(super) const RESPONSE_LEN: usize = 32 + 16;
const TIMESTAMP_LEN: usize = 12;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Where the preshared key is mixed in.
const PSK: u8 = 2;

/// TAI64N: compares as bytes.
pub(super) type Timestamp = [u8; TIMESTAMP_LEN];

/// Our side of every handshake of an interface.
pub(super) struct Identity {
    pub(super) private_key: PrivateKey,
    pub(super) public_key: PublicKey,
    pub(super) host: Arc<Host>,
}

/// The transport keys of a session.
pub(super) struct Keys {
    pub(super) send: Zeroizing<[u8; 32]>,
    pub(super) receive: Zeroizing<[u8; 32]>,
}

/// A handshake that we began.
pub(super) struct Initiated(HandshakeState);

/// An initiation that was authentic.
pub(crate) struct Consumed {
    state: HandshakeState,
    pub(super) from: PublicKey,
    pub(super) timestamp: Timestamp,
}

impl Identity {
    pub(super) fn initiate(
        &self,
        to: &PublicKey,
        preshared_key: Option<&PresharedKey>,
        timestamp: &Timestamp,
        message: &mut [u8],
    ) -> Result<Initiated, Discard> {
        let mut state = self.build(|builder| builder.remote_public_key(to.as_bytes())?.build_initiator())?;
        mix(&mut state, preshared_key)?;
        state.write_message(timestamp, message).map_err(|_| Discard::NotAuthentic)?;
        Ok(Initiated(state))
    }

    pub(super) fn consume(&self, message: &[u8]) -> Result<Consumed, Discard> {
        let mut state = self.build(|builder| builder.build_responder())?;
        // One more tag's length: as much as the library may write before it knows better.
        let mut payload = [0; TIMESTAMP_LEN + 16];
        let len = state.read_message(message, &mut payload).map_err(|_| Discard::NotAuthentic)?;
        let timestamp = payload[..len].try_into().map_err(|_| Discard::Malformed)?;
        let from = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Discard::NotAuthentic)?;
        Ok(Consumed { state, from: PublicKey::from_bytes(from), timestamp })
    }

    fn build(
        &self,
        finish: impl FnOnce(Builder<'_>) -> Result<HandshakeState, Error>,
    ) -> Result<HandshakeState, Discard> {
        let pattern: NoiseParams = PATTERN.parse().expect("a pattern of Noise");
        let resolver = Box::new(Resolver(self.host.clone()));
        let secret = self.private_key.secret();
        Builder::with_resolver(pattern, resolver)
            .prologue(PROLOGUE)
            .and_then(|builder| finish(builder.local_private_key(secret.as_bytes())?))
            .map_err(|_| Discard::NotAuthentic)
    }
}

impl Initiated {
    /// A response that is not authentic leaves this as it was.
    pub(super) fn finish(&mut self, message: &[u8]) -> Result<Keys, Discard> {
        self.0.read_message(message, &mut [0; 16]).map_err(|_| Discard::NotAuthentic)?;
        let (send, receive) = self.0.dangerously_get_raw_split();
        Ok(Keys { send: send.into(), receive: receive.into() })
    }
}

impl Consumed {
    pub(super) fn respond(mut self, preshared_key: Option<&PresharedKey>, message: &mut [u8]) -> Result<Keys, Discard> {
        mix(&mut self.state, preshared_key)?;
        self.state.write_message(&[], message).map_err(|_| Discard::NotAuthentic)?;
        let (receive, send) = self.state.dangerously_get_raw_split();
        Ok(Keys { send: send.into(), receive: receive.into() })
    }
}

/// Without a preshared key, zeros are mixed in (whitepaper §5.4).
fn mix(state: &mut HandshakeState, preshared_key: Option<&PresharedKey>) -> Result<(), Discard> {
    let key = Zeroizing::new(preshared_key.map_or([0; 32], PresharedKey::bytes));
    state.set_psk(PSK.into(), &*key).map_err(|_| Discard::NotAuthentic)
}

/// The library's own primitives, but for Curve25519, which refuses points of low order and forgets its secrets here,
/// and randomness, which is the host's.
struct Resolver(Arc<Host>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Draw(self.0.clone())))
    }

    fn resolve_dh(&self, _choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(X25519::of(StaticSecret::from([0; 32]))))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Draw(Arc<Host>);

impl Random for Draw {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.0.fill(bytes);
        Ok(())
    }
}

struct X25519 {
    secret: StaticSecret,
    public: NoisePublicKey,
}

impl X25519 {
    fn of(secret: StaticSecret) -> Self {
        Self { public: NoisePublicKey::from(&secret), secret }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        let secret: [u8; 32] = secret.try_into().expect("a private key is 32 bytes");
        *self = Self::of(secret.into());
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *secret)?;
        *self = Self::of((*secret).into());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public: [u8; 32] = public.get(..32).and_then(|key| key.try_into().ok()).ok_or(Error::Dh)?;
        let shared = self.secret.diffie_hellman(&public.into());
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out[..32].copy_from_slice(shared.as_bytes());
        Ok(())
    }
}
