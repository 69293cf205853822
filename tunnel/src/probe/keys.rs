//! The keys of a pair's probes, agreed on by the static keys of its two memberships, apart for each direction.

use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use x25519_dalek::SharedSecret;
use zeroize::{Zeroize as _, Zeroizing};

use super::wire::{TAG_LEN, Tag};
use crate::key::{PresharedKey, PublicKey};

/// Keeps these keys apart from all others that the same secret may lead to.
const LABEL: &[u8] = b"cladnet probe v1";

/// Both directions, seen from one end.
pub(crate) struct PairKeys {
    pub(super) outgoing: OneWay,
    pub(super) incoming: OneWay,
}

/// What one end sends and the other opens. As no direction has another's key, a probe that is sent back to its sender
/// means nothing there.
pub(super) struct OneWay {
    /// Says whose a probe is, to those two alone.
    pub(super) tag: Tag,
    pub(super) cipher: XChaCha20Poly1305,
}

impl PairKeys {
    /// `shared` is what the static keys agree on.
    pub(crate) fn new(shared: &SharedSecret, psk: Option<&PresharedKey>, ours: &PublicKey, theirs: &PublicKey) -> Self {
        let mut secret = Zeroizing::new([0; 64]);
        secret[..32].copy_from_slice(shared.as_bytes());
        // As in WireGuard, no preshared key is one of zeros.
        secret[32..].copy_from_slice(&*Zeroizing::new(psk.map_or([0; 32], PresharedKey::bytes)));
        let secret = Salt::new(HKDF_SHA256, LABEL).extract(secret.as_slice());
        Self { outgoing: OneWay::new(&secret, ours, theirs), incoming: OneWay::new(&secret, theirs, ours) }
    }
}

impl OneWay {
    fn new(secret: &Prk, from: &PublicKey, to: &PublicKey) -> Self {
        let mut key = Key::from(*derive(secret, b"key", from, to));
        let cipher = XChaCha20Poly1305::new(&key);
        key.zeroize();
        let mut tag = Tag::default();
        tag.copy_from_slice(&derive(secret, b"tag", from, to)[..TAG_LEN]);
        Self { tag, cipher }
    }
}

fn derive(secret: &Prk, purpose: &[u8], from: &PublicKey, to: &PublicKey) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    let info: [&[u8]; 3] = [purpose, from.as_bytes(), to.as_bytes()];
    let filled = secret.expand(&info, HKDF_SHA256).and_then(|output| output.fill(derived.as_mut_slice()));
    filled.expect("the hash's own length can always be had");
    derived
}
