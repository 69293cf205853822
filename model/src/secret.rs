//! The secret half of a token or an API key. It is never stored: records hold its hash.

use std::fmt;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of a [`Secret`]: as many bits as the hash that stands for it.
pub const SECRET_BYTES: usize = 32;

/// Random bytes that whoever holds them is trusted for. Wiped when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// Takes bytes from a cryptographic source of randomness.
    pub fn new(random: [u8; SECRET_BYTES]) -> Self {
        Self(random)
    }

    /// The bytes themselves, to be written out for the person who asked for them, once.
    pub(crate) fn expose(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// SHA-256 of the secret in hex: what records keep and compare. No salt is needed, 256 random bits cannot be
    /// guessed.
    pub fn hash(&self) -> String {
        HEXLOWER.encode(digest(&SHA256, &self.0).as_ref())
    }
}

/// Compares hashes, so that the time taken tells nothing of the secret.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
