//! Who gets a session.

use std::time::Duration;

use cladnet_tunnel::{Discard, PresharedKey, PrivateKey};

use crate::sim::{Host, between, carry, endpoint, friends, peer, strangers, with_preshared_keys};

#[test]
fn the_first_packet_opens_a_session_and_arrives() {
    let (a, b) = strangers();
    let output = a.seal(&between(1, 2, b"first")).unwrap();
    assert_eq!(carry(&a, &b, output), [(2, between(1, 2, b"first"))]);
    let output = b.seal(&between(2, 1, b"answer")).unwrap();
    assert_eq!(carry(&b, &a, output), [(1, between(2, 1, b"answer"))]);
}

#[test]
fn packets_that_wait_for_a_session_arrive_in_order() {
    let (a, b) = strangers();
    let initiation = a.seal(&between(1, 2, b"1")).unwrap();
    for payload in [b"2", b"3"] {
        assert!(a.seal(&between(1, 2, payload)).unwrap().datagrams.is_empty());
    }
    let expected = [b"1", b"2", b"3"].map(|payload| (2, between(1, 2, payload)));
    assert_eq!(carry(&a, &b, initiation), expected);
}

#[test]
fn packets_that_wait_at_the_responder_arrive_too() {
    let (a, b) = strangers();
    let lost = b.seal(&between(2, 1, b"waiting")).unwrap();
    assert_eq!(lost.datagrams.len(), 1);
    assert_eq!(carry(&a, &b, a.initiate(&[b.public_key()])), [(1, between(2, 1, b"waiting"))]);
}

#[test]
fn both_may_initiate_at_once() {
    let (a, b) = strangers();
    let (from_a, from_b) = (a.initiate(&[b.public_key()]), b.initiate(&[a.public_key()]));
    carry(&a, &b, from_a);
    carry(&b, &a, from_b);
    for payload in [b"1", b"2"] {
        let output = a.seal(&between(1, 2, payload)).unwrap();
        assert_eq!(carry(&a, &b, output).len(), 1);
        let output = b.seal(&between(2, 1, payload)).unwrap();
        assert_eq!(carry(&b, &a, output).len(), 1);
    }
}

#[test]
fn a_host_that_lost_its_memory_is_back_with_its_first_message() {
    let (a, b) = friends();
    let reborn = Host::with_key(1, a.private_key.clone(), vec![b.as_peer()]);
    carry(&reborn, &b, reborn.initiate(&[b.public_key()]));
    let output = b.seal(&between(2, 1, b"still there?")).unwrap();
    assert_eq!(carry(&b, &reborn, output).len(), 1);
}

#[test]
fn equal_preshared_keys_agree_and_different_ones_do_not() {
    let key = || Some(PresharedKey::from_bytes([7; 32]));
    for (mine, yours, agree) in [
        (key(), key(), true),
        (key(), Some(PresharedKey::from_bytes([8; 32])), false),
        (key(), None, false),
        (None, key(), false),
    ] {
        let (a, b) = with_preshared_keys(mine, yours);
        let output = a.seal(&between(1, 2, b"secret")).unwrap();
        assert_eq!(!carry(&a, &b, output).is_empty(), agree);
        assert_eq!(a.stats_of(&b).last_handshake.is_some(), agree);
        assert_eq!(b.stats_of(&a).last_handshake.is_some(), agree);
    }
}

#[test]
fn a_key_that_is_no_peer_gets_no_answer() {
    let (a, b) = strangers();
    let stranger = Host::new(3, vec![b.as_peer()]);
    let initiation = stranger.initiate(&[b.public_key()]);
    let (result, output) = b.open_both(endpoint(3), initiation.datagram());
    assert_eq!((result, output.datagrams.len()), (Err(Discard::UnknownPeer), 0));
    assert_eq!(b.stats_of(&a).rx_bytes, 0);
}

#[test]
fn a_message_made_for_another_key_gets_no_answer() {
    let (a, b) = strangers();
    let someone_else = PrivateKey::generate(&mut rand::rng()).public_key();
    a.set_peers(&[peer(2, someone_else)]);
    let initiation = a.initiate(&[someone_else]);
    assert_eq!(b.open(a.endpoint(), initiation.datagram()).unwrap_err(), Discard::WrongMac);
}

#[test]
fn a_replayed_initiation_is_refused_and_moves_nothing() {
    let (a, b) = strangers();
    let initiation = a.initiate(&[b.public_key()]);
    let recorded = initiation.datagram().to_vec();
    carry(&a, &b, initiation);
    assert_eq!(b.open(endpoint(66), &recorded).unwrap_err(), Discard::StaleHandshake);
    assert_eq!(b.stats_of(&a).endpoint, Some(a.endpoint()));
}

#[test]
fn handshakes_are_not_started_faster_than_they_can_end() {
    let (mut a, b) = strangers();
    assert_eq!(a.initiate(&[b.public_key()]).datagrams.len(), 1);
    assert_eq!(a.initiate(&[b.public_key()]).datagrams.len(), 0);
    a.now += Duration::from_secs(1);
    assert_eq!(a.initiate(&[b.public_key()]).datagrams.len(), 1);
}

#[test]
fn a_lost_initiation_is_repeated_soon_but_not_for_long() {
    let (mut a, b) = strangers();
    assert_eq!(a.initiate(&[b.public_key()]).datagrams.len(), 1);
    let answers = [250, 250, 500, 500, 1000, 1000, 1000, 1000]
        .map(|milliseconds| a.pass(Duration::from_millis(milliseconds)).datagrams.len());
    assert_eq!(answers, [0, 1, 0, 1, 0, 1, 0, 0]);
}

#[test]
fn an_answered_initiation_is_not_repeated() {
    let (mut a, mut b) = friends();
    for _ in 0..8 {
        assert_eq!(a.pass(Duration::from_millis(500)).datagrams.len(), 0);
        assert_eq!(b.pass(Duration::from_millis(500)).datagrams.len(), 0);
    }
}

#[test]
fn an_old_session_does_not_confirm_a_new_handshake() {
    let (mut a, b) = friends();
    let before = b.stats_of(&a).last_handshake;
    a.now += Duration::from_secs(1);
    b.open(a.endpoint(), a.initiate(&[b.public_key()]).datagram()).unwrap();
    b.open(a.endpoint(), a.seal(&between(1, 2, b"on the old one")).unwrap().datagram()).unwrap();
    assert_eq!(b.stats_of(&a).last_handshake, before);
}

#[test]
fn under_load_only_an_address_that_answers_gets_a_handshake() {
    let (mut a, b) = strangers();
    let first = a.initiate(&[b.public_key()]);
    // Nobody resets the limit here: that takes a timeout of `b`.
    for source in [endpoint(66), a.endpoint()] {
        while b.open(source, first.datagram()) != Err(Discard::UnderLoad) {}
    }
    a.now += Duration::from_secs(1);
    let second = a.initiate(&[b.public_key()]);
    let (result, cookie) = b.open_both(a.endpoint(), second.datagram());
    assert_eq!((result, cookie.datagram().len()), (Err(Discard::UnderLoad), 64));
    a.open(b.endpoint(), cookie.datagram()).unwrap();

    a.now += Duration::from_secs(1);
    let with_cookie = a.initiate(&[b.public_key()]);
    let (result, response) = b.open_both(endpoint(66), with_cookie.datagram());
    assert_eq!(
        (result, response.datagram().len()),
        (Err(Discard::UnderLoad), 64),
        "the cookie is bound to its address"
    );
    assert_eq!(b.open(a.endpoint(), with_cookie.datagram()).unwrap().datagram().len(), 92);
}

#[test]
fn a_cookie_reply_never_moves_an_endpoint() {
    let (mut a, b) = strangers();
    let first = a.initiate(&[b.public_key()]);
    while b.open(a.endpoint(), first.datagram()) != Err(Discard::UnderLoad) {}
    a.now += Duration::from_secs(1);
    let second = a.initiate(&[b.public_key()]);
    let (_, cookie) = b.open_both(a.endpoint(), second.datagram());
    a.open(endpoint(66), cookie.datagram()).unwrap();
    assert_eq!(a.stats_of(&b).endpoint, Some(b.endpoint()));
}

#[test]
fn a_tunnel_without_interfaces_answers_nobody() {
    let (a, b) = strangers();
    let initiation = a.initiate(&[b.public_key()]);
    b.tunnel.remove_interface(b.interface);
    let (result, output) = b.open_both(a.endpoint(), initiation.datagram());
    assert_eq!((result, output.datagrams.len()), (Err(Discard::WrongMac), 0));
}
