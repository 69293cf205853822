//! The authenticated encryption of transport packets: ChaCha20-Poly1305 with the packet's counter as nonce and no
//! additional data.

use crate::discard::Discard;

#[cfg(not(feature = "null-aead"))]
mod chacha;
#[cfg(all(multi_buffer, not(feature = "null-aead")))]
mod multi_buffer;
#[cfg(feature = "null-aead")]
mod null;

#[cfg(not(any(multi_buffer, feature = "null-aead")))]
pub(super) use chacha::RingAead as DataAead;
#[cfg(all(multi_buffer, not(feature = "null-aead")))]
pub(super) use multi_buffer::MultiBufferAead as DataAead;
#[cfg(feature = "null-aead")]
pub(super) use null::NullAead as DataAead;

pub(super) const TAG_LEN: usize = 16;

/// One direction's key. Works in place; the tag is the last [`TAG_LEN`] bytes.
pub(super) trait Aead: Sized + Send + Sync {
    fn new(key: &[u8; 32]) -> Self;
    fn seal(&self, counter: u64, packet: &mut [u8]);
    fn open(&self, counter: u64, packet: &mut [u8]) -> Result<(), Discard>;

    /// The library that does it for full packets on this CPU.
    fn library() -> &'static str;
}

/// The library that seals full packets on this CPU.
pub(crate) fn library() -> &'static str {
    DataAead::library()
}

/// 32 zero bits and the counter (whitepaper §5.4.6).
#[cfg(not(feature = "null-aead"))]
fn nonce(counter: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    bytes
}

#[cfg(test)]
#[cfg(not(feature = "null-aead"))]
mod tests;
