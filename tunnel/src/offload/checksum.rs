//! The Internet checksum (RFC 1071), summed in the machine's own byte order: the sum comes out right in either.

use multiversion::multiversion;

use super::{Transport, V4_HEADER};

/// From here on wider registers pay for the choice between them.
const LONG: usize = 128;

/// A ones' complement sum that is not folded yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even offset of what is summed; only the last of them may be of odd length.
    #[inline]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks();
        let sum = if bytes.len() < LONG { total(words) } else { total_of_many(words) };
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        Self(self.0 + sum + u64::from(u32::from_ne_bytes(last)))
    }

    pub(super) fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The pseudo-header of the packet that `ip` begins (RFC 793 §3.1, RFC 8200 §8.1).
    pub(super) fn pseudo_header(ip: &[u8], transport: Transport, len: usize) -> Self {
        let addresses = if ip[0] >> 4 == 4 { &ip[12..V4_HEADER] } else { &ip[8..40] };
        Self::default().bytes(addresses).word(u16::from(transport.protocol())).word(len as u16)
    }

    /// The folded sum as bytes of a header: what stands in the place of a checksum that is yet to be completed.
    pub(super) fn partial(self) -> [u8; 2] {
        self.folded().to_ne_bytes()
    }

    /// The checksum as bytes of a header.
    pub(super) fn checksum(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    /// The same for UDP, where zero would mean that there is none (RFC 768); the other zero is as good for TCP.
    pub(super) fn transport_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// Whether a sum over a header or message, its checksum included, is as it should be.
    pub(super) fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }

    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

/// Four bytes into eight: 2^32 of them fit, and the compiler makes vector code of it.
#[inline(always)]
fn total(words: &[[u8; 4]]) -> u64 {
    words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
}

/// The same with what the processor turns out to have.
#[multiversion(targets("x86_64+avx2"))]
fn total_of_many(words: &[[u8; 4]]) -> u64 {
    total(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 §4.1, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(u16::from_be_bytes(Sum::default().bytes(&bytes).checksum()), reference(&bytes));
        }

        #[test]
        fn what_carries_its_checksum_is_valid(mut bytes in prop::collection::vec(any::<u8>(), 2..200)) {
            bytes[..2].fill(0);
            let checksum = Sum::default().bytes(&bytes).checksum();
            bytes[..2].copy_from_slice(&checksum);
            prop_assert!(Sum::default().bytes(&bytes).is_valid());
        }
    }
}
