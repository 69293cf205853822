//! ChaCha20-Poly1305 by ring.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, TAG_LEN, nonce};
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
            .seal_in_place_separate_tag(unique(counter), Aad::empty(), text)
            .expect("a datagram is shorter than the longest text");
        room.copy_from_slice(tag.as_ref());
    }

    fn open(&self, counter: u64, packet: &mut [u8]) -> Result<(), Discard> {
        let opened = self.0.open_in_place(unique(counter), Aad::empty(), packet);
        opened.map(drop).map_err(|_| Discard::NotAuthentic)
    }

    fn library() -> &'static str {
        "ring"
    }
}

fn unique(counter: u64) -> Nonce {
    Nonce::assume_unique_for_key(nonce(counter))
}
