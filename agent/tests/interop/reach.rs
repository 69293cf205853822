//! Who reaches whom, and who must not.

use std::time::Duration;

use cladnet_tunnel::PresharedKey;

use crate::hosts::{Pair, Peer};
use crate::lab::{Lab, Side, eventually};

const SESSION: Duration = Duration::from_secs(10);

fn preshared_key() -> Option<String> {
    Some(PresharedKey::generate(&mut rand::rng()).reveal().to_string())
}

#[test]
fn two_of_ours_ping_from_the_first_packet_on() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    let _b = pair.start_ours(&lab, Side::B, &pair.peer(Side::A));
    assert!(lab.pings(Side::A));
    assert!(lab.pings(Side::B));
}

#[test]
fn boringtun_reaches_itself_and_our_engine() {
    for engine in ["boringtun", "own"] {
        let Some(lab) = Lab::new() else { return };
        let pair = Pair::new();
        let _a = pair.start_ours_with(&lab, Side::A, &pair.peer(Side::B), &["--engine", "boringtun"]);
        let _b = pair.start_ours_with(&lab, Side::B, &pair.peer(Side::A), &["--engine", engine]);
        assert!(lab.pings(Side::A), "boringtun and {engine}");
        assert!(lab.pings(Side::B), "boringtun and {engine}");
    }
}

#[test]
fn two_of_ours_ping_over_ipv6() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let over_v6 = |side: Side| Peer { endpoint: Some(format!("[fd00:2::{}]:8055", side.number())), ..pair.peer(side) };
    let _a = pair.start_ours(&lab, Side::A, &over_v6(Side::B));
    let _b = pair.start_ours(&lab, Side::B, &over_v6(Side::A));
    assert!(lab.pings(Side::A));
}

#[test]
fn two_of_ours_meet_through_nats_that_let_nobody_in() {
    let Some(lab) = Lab::behind_nats() else { return };
    let pair = Pair::new();
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    let _b = pair.start_ours(&lab, Side::B, &pair.peer(Side::A));
    assert!(lab.pings(Side::A));
    assert!(lab.pings(Side::B));
}

#[test]
fn a_host_without_ipv6_is_a_host() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    assert!(lab.run(Side::A, "sysctl", &["-q", "net.ipv6.conf.all.disable_ipv6=1"]).status.success());
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    let _b = pair.start_ours(&lab, Side::B, &pair.peer(Side::A));
    assert!(lab.pings(Side::A));
}

#[test]
fn ours_calls_wireguard_go() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let _b = pair.start_reference(&lab, Side::B, &Peer { endpoint: None, ..pair.peer(Side::A) });
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    assert!(lab.pings(Side::A));
    assert!(lab.pings(Side::B));
}

#[test]
fn wireguard_go_calls_ours() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let _a = pair.start_ours(&lab, Side::A, &Peer { endpoint: None, ..pair.peer(Side::B) });
    let _b = pair.start_reference(&lab, Side::B, &pair.peer(Side::A));
    assert!(lab.pings(Side::B));
    assert!(lab.pings(Side::A));
}

#[test]
fn an_equal_preshared_key_agrees_with_wireguard_go_either_way() {
    for caller in [Side::A, Side::B] {
        let Some(lab) = Lab::new() else { return };
        let pair = Pair::new();
        let preshared_key = preshared_key();
        let knows = |side: Side| {
            let endpoint = pair.peer(side).endpoint.filter(|_| side != caller);
            Peer { endpoint, preshared_key: preshared_key.clone(), ..pair.peer(side) }
        };
        let _b = pair.start_reference(&lab, Side::B, &knows(Side::A));
        let _a = pair.start_ours(&lab, Side::A, &knows(Side::B));
        assert!(lab.pings(caller), "{caller:?} calls");
    }
}

#[test]
fn a_wrong_preshared_key_gives_no_session_until_it_is_put_right() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let right = preshared_key();
    let ours = Peer { preshared_key: right.clone(), ..pair.peer(Side::B) };
    let reference = pair.start_reference(&lab, Side::B, &Peer { preshared_key: preshared_key(), ..pair.peer(Side::A) });
    let _a = pair.start_ours(&lab, Side::A, &ours);
    for side in [Side::A, Side::B, Side::A] {
        assert!(!lab.pings(side));
    }
    assert_eq!(reference.latest_handshake(&lab), 0);
    reference.set_peer(&lab, &Peer { preshared_key: right, ..pair.peer(Side::A) });
    eventually("a session with the right key", SESSION, || lab.pings(Side::A));
}
