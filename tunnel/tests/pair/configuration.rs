//! Changing peers and interfaces under living sessions.

use std::net::SocketAddr;
use std::time::Duration;

use cladnet_tunnel::{
    Access, AccessRule, Action, ConfigError, Discard, InterfaceConfig, MAX_INTERFACES, PeerConfig, PrivateKey,
    PublicKey, Traffic,
};

use crate::sim::{Host, Output, between, carry, endpoint, friends, network, peer, strangers};

fn arrives(from: &Host, to: &Host) -> bool {
    let sealed = from.seal(&between(from.number, to.number, b"?"));
    // A session, not a new handshake, is what is asked for.
    sealed.is_ok_and(|output| {
        output.datagrams.iter().any(|(_, datagram)| datagram[0] == 4) && !carry(from, to, output).is_empty()
    })
}

#[test]
fn a_peer_that_stays_keeps_its_session() {
    let (a, b) = friends();
    let newcomer = Host::new(3, vec![]);
    let applied = a.set_peers(&[newcomer.as_peer(), b.as_peer()]);
    assert_eq!(applied.to_greet, [newcomer.public_key()]);
    assert!(arrives(&a, &b) && arrives(&b, &a));
}

#[test]
fn allowed_ips_and_keepalive_change_on_a_living_session() {
    let (mut a, b) = friends();
    let changed = PeerConfig {
        allowed_ips: vec!["10.9.0.2/32".parse().unwrap(), "10.9.0.7/32".parse().unwrap()],
        persistent_keepalive: Some(Duration::from_secs(25)),
        ..b.as_peer()
    };
    assert_eq!(a.set_peers(&[changed]).to_greet, []);
    assert_eq!(a.pass(Duration::from_secs(24)).datagrams.len(), 0);
    assert_eq!(a.pass(Duration::from_secs(2)).datagrams.len(), 1);
    assert_eq!(a.pass(Duration::from_secs(2)).datagrams.len(), 0);
    assert!(arrives(&a, &b));
    assert_eq!(a.seal(&between(1, 7, b"new address")).unwrap().datagrams[0].0, b.endpoint());
}

#[test]
fn a_keepalive_waits_for_silence() {
    let (mut a, b) = friends();
    a.set_peers(&[PeerConfig { persistent_keepalive: Some(Duration::from_secs(10)), ..b.as_peer() }]);
    a.pass(Duration::from_secs(10));
    for _ in 0..5 {
        // Who is sent data and never answers is sent handshakes, which is another matter.
        assert!(a.pass(Duration::from_secs(6)).datagrams.iter().all(|(_, datagram)| datagram[0] != 4));
        a.seal(&between(1, 2, b"busy")).unwrap();
    }
}

#[test]
fn a_removed_peer_is_dead_at_once() {
    let (a, b) = friends();
    let late = a.seal(&between(1, 2, b"late")).unwrap();
    b.set_peers(&[]);
    assert_eq!(b.open(a.endpoint(), late.datagram()).unwrap_err(), Discard::UnknownIndex);
    assert_eq!(b.seal(&between(2, 1, b"gone")).unwrap_err(), Discard::NoRoute);
}

#[test]
fn configuration_moves_an_endpoint_only_when_it_changes() {
    let (a, b) = friends();
    let moved = a.seal(&between(1, 2, b"roamed")).unwrap();
    b.open(endpoint(77), moved.datagram()).unwrap();
    assert_eq!(b.set_peers(&[a.as_peer()]).to_greet, []);
    assert_eq!(b.stats_of(&a).endpoint, Some(endpoint(77)), "the same configuration again is no news");

    let elsewhere = PeerConfig { endpoint: Some(endpoint(88)), ..a.as_peer() };
    assert_eq!(b.set_peers(&[elsewhere]).to_greet, [a.public_key()]);
    assert_eq!(b.stats_of(&a).endpoint, Some(endpoint(88)));

    b.set_peers(&[PeerConfig { endpoint: None, ..a.as_peer() }]);
    assert_eq!(b.stats_of(&a).endpoint, Some(endpoint(88)), "not knowing better is no reason to forget");
}

#[test]
fn a_peer_is_moved_back_to_where_configuration_had_it() {
    let (a, b) = friends();
    let moved = a.seal(&between(1, 2, b"roamed")).unwrap();
    b.open(endpoint(77), moved.datagram()).unwrap();
    b.tunnel.set_endpoints(b.interface, &[(a.public_key(), a.endpoint())]);
    assert_eq!(b.stats_of(&a).endpoint, Some(a.endpoint()));
    assert!(arrives(&b, &a));
}

#[test]
fn an_interface_without_a_network_forbids_no_endpoint() {
    let (a, b) = friends();
    let inside = SocketAddr::from(([10, 9, 0, 77], 8055));
    a.tunnel.set_endpoints(a.interface, &[(b.public_key(), inside)]);
    assert_eq!(a.seal(&between(1, 2, b"?")).unwrap_err(), Discard::InsideTunnel);
    let peers = [PeerConfig { endpoint: Some(inside), ..b.as_peer() }];
    a.tunnel.update_interface(a.now, a.interface, None, 1420, &peers).unwrap();
    assert_eq!(a.seal(&between(1, 2, b"?")).unwrap().datagrams[0].0, inside);
}

#[test]
fn no_peer_is_reached_in_a_subnet_that_leads_into_the_tunnel() {
    let (a, b) = friends();
    let behind = SocketAddr::from(([192, 168, 7, 2], 8055));
    let in_no_subnet = b.seal(&between(2, 1, b"outside")).unwrap();
    a.tunnel.set_subnets(a.interface, &["192.168.7.0/24".parse().unwrap()]).unwrap();
    a.open(b.endpoint(), in_no_subnet.datagram()).unwrap();
    let in_subnet = b.seal(&between(2, 1, b"inside")).unwrap();
    assert_eq!(a.open(behind, in_subnet.datagram()).unwrap_err(), Discard::InsideTunnel);
    a.set_peers(&[PeerConfig { endpoint: Some(behind), ..b.as_peer() }]);
    assert_eq!(a.seal(&between(1, 2, b"?")).unwrap_err(), Discard::InsideTunnel, "peers may change, subnets stay");
    a.tunnel.set_subnets(a.interface, &[]).unwrap();
    assert_eq!(a.seal(&between(1, 2, b"?")).unwrap().datagrams[0].0, behind);
}

#[test]
fn keys_that_cannot_be_peers_are_left_out_and_the_others_work() {
    let (a, b) = (Host::new(1, vec![]), Host::new(2, vec![]));
    let weak = PublicKey::from_bytes([0; 32]);
    let applied = a.set_peers(&[peer(1, a.public_key()), peer(9, weak), b.as_peer()]);
    assert_eq!(applied.refused, [a.public_key(), weak]);
    assert_eq!(applied.to_greet, [b.public_key()]);
}

#[test]
fn a_peer_named_twice_is_one_peer_with_the_prefixes_of_both() {
    let (a, b) = friends();
    let more = PeerConfig { allowed_ips: vec!["10.9.0.7/32".parse().unwrap()], ..b.as_peer() };
    assert_eq!(a.set_peers(&[b.as_peer(), more]).to_greet, []);
    assert!(arrives(&a, &b));
    assert_eq!(a.seal(&between(1, 7, b"?")).unwrap().datagrams[0].1[0], 4, "over the same session");
}

#[test]
fn a_prefix_named_twice_belongs_to_the_later_peer() {
    let (a, b) = strangers();
    let thief = PrivateKey::generate(&mut rand::rng()).public_key();
    let same_prefix = PeerConfig { public_key: thief, endpoint: Some(endpoint(3)), ..b.as_peer() };
    a.set_peers(&[b.as_peer(), same_prefix]);
    assert_eq!(a.seal(&between(1, 2, b"?")).unwrap().datagrams[0].0, endpoint(3));
}

#[test]
fn networks_share_the_socket_and_nothing_else() {
    let (a, b) = strangers();
    // b is in a second network, where a's twin lives; both networks use the same addresses.
    let second_key = PrivateKey::generate(&mut rand::rng());
    let twin = Host::new(1, vec![peer(2, second_key.public_key())]);
    let config = InterfaceConfig {
        private_key: second_key.clone(),
        network: Some(network()),
        mtu: 1420,
        peers: vec![twin.as_peer()],
    };
    let (second, _) = b.tunnel.add_interface(b.now, &config).unwrap();
    assert_ne!(second, b.interface);

    for (sender, key, interface) in [(&a, b.public_key(), b.interface), (&twin, second_key.public_key(), second)] {
        let response = b.open(sender.endpoint(), sender.initiate(&[key]).datagram()).unwrap();
        sender.open(b.endpoint(), response.datagram()).unwrap();
        let data = sender.seal(&between(1, 2, b"to my own network")).unwrap();
        let delivered = b.open(sender.endpoint(), data.datagram()).unwrap().packets;
        assert_eq!(delivered.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [interface]);
    }

    b.tunnel.remove_interface(second);
    let data = twin.seal(&between(1, 2, b"left")).unwrap();
    assert_eq!(b.open(twin.endpoint(), data.datagram()).unwrap_err(), Discard::UnknownIndex);
    assert!(arrives(&a, &b));
}

#[test]
fn a_host_has_a_bounded_number_of_interfaces_each_with_its_own_key() {
    let host = Host::new(1, vec![]);
    let add = |private_key| {
        let config = InterfaceConfig { private_key, network: Some(network()), mtu: 1420, peers: vec![] };
        host.tunnel.add_interface(host.now, &config).map(|(id, _)| id)
    };
    assert_eq!(add(host.private_key.clone()), Err(ConfigError::KeyInUse));
    let ids: Vec<_> = (1..MAX_INTERFACES).map(|_| add(PrivateKey::generate(&mut rand::rng())).unwrap()).collect();
    assert_eq!(add(PrivateKey::generate(&mut rand::rng())), Err(ConfigError::TooManyInterfaces));
    host.tunnel.remove_interface(ids[3]);
    assert_eq!(add(PrivateKey::generate(&mut rand::rng())), Ok(ids[3]), "a slot is used again");
}

#[test]
fn a_kept_alive_peer_is_never_given_up() {
    let (mut a, b) = strangers();
    a.set_peers(&[PeerConfig { persistent_keepalive: Some(Duration::from_secs(25)), ..b.as_peer() }]);
    let initiations = |output: Output| output.datagrams.iter().filter(|(_, datagram)| datagram[0] == 1).count();
    assert_eq!(initiations(a.pass(Duration::from_secs(26))), 1);
    assert_eq!(initiations(a.pass(Duration::from_secs(600))), 1);
    assert_eq!(initiations(a.pass(Duration::from_secs(600))), 1);
}

#[test]
fn what_the_rules_refuse_is_not_delivered_and_the_rest_of_its_train_is() {
    let (a, b) = friends();
    let datagram = |port: u8| between(1, 2, &[0, 1, 0, port, 0, 8, 0, 0]);
    let dns = AccessRule {
        action: Action::Allow,
        sources: vec!["10.9.0.1/32".parse().unwrap()],
        destinations: vec!["10.9.0.2/32".parse().unwrap()],
        traffic: Traffic::Ports { protocol: 17, ports: vec![53..=53] },
    };
    let access = Access { rules: vec![dns], default: Action::Deny };
    b.tunnel.set_access(b.now, b.interface, Some(&access)).unwrap();
    let delivered = carry(&a, &b, a.seal_train(&[53, 54, 53].map(datagram)).unwrap());
    assert_eq!(delivered, [(2, datagram(53)), (2, datagram(53))]);
    assert_eq!(b.tunnel.discards().of(Discard::Refused), 1);

    // A change of peers changes no rule.
    b.set_peers(&[a.as_peer()]);
    assert!(carry(&a, &b, a.seal(&datagram(54)).unwrap()).is_empty());
    // What we ask is answered.
    assert_eq!(carry(&b, &a, b.seal(&between(2, 1, &[0, 54, 0, 1, 0, 8, 0, 0])).unwrap()).len(), 1);
    assert_eq!(carry(&a, &b, a.seal(&datagram(54)).unwrap()), [(2, datagram(54))]);
    b.tunnel.set_access(b.now, b.interface, None).unwrap();
    assert_eq!(carry(&a, &b, a.seal(&datagram(80)).unwrap()), [(2, datagram(80))]);
}
