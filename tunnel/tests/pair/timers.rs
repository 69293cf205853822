//! When our engine speaks by itself (whitepaper §6), in virtual time.

use std::time::Duration;

use cladnet_tunnel::Discard;

use crate::sim::{Host, Output, between, carry, friends, strangers};

const SECOND: Duration = Duration::from_secs(1);

fn types(output: &Output) -> Vec<u8> {
    output.datagrams.iter().map(|(_, datagram)| datagram[0]).collect()
}

/// Lets time pass for both, carries what they say, and returns the types of all messages.
fn live(a: &mut Host, b: &mut Host, time: Duration) -> Vec<u8> {
    let mut said = Vec::new();
    for _ in 0..time.as_millis() / 250 {
        let tick = Duration::from_millis(250);
        for (first, output) in [(true, a.pass(tick)), (false, b.pass(tick))] {
            said.extend(types(&output));
            let (from, to) = if first { (&*a, &*b) } else { (&*b, &*a) };
            carry(from, to, output);
        }
    }
    said
}

fn send(from: &Host, to: &Host) -> usize {
    carry(from, to, from.seal(&between(from.number, to.number, b"data")).unwrap()).len()
}

#[test]
fn an_idle_pair_says_nothing() {
    let (mut a, mut b) = friends();
    assert_eq!(live(&mut a, &mut b, 1000 * SECOND), []);
}

#[test]
fn unanswered_data_is_acknowledged_once_and_the_answer_is_not() {
    let (mut a, mut b) = friends();
    assert_eq!(send(&a, &b), 1);
    assert_eq!(live(&mut a, &mut b, 9 * SECOND), []);
    assert_eq!(live(&mut a, &mut b, 2 * SECOND), [4]);
    assert_eq!(live(&mut a, &mut b, 100 * SECOND), []);
}

#[test]
fn answered_data_is_not_acknowledged() {
    let (mut a, mut b) = friends();
    for _ in 0..30 {
        assert_eq!(send(&a, &b) + send(&b, &a), 2);
        assert_eq!(live(&mut a, &mut b, SECOND), []);
    }
}

#[test]
fn a_peer_that_never_answers_gets_a_handshake_after_fifteen_seconds() {
    let (mut a, _) = friends();
    a.seal(&between(1, 2, b"hello?")).unwrap();
    assert_eq!(types(&a.pass(Duration::from_millis(14_999))), []);
    assert_eq!(types(&a.pass(Duration::from_millis(400))), [1]);
}

#[test]
fn a_handshake_is_given_up_after_ninety_seconds_and_begun_again_for_data() {
    let (mut a, b) = strangers();
    assert_eq!(types(&a.seal(&between(1, 2, b"lost")).unwrap()), [1]);
    let repeated = (0..89 * 4).flat_map(|_| types(&a.pass(Duration::from_millis(250)))).count();
    // Three early ones, then one every 5 to 5.333 s, seen every 250 ms.
    assert!((18..=20).contains(&repeated), "{repeated}");
    let rest: Vec<_> = (0..400).flat_map(|_| types(&a.pass(Duration::from_millis(250)))).collect();
    assert!(rest.len() <= 1, "{rest:?}");
    let output = a.seal(&between(1, 2, b"again")).unwrap();
    assert_eq!(carry(&a, &b, output), [(2, between(1, 2, b"again"))], "what waited is not delivered so late");
}

#[test]
fn what_waits_for_a_session_is_bounded() {
    let (a, b) = strangers();
    let packet = between(1, 2, &[0; 1380]);
    let initiation = a.seal(&packet).unwrap();
    let waiting = 1 + (0..1000).filter(|_| a.seal(&packet).is_ok()).count();
    assert_eq!(a.seal(&packet).unwrap_err(), Discard::NoSession);
    assert_eq!(carry(&a, &b, initiation).len(), waiting);
    assert!((40..50).contains(&waiting), "{waiting}");
}

#[test]
fn only_the_initiator_renews_by_age_and_no_packet_is_lost() {
    let (mut a, mut b) = friends();
    let mut renewals = Vec::new();
    for second in 0..1000 {
        for (first, from, to) in [(true, &a, &b), (false, &b, &a)] {
            let output = from.seal(&between(from.number, to.number, b"tick")).unwrap();
            if types(&output).contains(&1) {
                assert!(first, "at {second} s");
                renewals.push(second);
            }
            assert_eq!(carry(from, to, output).len(), 1, "at {second} s");
        }
        assert_eq!(live(&mut a, &mut b, SECOND), []);
    }
    assert_eq!(renewals, [120, 240, 360, 480, 600, 720, 840, 960]);
}

#[test]
fn an_initiator_that_only_receives_renews_in_time() {
    let (mut a, mut b) = friends();
    for second in 0..400 {
        assert_eq!(send(&b, &a), 1, "at {second} s");
        live(&mut a, &mut b, SECOND);
        assert!(a.stats_of(&b).last_handshake.unwrap() < 135 * SECOND, "its acknowledgements renew as data does");
    }
}

#[test]
fn a_session_ends_after_three_minutes() {
    let (mut a, mut b) = friends();
    let late = a.seal(&between(1, 2, b"late")).unwrap();
    b.now += 180 * SECOND;
    assert_eq!(b.open(a.endpoint(), late.datagram()).unwrap_err(), Discard::NoSession);
    a.now += 180 * SECOND;
    assert_eq!(types(&a.seal(&between(1, 2, b"new")).unwrap()), [1]);
    assert!(a.announce().datagrams.iter().all(|(_, datagram)| datagram[0] == 1));
    b.pass(SECOND);
    assert_eq!(b.open(a.endpoint(), late.datagram()).unwrap_err(), Discard::UnknownIndex, "its keys are gone");
}

#[test]
fn handshakes_in_the_same_instant_are_told_apart() {
    let (a, b) = strangers();
    let first = a.initiate(&[b.public_key()]);
    let reborn = Host::with_key(1, a.private_key.clone(), vec![b.as_peer()]);
    carry(&a, &b, first);
    carry(&reborn, &b, reborn.initiate(&[b.public_key()]));
    assert_eq!(send(&reborn, &b), 1);
}

#[test]
fn a_persistent_keepalive_keeps_the_session_too() {
    let (mut a, mut b) = friends();
    let keepalive = cladnet_tunnel::PeerConfig { persistent_keepalive: Some(25 * SECOND), ..b.as_peer() };
    a.set_peers(&[keepalive]);
    let said = live(&mut a, &mut b, 1000 * SECOND);
    let (keepalives, initiations) = [4, 1].map(|kind| said.iter().filter(|it| **it == kind).count()).into();
    assert!((38..=40).contains(&(keepalives + initiations)), "{said:?}");
    assert!((6..=8).contains(&initiations), "{said:?}");
    assert!(a.stats_of(&b).last_handshake.unwrap() < 180 * SECOND);
}
