//! Our engine against `boringtun`, both ways: each is the other's oracle.

use std::time::Duration;

use cladnet_tunnel::Implementation::{Boringtun, Own};
use cladnet_tunnel::{Discard, Implementation, LANES, PeerConfig, PresharedKey, PrivateKey, queue};
use proptest::prelude::*;

use crate::sim::{Host, Output, between, carry};

pub(crate) const COMBINATIONS: [(Implementation, Implementation); 4] =
    [(Own, Own), (Own, Boringtun), (Boringtun, Own), (Boringtun, Boringtun)];

/// Hosts 1 and 2 on these engines, without a session.
pub(crate) fn strangers_on(engines: (Implementation, Implementation), keys: [Option<PresharedKey>; 2]) -> (Host, Host) {
    let host = |engine, number| Host::on(engine, number, PrivateKey::generate(&mut rand::rng()), vec![]);
    let (a, b) = (host(engines.0, 1), host(engines.1, 2));
    let [mine, yours] = keys;
    a.set_peers(&[PeerConfig { preshared_key: mine, ..b.as_peer() }]);
    b.set_peers(&[PeerConfig { preshared_key: yours, ..a.as_peer() }]);
    (a, b)
}

fn passes(from: &Host, to: &Host, payload: &[u8]) {
    let packet = between(from.number, to.number, payload);
    assert_eq!(carry(from, to, from.seal(&packet).unwrap()), [(to.number, packet)]);
}

#[test]
fn sessions_open_and_are_renewed_from_either_side() {
    for engines in COMBINATIONS {
        let (mut a, mut b) = strangers_on(engines, [None, None]);
        for round in 0..6u8 {
            let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
            assert!(carry(from, to, from.initiate(&[to.public_key()])).is_empty());
            passes(&a, &b, &[round; 100]);
            passes(&b, &a, &[round; 3]);
            assert!(a.stats_of(&b).last_handshake.is_some() && b.stats_of(&a).last_handshake.is_some());
            a.now += Duration::from_secs(1);
            b.now += Duration::from_secs(1);
        }
    }
}

#[test]
fn what_may_overtake_has_a_queue_of_its_own_at_agents_and_is_as_all_else_to_others() {
    for engines in COMBINATIONS {
        let (a, b) = strangers_on(engines, [None, None]);
        carry(&a, &b, a.initiate(&[b.public_key()]));
        let packets = [between(1, 2, b"one"), between(1, 2, b"two")];
        let queue_of = |output: &Output| queue(&output.datagrams[0].1).unwrap();
        let lane = queue_of(&a.seal_train(&packets).unwrap());
        assert!(lane < LANES);
        let overtaking = a.seal_overtaking(&packets).unwrap();
        // `boringtun` addresses its messages itself.
        assert_eq!(queue_of(&overtaking), if engines.0 == Own { LANES + lane } else { lane });
        assert_eq!(carry(&a, &b, overtaking), packets.clone().map(|packet| (2, packet)));
        a.set_peers(&[PeerConfig { probes: false, ..b.as_peer() }]);
        assert_eq!(queue_of(&a.seal_overtaking(&packets).unwrap()), lane);
    }
}

#[test]
fn packets_under_the_former_session_still_arrive() {
    for engines in COMBINATIONS {
        let (mut a, b) = strangers_on(engines, [None, None]);
        carry(&a, &b, a.initiate(&[b.public_key()]));
        let late = a.seal(&between(1, 2, b"late")).unwrap();
        a.now += Duration::from_secs(1);
        carry(&a, &b, a.initiate(&[b.public_key()]));
        passes(&a, &b, b"new");
        assert_eq!(carry(&a, &b, late).len(), 1);
    }
}

#[test]
fn preshared_keys_must_be_equal() {
    let key = |byte| Some(PresharedKey::from_bytes([byte; 32]));
    for engines in COMBINATIONS {
        for (mine, yours) in [(key(1), key(1)), (key(1), key(2)), (key(1), None), (None, key(1))] {
            let agree = mine == yours;
            let (a, b) = strangers_on(engines, [mine, yours]);
            assert_eq!(carry(&a, &b, a.seal(&between(1, 2, b"secret")).unwrap()).len(), usize::from(agree));
        }
    }
}

#[test]
fn a_cookie_opens_the_door_under_load() {
    for engines in COMBINATIONS {
        let (mut a, b) = strangers_on(engines, [None, None]);
        let first = a.initiate(&[b.public_key()]);
        while b.open(a.endpoint(), first.datagram()) != Err(Discard::UnderLoad) {}
        a.now += Duration::from_secs(1);
        let second = a.initiate(&[b.public_key()]);
        let (result, cookie) = b.open_both(a.endpoint(), second.datagram());
        assert_eq!(result, Err(Discard::UnderLoad));
        assert!(a.open(b.endpoint(), cookie.datagram()).unwrap().datagrams.is_empty());

        a.now += Duration::from_secs(1);
        let third = a.initiate(&[b.public_key()]);
        assert!(carry(&a, &b, third).is_empty());
        passes(&a, &b, b"in");
        passes(&b, &a, b"out");
    }
}

#[test]
fn a_cookie_that_was_tampered_with_is_not_taken() {
    let (mut a, b) = strangers_on((Own, Own), [None, None]);
    let first = a.initiate(&[b.public_key()]);
    while b.open(a.endpoint(), first.datagram()) != Err(Discard::UnderLoad) {}
    a.now += Duration::from_secs(1);
    let (_, cookie) = b.open_both(a.endpoint(), a.initiate(&[b.public_key()]).datagram());
    for position in [4, 8, 32, 63] {
        let mut forged = cookie.datagram().to_vec();
        forged[position] ^= 1;
        assert!(a.open(b.endpoint(), &forged).is_err());
    }
    a.now += Duration::from_secs(1);
    let third = a.initiate(&[b.public_key()]);
    assert_eq!(third.datagram()[132..], [0; 16], "no cookie, no mac2");
    assert_eq!(b.open(a.endpoint(), third.datagram()).unwrap_err(), Discard::UnderLoad);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn packets_of_every_size_pass(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 1..6),
        combination in 0usize..4,
    ) {
        let (a, b) = strangers_on(COMBINATIONS[combination], [None, None]);
        carry(&a, &b, a.initiate(&[b.public_key()]));
        for payload in payloads {
            passes(&a, &b, &payload);
            passes(&b, &a, &payload);
        }
    }
}
