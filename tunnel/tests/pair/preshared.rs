//! Preshared keys that change under living sessions.

use std::time::Duration;

use cladnet_tunnel::{Discard, PeerConfig, PresharedKey};

use crate::sim::{Host, Output, between, carry, friends, strangers};

fn set_key(host: &Host, of: &Host, byte: u8) {
    let key = Some(PresharedKey::from_bytes([byte; 32]));
    assert_eq!(host.set_peers(&[PeerConfig { preshared_key: key, ..of.as_peer() }]).to_greet, []);
}

/// Carries what `from` has to say after some time; true if a handshake of it is completed.
fn agree(from: &mut Host, to: &mut Host) -> bool {
    let time = Duration::from_secs(3);
    to.pass(time);
    let said = from.pass(time);
    carry(from, to, said);
    from.stats_of(to).last_handshake < Some(time)
}

#[test]
fn a_new_preshared_key_keeps_the_session_and_is_asked_for_by_the_next_handshake() {
    let (mut a, mut b) = friends();
    set_key(&a, &b, 9);
    for (from, to) in [(&a, &b), (&b, &a)] {
        let packet = between(from.number, to.number, b"on the old session");
        assert_eq!(carry(from, to, from.seal(&packet).unwrap()), [(to.number, packet)]);
    }
    a.pass(Duration::from_secs(1));
    carry(&a, &b, a.initiate(&[b.public_key()]));
    assert!(!agree(&mut a, &mut b), "only one side has the new key");
    set_key(&b, &a, 9);
    assert!(agree(&mut a, &mut b));
}

#[test]
fn probes_follow_the_preshared_key() {
    let (a, b) = friends();
    set_key(&a, &b, 9);
    let request = a.probe(&b, &[b.endpoint()], 0);
    assert_eq!(b.open(a.endpoint(), request.datagram()).unwrap_err(), Discard::UnknownTag);
    set_key(&b, &a, 9);
    carry(&a, &b, a.probe(&b, &[b.endpoint()], 0));
    assert_eq!(a.proofs_of(&b).len(), 1);
    let key = Some(PresharedKey::from_bytes([9; 32]));
    let anew = Host::with_key(2, b.private_key.clone(), vec![PeerConfig { preshared_key: key, ..a.as_peer() }]);
    let reply = anew.open(a.endpoint(), a.probe(&b, &[b.endpoint()], 0).datagram());
    assert_eq!(reply.unwrap().datagrams.len(), 1);
}

#[test]
fn a_handshake_that_began_with_the_old_key_makes_no_session() {
    let (a, b) = strangers();
    let initiation = a.initiate(&[b.public_key()]);
    let response = b.open(a.endpoint(), initiation.datagram()).unwrap();
    set_key(&a, &b, 9);
    let (result, output) = a.open_both(b.endpoint(), response.datagram());
    assert!(result.is_err());
    assert_eq!(output, Output::default());
    assert_eq!(a.stats_of(&b).last_handshake, None);
}
