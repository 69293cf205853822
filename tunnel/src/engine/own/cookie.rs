//! The MACs at the end of handshake messages, and cookies (whitepaper §5.3, §5.4.4, §5.4.7): what proves, before any
//! costly work, that a sender knows our key, and under load also that it is where it says.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use blake2::digest::consts::U16;
use blake2::digest::{Digest, KeyInit, Mac as _, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::discard::Discard;
use crate::host::Host;
use crate::key::PublicKey;
use crate::message::{COOKIE_REPLY_LEN, write_head};

/// Both MACs.
pub(super) const MACS_LEN: usize = 2 * MAC_LEN;
const MAC_LEN: usize = 16;
/// How long a cookie counts, and how long the secret behind it is kept.
const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

pub(super) type Mac = [u8; MAC_LEN];

/// Writes the MACs of messages to one peer, and reads its cookies.
pub(super) struct MacWriter {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    last_mac1: Mac,
    cookie: Option<(Mac, Instant)>,
}

impl MacWriter {
    pub(super) fn new(peer: &PublicKey) -> Self {
        let (mac1_key, cookie_key) = (label(b"mac1----", peer), label(b"cookie--", peer));
        Self { mac1_key, cookie_key, last_mac1: [0; MAC_LEN], cookie: None }
    }

    pub(super) fn write(&mut self, now: Instant, message: &mut [u8]) {
        let (mac1_at, mac2_at) = (message.len() - MACS_LEN, message.len() - MAC_LEN);
        self.last_mac1 = mac(&self.mac1_key, &[&message[..mac1_at]]);
        message[mac1_at..mac2_at].copy_from_slice(&self.last_mac1);
        let cookie = self.cookie.filter(|(_, got)| now.saturating_duration_since(*got) < COOKIE_LIFETIME);
        let mac2 = cookie.map_or([0; MAC_LEN], |(cookie, _)| mac(&cookie, &[&message[..mac2_at]]));
        message[mac2_at..].copy_from_slice(&mac2);
    }

    /// Takes the cookie out of a reply to the last message we wrote.
    pub(super) fn take_cookie(&mut self, now: Instant, reply: &[u8]) -> Result<(), Discard> {
        let (nonce, sealed) = reply.get(8..).and_then(|rest| rest.split_at_checked(24)).ok_or(Discard::Malformed)?;
        let payload = Payload { msg: sealed, aad: &self.last_mac1 };
        let cookie = XChaCha20Poly1305::new(&self.cookie_key.into()).decrypt(XNonce::from_slice(nonce), payload);
        let cookie = cookie.ok().and_then(|cookie| cookie.try_into().ok()).ok_or(Discard::NotAuthentic)?;
        self.cookie = Some((cookie, now));
        Ok(())
    }
}

/// Checks the MACs of messages to one interface, and makes its cookies.
pub(super) struct MacChecker {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    host: Arc<Host>,
    secret: Mutex<Option<([u8; 32], Instant)>>,
}

impl MacChecker {
    pub(super) fn new(ours: &PublicKey, host: Arc<Host>) -> Self {
        let (mac1_key, cookie_key) = (label(b"mac1----", ours), label(b"cookie--", ours));
        Self { mac1_key, cookie_key, host, secret: Mutex::new(None) }
    }

    pub(super) fn is_for_us(&self, message: &[u8]) -> bool {
        let Some((signed, macs)) = message.split_last_chunk::<MACS_LEN>() else { return false };
        is_mac(&self.mac1_key, signed, &macs[..MAC_LEN])
    }

    /// Whether the sender has received a cookie at this very address and port.
    pub(super) fn is_proven(&self, now: Instant, from: SocketAddr, message: &[u8]) -> bool {
        let Some((signed, mac2)) = message.split_last_chunk::<MAC_LEN>() else { return false };
        is_mac(&self.cookie(now, from), signed, mac2)
    }

    pub(super) fn reply(
        &self,
        now: Instant,
        from: SocketAddr,
        message: &[u8],
        reply: &mut [u8],
    ) -> Result<usize, Discard> {
        let reply = reply.get_mut(..COOKIE_REPLY_LEN).ok_or(Discard::Oversized)?;
        let sender_index = message.get(4..8).ok_or(Discard::Malformed)?;
        let mac1 =
            message.len().checked_sub(MACS_LEN).map(|at| &message[at..at + MAC_LEN]).ok_or(Discard::Malformed)?;
        write_head(reply, 3, sender_index);
        let nonce: [u8; 24] = self.host.random();
        let cookie = self.cookie(now, from);
        let sealed = XChaCha20Poly1305::new(&self.cookie_key.into())
            .encrypt(&nonce.into(), Payload { msg: &cookie, aad: mac1 })
            .map_err(|_| Discard::Malformed)?;
        reply[8..32].copy_from_slice(&nonce);
        reply[32..].copy_from_slice(&sealed);
        Ok(COOKIE_REPLY_LEN)
    }

    fn cookie(&self, now: Instant, from: SocketAddr) -> Mac {
        let mut secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
        let living = secret.filter(|(_, since)| now.saturating_duration_since(*since) < COOKIE_LIFETIME);
        let (key, _) = *secret.insert(living.unwrap_or_else(|| (self.host.random(), now)));
        let port = from.port().to_be_bytes();
        match from.ip() {
            IpAddr::V4(ip) => mac(&key, &[&ip.octets(), &port]),
            IpAddr::V6(ip) => mac(&key, &[&ip.octets(), &port]),
        }
    }
}

fn label(label: &[u8; 8], key: &PublicKey) -> [u8; 32] {
    Blake2s256::new().chain_update(label).chain_update(key.as_bytes()).finalize().into()
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Mac {
    keyed(key, parts).finalize().into_bytes().into()
}

/// In constant time: a forger learns nothing from how long it took.
fn is_mac(key: &[u8], signed: &[u8], theirs: &[u8]) -> bool {
    keyed(key, &[signed]).verify_slice(theirs).is_ok()
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Blake2sMac<U16> {
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("keys of BLAKE2s are at most 32 bytes");
    parts.iter().for_each(|part| Update::update(&mut mac, part));
    mac
}
