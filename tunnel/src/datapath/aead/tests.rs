//! Every implementation seals what another library seals, and opens that alone.

use std::ops::RangeInclusive;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use proptest::prelude::*;

use super::chacha::RingAead;
use super::*;

/// Empty, short, full, jumbo.
const LENGTHS: RangeInclusive<usize> = 0..=9100;

fn sealed<A: Aead>(key: &[u8; 32], counter: u64, text: &[u8]) -> Vec<u8> {
    let mut packet = [text, &[0xaa; TAG_LEN]].concat();
    A::new(key).seal(counter, &mut packet);
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
    let packets =
        [sealed::<RingAead>(&key, counter, text.as_bytes()), sealed::<DataAead>(&key, counter, text.as_bytes())];
    for packet in packets {
        assert_eq!(packet[..text.len()], expected);
        assert_eq!(packet, oracle(&key, counter, text.as_bytes()));
    }
}

fn agrees<A: Aead>(key: &[u8; 32], counter: u64, text: &[u8]) {
    let mut packet = sealed::<A>(key, counter, text);
    assert_eq!(packet, oracle(key, counter, text), "{} bytes", text.len());
    assert_eq!(A::new(key).open(counter, &mut packet), Ok(()));
    assert_eq!(&packet[..text.len()], text);
}

/// Of `packet`, which was sealed with counter 7, nothing but that opens.
fn opens_alone<A: Aead>(key: &[u8; 32], packet: &[u8], position: usize, bit: u8) {
    let aead = A::new(key);
    assert_eq!(aead.open(8, &mut packet.to_vec()), Err(Discard::NotAuthentic));
    let mut forged = packet.to_vec();
    forged[position] ^= 1 << bit;
    assert_eq!(aead.open(7, &mut forged), Err(Discard::NotAuthentic));
    assert_eq!(aead.open(7, &mut packet.to_vec()), Ok(()), "what came before changes nothing");
}

#[test]
fn two_libraries_agree_on_every_length_of_a_packet() {
    let text: Vec<u8> = (0..2000).map(|i| i as u8).collect();
    for len in 0..=text.len() {
        agrees::<RingAead>(&[7; 32], len as u64, &text[..len]);
        agrees::<DataAead>(&[7; 32], len as u64, &text[..len]);
    }
}

#[test]
fn the_longest_packets_and_those_around_a_librarys_borders_agree() {
    let text: Vec<u8> = (0..65_520).map(|i| i as u8).collect();
    let borders =
        [255, 256, 257, 959, 960, 961, 1023, 1024, 1025, 2048, 4096, 8192, 8999, 9000, 16_384, 65_519, 65_520];
    for len in borders {
        agrees::<RingAead>(&[7; 32], len as u64, &text[..len]);
        agrees::<DataAead>(&[7; 32], len as u64, &text[..len]);
    }
}

/// Datagrams of a train lie one after the other, at whatever address.
#[test]
fn nothing_around_a_packet_changes_wherever_it_lies() {
    let aead = DataAead::new(&[7; 32]);
    for (offset, len) in (0..64).flat_map(|offset| [300, 1000, 1420].map(|len| (offset, len))) {
        let (packet, mut space) = (offset..offset + len + TAG_LEN, [0xaa; 2048]);
        space[packet.clone()].fill(5);
        aead.seal(1, &mut space[packet.clone()]);
        assert_eq!(space[packet.clone()], oracle(&[7; 32], 1, &[5; 1420][..len]));
        assert_eq!(aead.open(1, &mut space[packet.clone()]), Ok(()));
        assert_eq!(space[offset..offset + len], [5; 1420][..len]);
        assert!(space[..offset].iter().chain(&space[packet.end..]).all(|byte| *byte == 0xaa), "{offset} {len}");
    }
}

#[test]
fn threads_that_come_and_go_seal_and_open_at_once_with_one_key() {
    let (aead, text) = (DataAead::new(&[7; 32]), [9; 1420]);
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let aead = &aead;
            scope.spawn(move || {
                for counter in (thread..400).step_by(20) {
                    let mut packet = [&text[..], &[0; TAG_LEN]].concat();
                    aead.seal(counter, &mut packet);
                    assert_eq!(packet, oracle(&[7; 32], counter, &text));
                    assert_eq!(aead.open(counter, &mut packet), Ok(()));
                }
            });
        }
    });
}

proptest! {
    #[test]
    fn two_libraries_agree(key: [u8; 32], counter: u64, text in prop::collection::vec(any::<u8>(), LENGTHS)) {
        agrees::<RingAead>(&key, counter, &text);
        agrees::<DataAead>(&key, counter, &text);
    }

    #[test]
    fn nothing_else_opens(
        key: [u8; 32],
        text in prop::collection::vec(any::<u8>(), 0..1500),
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let packet = oracle(&key, 7, &text);
        let position = position.index(packet.len());
        opens_alone::<RingAead>(&key, &packet, position, bit);
        opens_alone::<DataAead>(&key, &packet, position, bit);
    }
}
