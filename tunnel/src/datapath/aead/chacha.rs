//! ChaCha20-Poly1305 by ring.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, TAG_LEN};
use crate::discard::Discard;

pub(in crate::datapath) struct RingAead(LessSafeKey);

impl Aead for RingAead {
    fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of this algorithm is 32 bytes")))
    }

    fn seal(&self, counter: u64, packet: &mut [u8]) {
        let (text, room) = packet.split_at_mut(packet.len() - TAG_LEN);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::empty(), text)
            .expect("a datagram is shorter than the longest text");
        room.copy_from_slice(tag.as_ref());
    }

    fn open(&self, counter: u64, packet: &mut [u8]) -> Result<(), Discard> {
        let opened = self.0.open_in_place(nonce(counter), Aad::empty(), packet);
        opened.map(drop).map_err(|_| Discard::NotAuthentic)
    }
}

/// 32 zero bits and the counter (whitepaper §5.4.6).
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::AeadInPlace;
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
    use proptest::prelude::*;

    use super::*;

    fn sealed(key: &[u8; 32], counter: u64, text: &[u8]) -> Vec<u8> {
        let mut packet = [text, &[0xaa; TAG_LEN]].concat();
        RingAead::new(key).seal(counter, &mut packet);
        packet
    }

    /// What another library makes of the same packet.
    fn oracle(key: &[u8; 32], counter: u64, text: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        let mut packet = text.to_vec();
        ChaCha20Poly1305::new(key.into()).encrypt_in_place(&nonce.into(), b"", &mut packet).unwrap();
        packet
    }

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let hex: String = hex.split_whitespace().collect();
        std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
    }

    /// RFC 8439 appendix A.5. Its additional data, which WireGuard has none of, is only in the tag.
    #[test]
    fn the_ciphertext_of_rfc_8439_comes_out() {
        let key = bytes("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
        let counter = u64::from_le_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
        let text = "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, \
                    or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference \
                    material or to cite them other than as /“work in progress./”";
        let expected: [u8; 265] = bytes(
            "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c
             321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61
             c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0
             a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa76991955ebd63159434e
             cebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29a6ad5cb4
             022b02709b",
        );
        let packet = sealed(&key, counter, text.as_bytes());
        assert_eq!(packet[..text.len()], expected);
        assert_eq!(packet, oracle(&key, counter, text.as_bytes()));
    }

    proptest! {
        #[test]
        fn two_libraries_agree(key: [u8; 32], counter: u64, text in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut packet = sealed(&key, counter, &text);
            prop_assert_eq!(&packet, &oracle(&key, counter, &text));
            prop_assert!(RingAead::new(&key).open(counter, &mut packet).is_ok());
            prop_assert_eq!(&packet[..text.len()], &text);
        }

        #[test]
        fn nothing_else_opens(
            key: [u8; 32],
            text in prop::collection::vec(any::<u8>(), 0..200),
            position in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let mut packet = sealed(&key, 7, &text);
            prop_assert!(RingAead::new(&key).open(8, &mut packet.clone()).is_err());
            let position = position.index(packet.len());
            packet[position] ^= 1 << bit;
            prop_assert!(RingAead::new(&key).open(7, &mut packet).is_err());
        }
    }
}
