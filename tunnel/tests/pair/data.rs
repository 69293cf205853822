//! What passes through a session, and where the peer is believed to be.

use std::net::Ipv4Addr;
use std::time::Duration;

use cladnet_tunnel::{Discard, PeerConfig};
use proptest::prelude::*;

use crate::sim::{Host, between, carry, endpoint, friends, packet};

#[test]
fn a_packet_arrives_once() {
    let (a, b) = friends();
    let output = a.seal(&between(1, 2, b"once")).unwrap();
    assert_eq!(b.open(a.endpoint(), output.datagram()).unwrap().packets.len(), 1);
    assert_eq!(b.open(a.endpoint(), output.datagram()).unwrap_err(), Discard::Replay);
    assert_eq!(b.tunnel.discards().of(Discard::Replay), 1);
}

#[test]
fn packets_may_overtake_each_other() {
    let (a, b) = friends();
    let sealed: Vec<_> = (0..100u8).map(|n| a.seal(&between(1, 2, &[n])).unwrap()).collect();
    let arrived = sealed.iter().rev().filter(|output| b.open(a.endpoint(), output.datagram()).is_ok()).count();
    assert_eq!(arrived, 100);
}

#[test]
fn a_train_arrives_in_order_and_each_packet_once() {
    let (a, b) = friends();
    let packets: Vec<_> = (0..9u8).map(|n| between(1, 2, &vec![n; if n == 8 { 3 } else { 1000 }])).collect();
    let datagrams: Vec<_> = a.seal_train(&packets).unwrap().datagrams.into_iter().map(|(_, bytes)| bytes).collect();
    let delivered = b.open_train(a.endpoint(), &datagrams).packets;
    assert_eq!(delivered.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>(), packets);
    assert!(b.open_train(a.endpoint(), &datagrams).packets.is_empty());
    assert_eq!(b.tunnel.discards().of(Discard::Replay), 9);
}

#[test]
fn what_is_forged_in_a_train_is_left_out_of_it() {
    let (a, b) = friends();
    let packets: Vec<_> = (0..5u8).map(|n| between(1, 2, &[n; 100])).collect();
    let mut datagrams: Vec<_> = a.seal_train(&packets).unwrap().datagrams.into_iter().map(|(_, bytes)| bytes).collect();
    datagrams[1][40] ^= 1;
    datagrams[3][5] ^= 1;
    let delivered = b.open_train(a.endpoint(), &datagrams).packets;
    let expected: Vec<_> = [0, 2, 4].map(|n: usize| packets[n].clone()).into();
    assert_eq!(delivered.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>(), expected);
}

#[test]
fn a_train_that_waits_for_a_session_arrives_in_order() {
    let (a, b) = crate::sim::strangers();
    let packets: Vec<_> = (0..5u8).map(|n| between(1, 2, &[n; 100])).collect();
    let initiation = a.seal_train(&packets).unwrap();
    let expected: Vec<_> = packets.into_iter().map(|packet| (2, packet)).collect();
    assert_eq!(carry(&a, &b, initiation), expected);
}

#[test]
fn a_source_that_is_no_peers_is_dropped_but_the_endpoint_follows() {
    let (a, b) = friends();
    let output = a.seal(&packet(Ipv4Addr::new(172, 16, 0, 1), Ipv4Addr::new(10, 9, 0, 2), b"spoofed")).unwrap();
    assert_eq!(b.open(endpoint(77), output.datagram()).unwrap_err(), Discard::ForeignSource);
    assert_eq!(
        b.stats_of(&a).endpoint,
        Some(endpoint(77)),
        "the packet was authentic, only its content was not allowed"
    );
}

#[test]
fn a_peer_cannot_speak_for_another() {
    let (a, b) = friends();
    let c = Host::new(3, vec![]);
    // b trusts a with the whole network, and c with one address of it.
    let wide = PeerConfig { allowed_ips: vec!["10.9.0.0/24".parse().unwrap()], ..a.as_peer() };
    b.set_peers(&[wide, c.as_peer()]);
    let own = a.seal(&between(1, 2, b"mine")).unwrap();
    assert_eq!(b.open(a.endpoint(), own.datagram()).unwrap().packets.len(), 1);
    let stolen = a.seal(&between(3, 2, b"as if I were c")).unwrap();
    assert_eq!(b.open(a.endpoint(), stolen.datagram()).unwrap_err(), Discard::ForeignSource);
}

#[test]
fn a_destination_without_a_peer_is_not_sent() {
    let (a, _) = friends();
    assert_eq!(a.seal(&between(1, 9, b"nobody")).unwrap_err(), Discard::NoRoute);
    assert_eq!(a.seal(b"not ip").unwrap_err(), Discard::NotIp);
    assert_eq!(a.seal(&[]).unwrap_err(), Discard::NotIp);
}

#[test]
fn a_peer_without_an_endpoint_is_reached_once_it_has_called() {
    let (a, b) = crate::sim::strangers();
    b.set_peers(&[]);
    b.set_peers(&[PeerConfig { endpoint: None, ..a.as_peer() }]);
    assert_eq!(b.seal(&between(2, 1, b"where are you?")).unwrap_err(), Discard::NoEndpoint);
    carry(&a, &b, a.initiate(&[b.public_key()]));
    let output = b.seal(&between(2, 1, b"there you are")).unwrap();
    assert_eq!(output.datagrams[0].0, a.endpoint());
}

#[test]
fn an_authentic_packet_moves_the_endpoint_and_a_forged_one_does_not() {
    let (a, b) = friends();
    let mut forged = a.seal(&between(1, 2, b"forged")).unwrap().datagram().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(b.open(endpoint(66), &forged).unwrap_err(), Discard::NotAuthentic);
    assert_eq!(b.stats_of(&a).endpoint, Some(a.endpoint()));

    let moved = a.seal(&between(1, 2, b"I moved")).unwrap();
    b.open(endpoint(77), moved.datagram()).unwrap();
    assert_eq!(b.seal(&between(2, 1, b"I know")).unwrap().datagrams[0].0, endpoint(77));
}

#[test]
fn announcing_moves_the_endpoint_without_data() {
    let (a, b) = friends();
    for (to, greeting) in a.announce().datagrams {
        assert_eq!(to, b.endpoint());
        assert!(b.open(endpoint(77), &greeting).unwrap().packets.is_empty());
        assert_eq!(b.stats_of(&a).endpoint, Some(endpoint(77)), "the first packet will do");
    }
    assert_eq!(b.stats_of(&a).endpoint, Some(endpoint(77)));
}

#[test]
fn a_tunnel_never_travels_through_itself() {
    let (mut a, b) = friends();
    let inside = "10.9.0.2:8055".parse().unwrap();
    let sealed = b.seal(&between(2, 1, b"from within")).unwrap();
    assert_eq!(a.open(inside, sealed.datagram()).unwrap_err(), Discard::InsideTunnel);
    assert_eq!(a.stats_of(&b).endpoint, Some(b.endpoint()));

    a.set_peers(&[PeerConfig { endpoint: Some(inside), ..b.as_peer() }]);
    assert_eq!(a.seal(&between(1, 2, b"again and again")).unwrap_err(), Discard::InsideTunnel);
    assert!(a.announce().datagrams.is_empty() && a.pass(Duration::from_secs(600)).datagrams.is_empty());
}

#[test]
fn both_ends_count_the_same_bytes() {
    let (a, b) = friends();
    for _ in 0..10 {
        let output = a.seal(&between(1, 2, &[0; 1000])).unwrap();
        carry(&a, &b, output);
    }
    let (mine, yours) = (a.stats_of(&b), b.stats_of(&a));
    assert!(mine.tx_bytes > 10_000);
    assert_eq!((mine.tx_bytes, mine.rx_bytes), (yours.rx_bytes, yours.tx_bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_packet_comes_out_as_it_went_in(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 1..8),
    ) {
        let (a, b) = friends();
        for payload in payloads {
            let inner = between(1, 2, &payload);
            let output = a.seal(&inner).unwrap();
            prop_assert_eq!(carry(&a, &b, output), [(2, inner)]);
        }
    }
}
