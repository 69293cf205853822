//! Keys of WireGuard: 32 bytes, base64 with padding in text.
//!
//! Secret keys zero themselves, show nothing when debugged and have no `Display`: writing one down takes a call that
//! says so.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::CryptoRng;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const KEY_LEN: usize = 32;

/// Why a text is no key. The text itself is never repeated: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("not base64: a key is 44 characters ending in '='")]
    NotBase64,
    #[error("{0} bytes long: a key is 32 bytes (44 characters of base64)")]
    WrongLength(usize),
}

/// The secret half of an interface's identity (Curve25519).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LEN]);

impl PrivateKey {
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; KEY_LEN];
        rng.fill_bytes(&mut bytes);
        Self::from_bytes(bytes)
    }

    /// Takes any 32 bytes; clamped as Curve25519 asks, so that equal keys have equal text.
    pub fn from_bytes(mut bytes: [u8; KEY_LEN]) -> Self {
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Self(bytes)
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(*x25519_dalek::PublicKey::from(&self.secret()).as_bytes())
    }

    /// The text form, for a key file and nothing else.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// The bytes, for who set the key and asks for it.
    pub fn reveal_bytes(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(self.0)
    }

    pub(crate) fn secret(&self) -> StaticSecret {
        StaticSecret::from(self.0)
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self::from_bytes(*bytes))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

/// The name of a peer in WireGuard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A symmetric key of one pair, mixed into its handshakes.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PresharedKey {
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; KEY_LEN];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The text form, for a key file and nothing else.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// The bytes, for who set the key and asks for it.
    pub fn reveal_bytes(&self) -> Zeroizing<[u8; KEY_LEN]> {
        Zeroizing::new(self.0)
    }

    pub(crate) fn bytes(&self) -> [u8; KEY_LEN] {
        self.0
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(redacted)")
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| KeyError::NotBase64)?);
    let key: [u8; KEY_LEN] = bytes.as_slice().try_into().map_err(|_| KeyError::WrongLength(bytes.len()))?;
    Ok(Zeroizing::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A pair made by `wg genkey | wg pubkey`.
    const PRIVATE: &str = "wD855S4MSbGmU+JZbhOzy48Q8/VLT1LooyrIoHs/aWs=";
    const PUBLIC: &str = "ho8p5e+8P/6PLXbztOeuXiFlUypzEfBMMB1sj2dJajk=";

    #[test]
    fn a_private_key_derives_the_public_key_that_wg_derives() {
        let private: PrivateKey = PRIVATE.parse().unwrap();
        assert_eq!(private.public_key().to_string(), PUBLIC);
    }

    #[test]
    fn text_survives_a_round_trip() {
        assert_eq!(*PRIVATE.parse::<PrivateKey>().unwrap().reveal(), PRIVATE);
        assert_eq!(PUBLIC.parse::<PublicKey>().unwrap().to_string(), PUBLIC);
        assert_eq!(*PUBLIC.parse::<PresharedKey>().unwrap().reveal(), PUBLIC);
        assert_eq!(format!(" {PUBLIC}\n").parse::<PublicKey>().unwrap().to_string(), PUBLIC);
    }

    #[test]
    fn a_secret_shows_nothing_when_debugged() {
        assert_eq!(format!("{:?}", PRIVATE.parse::<PrivateKey>().unwrap()), "PrivateKey(redacted)");
        assert_eq!(format!("{:?}", PUBLIC.parse::<PresharedKey>().unwrap()), "PresharedKey(redacted)");
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_reason() {
        assert_eq!("not a key".parse::<PublicKey>().unwrap_err(), KeyError::NotBase64);
        assert_eq!("c2hvcnQ=".parse::<PublicKey>().unwrap_err(), KeyError::WrongLength(5));
        assert_eq!("".parse::<PrivateKey>().unwrap_err(), KeyError::WrongLength(0));
    }

    #[test]
    fn generated_keys_differ() {
        let mut rng = rand::rng();
        assert_ne!(PrivateKey::generate(&mut rng).public_key(), PrivateKey::generate(&mut rng).public_key());
    }
}
