//! What the path between two hosts carries is found, and packets that are longer are dealt with.

use std::net::SocketAddr;
use std::time::Duration;

use cladnet_tunnel::{BUFFER_SIZE, Discard, InterfaceId, Outbox, PeerConfig, TICK};

use crate::sim::{Host, Output, between, carry, friends, network};

/// UDP payload of a full packet beyond the packet itself.
const OVERHEAD: usize = 32;

/// A packet of this length that its sender does not want cut.
fn whole(source: u8, destination: u8, len: usize) -> Vec<u8> {
    let mut packet = between(source, destination, &vec![7; len - 20]);
    packet[6] = 0x40;
    packet
}

/// What the path lets through.
fn passing(output: Output, carries: usize) -> Output {
    let datagrams = output.datagrams.into_iter().filter(|(_, datagram)| datagram.len() <= carries + OVERHEAD);
    Output { datagrams: datagrams.collect(), ..Output::default() }
}

/// Long packets from `a` to `b`, as long as `a` may send, on a path that carries `carries` of each.
fn exchange(a: &mut Host, b: &mut Host, carries: usize, time: Duration) {
    for _ in 0..time.as_millis() / TICK.as_millis() {
        let long = whole(a.number, b.number, a.stats_of(b).mtu.into());
        let sent = a.seal(&long).unwrap();
        carry(a, b, passing(sent, carries));
        let short = b.seal(&between(b.number, a.number, b"short")).unwrap();
        carry(b, a, short);
        let due = a.pass(TICK);
        carry(a, b, passing(due, carries));
        let due = b.pass(TICK);
        carry(b, a, passing(due, carries));
    }
}

#[test]
fn what_a_path_carries_is_found_by_both_ends() {
    for (carries, found) in [(1240, 1240), (1420, 1420), (8836, 8836)] {
        let (mut a, mut b) = friends();
        exchange(&mut a, &mut b, carries, Duration::from_secs(30));
        assert_eq!((a.stats_of(&b).mtu, b.stats_of(&a).mtu), (found, found));
        let differs: Vec<_> = (found != 1420).then_some((b.public_key(), found)).into_iter().collect();
        assert_eq!(a.tunnel.path_mtus(a.interface), differs);
    }
}

#[test]
fn a_full_packet_is_not_padded_beyond_its_path() {
    let (mut a, mut b) = friends();
    exchange(&mut a, &mut b, 1241, Duration::from_secs(30));
    assert_eq!(a.seal(&whole(1, 2, 1241)).unwrap().datagram().len(), 1241 + OVERHEAD);
    let train = a.seal_train(&[whole(1, 2, 1241), whole(1, 2, 1241)]).unwrap();
    assert!(train.datagrams.iter().all(|(_, datagram)| datagram.len() == 1241 + OVERHEAD));
}

#[test]
fn who_sends_too_long_packets_is_told_and_what_may_be_cut_goes() {
    let (mut a, mut b) = friends();
    exchange(&mut a, &mut b, 1240, Duration::from_secs(30));
    let (may_be_cut, mut sizes) = (between(1, 2, &[7; 1400]), Vec::new());
    assert_eq!(a.seal(&whole(1, 2, 1300)), Err(Discard::TooLong));
    assert_eq!(a.tunnel.discards().of(Discard::TooLong), 1);
    assert_eq!(a.seal(&may_be_cut).unwrap().datagrams.len(), 1);

    // Of a mixed train only those that must not be cut are left out.
    let mixed = [whole(1, 2, 1420), may_be_cut.clone(), whole(1, 2, 1420), whole(1, 2, 1000)];
    let mixed = mixed.map(|mut packet| {
        packet[19] = 2;
        packet
    });
    let output = a.seal_train(&mixed).unwrap();
    for (number, packet) in carry(&a, &b, Output { datagrams: output.datagrams, ..Output::default() }) {
        assert_eq!(number, 2);
        sizes.push(packet.len());
    }
    assert_eq!(sizes, [1420, 1000]);
    assert_eq!(a.tunnel.discards().of(Discard::TooLong), 3);

    assert_eq!(output.packets.len(), 2);
    for (interface, answer) in &output.packets {
        assert_eq!((*interface, answer[9], &answer[12..20]), (a.interface, 1, &[10, 9, 0, 2, 10, 9, 0, 1][..]));
        assert_eq!((answer[20], answer[21], &answer[26..28]), (3, 4, &1240u16.to_be_bytes()[..]));
        assert_eq!(answer[28..], mixed[0][..28]);
    }
    // One answer is enough, if it arrives.
    let told = (0..100).map(|_| a.seal_train(&[whole(1, 2, 1420), may_be_cut.clone()]).unwrap().packets.len());
    assert!(told.sum::<usize>() <= 10);
}

#[test]
fn a_plain_peer_is_not_asked() {
    let (mut a, mut b) = friends();
    a.set_peers(&[PeerConfig { probes: false, ..b.as_peer() }]);
    exchange(&mut a, &mut b, 1240, Duration::from_secs(30));
    assert_eq!((a.stats_of(&b).mtu, a.tunnel.discards().of(Discard::TooLong)), (1420, 0));
}

#[test]
fn without_a_network_the_kernel_alone_says_what_is_too_long() {
    let (a, b) = friends();
    let long = whole(1, 2, 8000);
    assert_eq!(a.seal(&long), Err(Discard::TooLong));
    a.tunnel.update_interface(a.now, a.interface, None, 1420, &[b.as_peer()]).unwrap();
    let sent = a.seal(&long).unwrap();
    assert!(carry(&a, &b, sent) == [(2, long)]);
}

/// A link that takes datagrams of this length whole, and no longer ones.
struct NarrowLink(usize, Output);

impl Outbox for NarrowLink {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.1.transmit(to, datagram);
    }

    fn transmit_whole(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        let fits = datagram.len() <= self.0;
        if fits {
            self.1.transmit(to, datagram);
        }
        fits
    }

    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]) {
        self.1.deliver(interface, packet);
    }
}

#[test]
fn what_our_own_link_does_not_take_is_known_at_once_and_counted_as_nothing() {
    let (mut a, b) = friends();
    let counted = |a: &Host| a.stats_of(&b).volumes.iter().map(|volume| volume.sent.datagrams).sum::<u64>();
    let (before, mut sent) = (counted(&a), 0);
    for _ in 0..40 {
        let mut link = NarrowLink(1420 + OVERHEAD, a.seal(&whole(1, 2, 1000)).unwrap());
        a.now += TICK;
        a.tunnel.handle_timeout(a.now, &mut vec![0; BUFFER_SIZE], &mut link);
        sent += link.1.datagrams.len() as u64;
        carry(&a, &b, link.1);
    }
    assert_eq!((a.stats_of(&b).mtu, counted(&a) - before), (1420, sent));
}

#[test]
fn another_default_of_the_interface_is_the_peers_too() {
    let (mut a, mut b) = friends();
    exchange(&mut a, &mut b, 1420, Duration::from_secs(10));
    let peers = [b.as_peer()];
    a.tunnel.update_interface(a.now, a.interface, Some(network()), 1380, &peers).unwrap();
    exchange(&mut a, &mut b, 1420, Duration::from_secs(10));
    assert_eq!(a.stats_of(&b).mtu, 1380);
}
