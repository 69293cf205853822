//! Bytes from people who have no key: nothing is delivered, nothing is believed, nothing panics.

use std::time::Duration;

use cladnet_tunnel::{Access, Action, Discard, Implementation};
use proptest::prelude::*;

use crate::sim::{Host, Output, between, carry, endpoint, friends};

#[test]
fn datagrams_of_every_size_are_survived() {
    let (a, b) = friends();
    for len in (0..200).chain([1419, 1420, 1500, 9000, 65_507, 65_535]) {
        for message_type in [0, 1, 2, 3, 4, 5, 0xc1, 0xc2] {
            let mut datagram = vec![0; len];
            if let Some(first) = datagram.first_mut() {
                *first = message_type;
            }
            let (result, output) = b.open_both(endpoint(66), &datagram);
            assert!(result.is_err(), "{len} bytes of type {message_type}");
            assert!(output.packets.is_empty() && output.datagrams.is_empty());
        }
    }
    assert_eq!(b.stats_of(&a).endpoint, Some(a.endpoint()));
}

#[test]
fn what_is_not_authentic_starts_no_handshake() {
    let (mut a, b) = friends();
    let mut forged = b.seal(&between(2, 1, b"forged")).unwrap().datagram().to_vec();
    let end = forged.len() - 1;
    forged[end] ^= 1;
    // An initiator that received something now would renew its session.
    a.now += Duration::from_secs(170);
    assert_eq!(a.open_both(b.endpoint(), &forged), (Err(Discard::NotAuthentic), Output::default()));
}

#[test]
fn a_member_reports_no_error_about_what_was_sent_to_another() {
    let (a, b, c) = (Host::new(1, vec![]), Host::new(2, vec![]), Host::new(3, vec![]));
    a.set_peers(&[b.as_peer(), c.as_peer()]);
    for peer in [&b, &c] {
        peer.set_peers(&[a.as_peer()]);
        carry(peer, &a, peer.initiate(&[a.public_key()]));
    }
    a.tunnel.set_access(a.now, a.interface, Some(&Access { rules: vec![], default: Action::Deny })).unwrap();
    let question = between(1, 3, &[0x13, 0x88, 0, 53, 0, 8, 0, 0]);
    a.seal(&question).unwrap();
    let error = |from: &Host| {
        let port_unreachable = [&[3, 3, 0, 0, 0, 0, 0, 0], &question[..]].concat();
        let mut packet = between(from.number, 1, &port_unreachable);
        packet[9] = 1;
        a.open(from.endpoint(), from.seal(&packet).unwrap().datagram()).map(|output| output.packets.len())
    };
    assert_eq!((error(&b), error(&c)), (Err(Discard::Refused), Ok(1)));
}

#[test]
fn what_was_never_sent_has_no_answer() {
    let (a, c) = (Host::new(1, vec![]), Host::new(3, vec![]));
    a.tunnel.set_access(a.now, a.interface, Some(&Access { rules: vec![], default: Action::Deny })).unwrap();
    assert_eq!(a.seal(&between(1, 3, &[0x13, 0x88, 0, 53, 0, 8, 0, 0])).unwrap_err(), Discard::NoRoute);

    a.set_peers(&[c.as_peer()]);
    c.set_peers(&[a.as_peer()]);
    carry(&c, &a, c.initiate(&[a.public_key()]));
    let answer = c.seal(&between(3, 1, &[0, 53, 0x13, 0x88, 0, 8, 0, 0])).unwrap();
    assert_eq!(a.open(c.endpoint(), answer.datagram()).unwrap_err(), Discard::Refused);
}

#[test]
fn an_inner_packet_too_long_for_a_datagram_is_not_sent() {
    let (a, _) = friends();
    let longest = between(1, 2, &vec![0; 65_535 - 20]);
    assert_eq!(a.seal(&longest).unwrap_err(), Discard::Oversized);
    assert!(a.seal(&longest[..65_475]).is_ok());
}

#[test]
fn an_index_of_no_session_is_unknown() {
    let (a, b) = friends();
    let mut datagram = a.seal(&between(1, 2, b"misrouted")).unwrap().datagram().to_vec();
    datagram[5] ^= 0xff;
    assert_eq!(b.open(a.endpoint(), &datagram).unwrap_err(), Discard::UnknownIndex);
}

#[test]
fn an_index_of_a_session_long_gone_is_refused() {
    let (a, b) = friends();
    let mut datagram = a.seal(&between(1, 2, b"old")).unwrap().datagram().to_vec();
    datagram[4] ^= 0x40;
    let reason = b.open(a.endpoint(), &datagram).unwrap_err();
    // `boringtun` numbers a peer's sessions in a row; ours have nothing in common.
    let expected = match crate::IMPLEMENTATION {
        Implementation::Own => Discard::UnknownIndex,
        Implementation::Boringtun => Discard::NoSession,
    };
    assert_eq!(reason, expected);
}

#[test]
fn a_counter_at_its_end_is_refused_before_anything_is_computed() {
    let (a, b) = friends();
    let mut datagram = a.seal(&between(1, 2, b"last")).unwrap().datagram().to_vec();
    datagram[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(b.open(a.endpoint(), &datagram).unwrap_err(), Discard::CounterExhausted);
}

#[test]
fn a_session_cannot_be_used_by_another_hosts_address_book() {
    let (a, b) = friends();
    let (_, d) = friends();
    let datagram = a.seal(&between(1, 2, b"for b")).unwrap().datagram().to_vec();
    assert!(d.open(a.endpoint(), &datagram).is_err());
    assert_eq!(b.open(a.endpoint(), &datagram).unwrap().packets.len(), 1);
}

/// Byte and bit of a data message's index that nothing vouches for: it says in which queue the message waits.
const MAY_OVERTAKE: (usize, u8) = (5, 3);

#[test]
fn a_bit_that_says_where_a_packet_waits_changes_nothing_else() {
    let (a, b) = friends();
    let packet = between(1, 2, b"to whichever queue");
    let mut datagram = a.seal(&packet).unwrap().datagram().to_vec();
    datagram[MAY_OVERTAKE.0] ^= 1 << MAY_OVERTAKE.1;
    let delivered: Vec<_> =
        b.open(a.endpoint(), &datagram).unwrap().packets.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(delivered, [packet]);
    assert_eq!(b.open(a.endpoint(), &datagram).unwrap_err(), Discard::Replay);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_are_taken_for_a_message(
        mut datagram in prop::collection::vec(any::<u8>(), 0..2000),
        message_type in prop::sample::select(vec![0u8, 1, 2, 3, 4, 5, 0xc1, 0xc2]),
    ) {
        let (_, b) = friends();
        if let Some(head) = datagram.get_mut(..4) {
            head.copy_from_slice(&[message_type, 0, 0, 0]);
        }
        let (result, output) = b.open_both(endpoint(66), &datagram);
        prop_assert!(result.is_err() && output.packets.is_empty() && output.datagrams.is_empty());
    }

    #[test]
    fn any_other_flipped_bit_is_noticed(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (a, b) = friends();
        let mut datagram = a.seal(&between(1, 2, &payload)).unwrap().datagram().to_vec();
        let position = position.index(datagram.len());
        prop_assume!((position, bit) != MAY_OVERTAKE);
        datagram[position] ^= 1 << bit;
        let (result, output) = b.open_both(endpoint(66), &datagram);
        prop_assert!(result.is_err() && output.packets.is_empty());
        prop_assert_eq!(b.stats_of(&a).endpoint, Some(a.endpoint()));
    }

    #[test]
    fn a_flipped_bit_in_a_handshake_leads_nowhere(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (a, b) = crate::sim::strangers();
        let mut initiation = a.initiate(&[b.public_key()]).datagram().to_vec();
        // mac2 is empty and not looked at while there is no load.
        let position = position.index(initiation.len() - 16);
        initiation[position] ^= 1 << bit;
        prop_assert!(b.open(a.endpoint(), &initiation).is_err());
        prop_assert_eq!(b.stats_of(&a).rx_bytes, 0);
    }
}
