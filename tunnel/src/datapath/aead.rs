//! The authenticated encryption of transport packets: ChaCha20-Poly1305 with the packet's counter as nonce and no
//! additional data.

use crate::discard::Discard;

#[cfg(any(test, not(feature = "null-aead")))]
mod chacha;
#[cfg(feature = "null-aead")]
mod null;

#[cfg(not(feature = "null-aead"))]
pub(super) use chacha::RingAead as DataAead;
#[cfg(feature = "null-aead")]
pub(super) use null::NullAead as DataAead;

pub(super) const TAG_LEN: usize = 16;

/// One direction's key. Works in place; the tag is the last [`TAG_LEN`] bytes.
pub(super) trait Aead: Sized + Send + Sync {
    fn new(key: &[u8; 32]) -> Self;
    fn seal(&self, counter: u64, packet: &mut [u8]);
    fn open(&self, counter: u64, packet: &mut [u8]) -> Result<(), Discard>;
}
