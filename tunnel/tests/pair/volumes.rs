//! What is counted by the kind of path: both ends agree, and nothing that was sent is left out.

use cladnet_tunnel::{Scope, Tally, Volume};

use crate::sim::{Host, between, carry, friends};

/// The headers of UDP and IPv4.
const HEADERS: u64 = 28;

fn volume(of: &Host, with: &Host, scope: Scope) -> Volume {
    of.stats_of(with).volumes[scope as usize]
}

/// What `act` adds to what `of` sends to `with` over public IPv4, where the hosts are.
fn sent_by(of: &Host, with: &Host, act: impl FnOnce()) -> Tally {
    let before = volume(of, with, Scope::Public).sent;
    act();
    let after = volume(of, with, Scope::Public).sent;
    Tally {
        packets: after.packets - before.packets,
        bytes: after.bytes - before.bytes,
        clear_bytes: after.clear_bytes - before.clear_bytes,
        datagrams: after.datagrams - before.datagrams,
        wire_bytes: after.wire_bytes - before.wire_bytes,
    }
}

fn agree(a: &Host, b: &Host) {
    for scope in Scope::ALL {
        let (mine, yours) = (volume(a, b, scope), volume(b, a, scope));
        assert_eq!((mine.sent, mine.received), (yours.received, yours.sent), "{scope:?}");
    }
}

#[test]
fn handshakes_and_keepalives_are_datagrams_without_packets() {
    let (a, b) = friends();
    agree(&a, &b);
    // An initiation, and the keepalive that confirms the session.
    let wire_bytes = 148 + 32 + 2 * HEADERS;
    assert_eq!(volume(&a, &b, Scope::Public).sent, Tally { datagrams: 2, wire_bytes, ..Tally::default() });
    let again = sent_by(&a, &b, || drop(carry(&a, &b, a.announce())));
    assert_eq!((again.packets, again.bytes), (0, 0));
    assert!(again.datagrams > 0);
    agree(&a, &b);
}

#[test]
fn a_train_counts_as_the_datagrams_it_is_of() {
    let (a, b) = friends();
    let packets = vec![between(1, 2, &[7; 1400]); 45];
    let sent = sent_by(&a, &b, || {
        let train = a.seal_train(&packets).unwrap();
        let datagrams: Vec<_> = train.datagrams.iter().map(|(_, datagram)| datagram.clone()).collect();
        assert_eq!(b.open_train(a.endpoint(), &datagrams).packets.len(), 45);
    });
    let wire_bytes = 45 * (1420 + 32 + HEADERS);
    assert_eq!(sent, Tally { packets: 45, bytes: 45 * 1420, clear_bytes: 0, datagrams: 45, wire_bytes });
    agree(&a, &b);
}

#[test]
fn a_packet_that_waited_for_its_session_is_counted_when_it_goes() {
    let (a, b) = crate::sim::strangers();
    let initiation = a.seal(&between(1, 2, &[7; 100])).unwrap();
    assert_eq!(volume(&a, &b, Scope::Public).sent.packets, 0);
    assert_eq!(carry(&a, &b, initiation).len(), 1);
    assert_eq!(volume(&a, &b, Scope::Public).sent.packets, 1);
    agree(&a, &b);
}

#[test]
fn probes_are_counted_and_change_nothing_else() {
    let (a, b) = friends();
    let before = a.stats_of(&b);
    let sent = sent_by(&a, &b, || drop(carry(&a, &b, a.probe(&b, &[b.endpoint()], 1000))));
    assert_eq!(sent, Tally { datagrams: 1, wire_bytes: 1000 + HEADERS, ..Tally::default() });
    let after = a.stats_of(&b);
    assert_eq!((after.tx_bytes, after.rx_bytes), (before.tx_bytes, before.rx_bytes));
    agree(&a, &b);
}

#[test]
fn what_came_from_elsewhere_is_counted_there_and_forgeries_nowhere() {
    let (a, b) = friends();
    let before = volume(&b, &a, Scope::Public).received;
    let sealed = a.seal(&between(1, 2, &[7; 100])).unwrap();
    for (from, scope, headers) in [("10.0.0.9:1", Scope::Private, 28), ("[2001:db8::9]:1", Scope::PublicV6, 48)] {
        let from = from.parse().unwrap();
        let sealed = a.seal(&between(1, 2, &[7; 108])).unwrap();
        b.open(from, sealed.datagram()).unwrap();
        let wire_bytes = 160 + headers;
        let received = Tally { packets: 1, bytes: 128, clear_bytes: 0, datagrams: 1, wire_bytes };
        assert_eq!(volume(&b, &a, scope).received, received);
        assert!(b.open(from, sealed.datagram()).is_err(), "a replay");
        assert_eq!(volume(&b, &a, scope).received, received);
    }
    let mut forged = sealed.datagram().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert!(b.open(a.endpoint(), &forged).is_err());
    assert_eq!(volume(&b, &a, Scope::Public).received, before);
}
