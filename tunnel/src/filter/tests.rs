use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

const US: [u8; 4] = [10, 0, 0, 1];
const PEER: [u8; 4] = [10, 0, 0, 2];
const SYN: u8 = 2;
const ACK: u8 = 16;
const FIN_ACK: u8 = 17;

const NOTHING: Access = Access { rules: Vec::new(), default: Action::Deny };

fn everyone() -> Vec<IpNet> {
    vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]
}

fn port(action: Action, protocol: u8, port: u16) -> AccessRule {
    let traffic = Traffic::Ports { protocol, ports: vec![port..=port] };
    AccessRule { action, sources: everyone(), destinations: everyone(), traffic }
}

fn only(rules: impl Into<Vec<AccessRule>>) -> Access {
    Access { rules: rules.into(), default: Action::Deny }
}

fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), flags: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(from.0, to.0, 64).tcp(from.1, to.1, 1, 1024);
    let builder = if flags & SYN != 0 { builder.syn() } else { builder };
    let builder = if flags & ACK != 0 { builder.ack(1) } else { builder };
    let builder = if flags & 1 != 0 { builder.fin() } else { builder };
    builder.write(&mut packet, b"payload").unwrap();
    packet
}

fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from.0, to.0, 64).udp(from.1, to.1).write(&mut packet, b"payload").unwrap();
    packet
}

fn unreachable(from: [u8; 4], to: [u8; 4], about: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let kind = etherparse::Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    PacketBuilder::ipv4(from, to, 64).icmpv4(kind).write(&mut packet, &about[..28]).unwrap();
    packet
}

/// Cuts a packet at `at` bytes of payload, a multiple of eight.
fn fragments(packet: &[u8], at: usize) -> [Vec<u8>; 2] {
    let (mut first, mut rest) = (packet[..20 + at].to_vec(), packet[..20].to_vec());
    rest.extend_from_slice(&packet[20 + at..]);
    let (first_len, rest_len) = (first.len() as u16, rest.len() as u16);
    first[2..4].copy_from_slice(&first_len.to_be_bytes());
    rest[2..4].copy_from_slice(&rest_len.to_be_bytes());
    first[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
    rest[6..8].copy_from_slice(&(at as u16 / 8).to_be_bytes());
    [first, rest]
}

struct Host {
    filter: Filter,
    now: Instant,
}

impl Host {
    fn with(access: &Access) -> Self {
        let now = Instant::now();
        Self { filter: Filter::new(now, access), now }
    }

    fn receives(&self, packet: &[u8]) -> Result<(), Discard> {
        self.receives_from(1, packet)
    }

    fn receives_from(&self, peer: u32, packet: &[u8]) -> Result<(), Discard> {
        self.filter.admit(self.now, packet, peer, |_| true, &mut Memo::default())
    }

    fn sends(&self, packet: &[u8]) {
        self.sends_to(1, packet);
    }

    fn sends_to(&self, peer: u32, packet: &[u8]) {
        self.filter.note_sent(self.now, packet, peer, &mut Memo::default());
    }

    fn changes_to(&mut self, access: &Access) {
        self.filter = self.filter.with(access);
    }

    fn waits(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let host = Host::with(&only([port(Action::Deny, 6, 22), port(Action::Allow, 6, 22), port(Action::Allow, 6, 443)]));
    let to = |port| host.receives(&tcp((PEER, 5000), (US, port), SYN));
    assert_eq!((to(22), to(443), to(80)), (Err(Discard::Refused), Ok(()), Err(Discard::Refused)));
    assert_eq!(host.receives(&udp((PEER, 5000), (US, 443))), Err(Discard::Refused));
}

#[test]
fn a_rule_without_addresses_matches_nobody() {
    let nobody = AccessRule { sources: Vec::new(), ..port(Action::Allow, 6, 22) };
    assert_eq!(Host::with(&only([nobody])).receives(&tcp((PEER, 1), (US, 22), SYN)), Err(Discard::Refused));
}

#[test]
fn what_this_host_asks_is_answered() {
    let host = Host::with(&NOTHING);
    for (question, answer) in [
        (tcp((US, 5000), (PEER, 443), SYN), tcp((PEER, 443), (US, 5000), SYN | ACK)),
        (udp((US, 5000), (PEER, 53)), udp((PEER, 53), (US, 5000))),
    ] {
        assert_eq!(host.receives(&answer), Err(Discard::Refused));
        host.sends(&question);
        assert_eq!(host.receives(&answer), Ok(()));
    }
    let mut ping = [Vec::new(), Vec::new()];
    PacketBuilder::ipv4(US, PEER, 64).icmpv4_echo_request(7, 1).write(&mut ping[0], b"").unwrap();
    PacketBuilder::ipv4(PEER, US, 64).icmpv4_echo_reply(7, 1).write(&mut ping[1], b"").unwrap();
    assert_eq!(host.receives(&ping[1]), Err(Discard::Refused));
    host.sends(&ping[0]);
    assert_eq!(host.receives(&ping[1]), Ok(()));
}

#[test]
fn a_peer_that_pings_answers_nothing() {
    let host = Host::with(&NOTHING);
    let echo = |from, to, is_request| {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(from, to, 64);
        let builder = if is_request { builder.icmpv4_echo_request(7, 1) } else { builder.icmpv4_echo_reply(7, 1) };
        builder.write(&mut packet, b"").unwrap();
        packet
    };
    host.sends(&echo(US, PEER, true));
    assert_eq!(host.receives(&echo(PEER, US, true)), Err(Discard::Refused), "by the same identifier");
    assert_eq!(host.receives(&echo(PEER, US, false)), Ok(()), "the answer to ours");
    let other = Host::with(&NOTHING);
    other.sends(&echo(US, PEER, false));
    assert_eq!(other.receives(&echo(PEER, US, true)), Err(Discard::Refused), "an answer of ours opens nothing");
}

#[test]
fn only_what_may_be_older_than_the_filter_is_taken_for_ours_without_an_opening() {
    let mut host = Host::with(&NOTHING);
    host.waits(2 * 60 * 60 + 1);
    host.sends(&tcp((US, 22), (PEER, 5000), ACK));
    assert_eq!(host.receives(&tcp((PEER, 5000), (US, 22), ACK)), Err(Discard::Refused));
    host.sends(&tcp((US, 5000), (PEER, 443), SYN));
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 5000), SYN | ACK)), Ok(()));
    host.sends(&udp((US, 5000), (PEER, 53)));
    assert_eq!(host.receives(&udp((PEER, 53), (US, 5000))), Ok(()), "without a handshake there is no telling");
}

#[test]
fn a_peer_that_opens_a_flow_answers_nothing() {
    let host = Host::with(&NOTHING);
    host.sends(&tcp((US, 5000), (PEER, 443), SYN));
    host.sends(&tcp((US, 5000), (PEER, 443), FIN_ACK));
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 5000), FIN_ACK)), Ok(()));
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 5000), SYN)), Err(Discard::Refused));
}

#[test]
fn a_rule_change_cuts_what_peers_opened_and_keeps_what_we_opened() {
    let mut host = Host::with(&only([port(Action::Allow, 6, 22)]));
    let (login, shell) = (tcp((PEER, 5000), (US, 22), SYN), tcp((PEER, 5000), (US, 22), ACK));
    assert_eq!(host.receives(&login), Ok(()));
    host.sends(&tcp((US, 22), (PEER, 5000), SYN | ACK));
    host.sends(&tcp((US, 6000), (PEER, 443), SYN));
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 6000), SYN | ACK)), Ok(()));
    host.changes_to(&NOTHING);
    for _ in 0..3 {
        assert_eq!(host.receives(&shell), Err(Discard::Refused));
        // Our end repeats what was not acknowledged: that opens nothing.
        host.sends(&tcp((US, 22), (PEER, 5000), ACK));
        host.waits(60);
    }
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 6000), ACK)), Ok(()));
    host.changes_to(&only([port(Action::Allow, 6, 22)]));
    assert_eq!(host.receives(&shell), Ok(()));
}

#[test]
fn a_flow_that_lived_before_the_filter_is_taken_for_ours_if_we_speak() {
    let host = Host::with(&NOTHING);
    let theirs = tcp((PEER, 443), (US, 5000), ACK);
    assert_eq!(host.receives(&theirs), Err(Discard::Refused));
    host.sends(&tcp((US, 5000), (PEER, 443), ACK));
    assert_eq!(host.receives(&theirs), Ok(()));
}

#[test]
fn of_a_flow_that_lived_before_the_filter_the_end_with_the_higher_port_has_opened_it() {
    for (theirs, ours) in [(50_000, 5432), (50_000, 22), (21, 22), (700, 800)] {
        let host = Host::with(&NOTHING);
        host.sends(&tcp((US, ours), (PEER, theirs), ACK));
        let answer = tcp((PEER, theirs), (US, ours), ACK);
        assert_eq!(host.receives(&answer), Err(Discard::Refused), "from {theirs} to {ours}");
    }
}

#[test]
fn a_first_deny_cuts_what_peers_opened_before_there_was_any_rule() {
    let mut host = Host::with(&Access { rules: Vec::new(), default: Action::Allow });
    let login = tcp((PEER, 5000), (US, 22), SYN);
    assert_eq!(host.receives(&login), Ok(()));
    host.sends(&tcp((US, 22), (PEER, 5000), SYN | ACK));
    host.sends(&tcp((US, 6000), (PEER, 443), SYN));
    host.changes_to(&NOTHING);
    host.sends(&tcp((US, 22), (PEER, 5000), ACK));
    assert_eq!(host.receives(&tcp((PEER, 5000), (US, 22), ACK)), Err(Discard::Refused));
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 6000), SYN | ACK)), Ok(()));
}

#[test]
fn fragments_follow_the_first_one() {
    let host = Host::with(&only([port(Action::Allow, 17, 53)]));
    let [first, rest] = fragments(&udp((PEER, 5000), (US, 53)), 8);
    assert_eq!(host.receives(&rest), Err(Discard::UnknownFragment));
    assert_eq!((host.receives(&first), host.receives(&rest)), (Ok(()), Ok(())));
    let [first, rest] = fragments(&udp((PEER, 5000), (US, 54)), 8);
    let mut other = rest.clone();
    other[5] ^= 1;
    assert_eq!((host.receives(&first), host.receives(&other)), (Err(Discard::Refused), Err(Discard::UnknownFragment)));
}

#[test]
fn fragments_of_any_order_pass_where_nothing_is_refused() {
    let host = Host::with(&Access { rules: Vec::new(), default: Action::Allow });
    let [_, rest] = fragments(&udp((PEER, 5000), (US, 53)), 8);
    assert_eq!(host.receives(&rest), Ok(()));

    let to_us = vec!["10.0.0.1/32".parse().unwrap()];
    let everything =
        AccessRule { action: Action::Allow, sources: everyone(), destinations: to_us.clone(), traffic: Traffic::All };
    assert_eq!(Host::with(&only([everything.clone()])).receives(&rest), Ok(()), "to this address");
    let ssh = AccessRule { destinations: to_us, ..port(Action::Deny, 6, 22) };
    assert_eq!(Host::with(&only([ssh, everything])).receives(&rest), Err(Discard::UnknownFragment));
}

#[test]
fn no_peer_pushes_out_the_fragments_of_another() {
    let host = Host::with(&only([port(Action::Allow, 17, 53)]));
    let [first, rest] = fragments(&udp((PEER, 5000), (US, 53)), 8);
    assert_eq!(host.receives(&first), Ok(()));
    for number in 0..10_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let [flood, _] = fragments(&udp(([10, a, b, c], 1), (US, 53)), 8);
        assert_eq!(host.receives_from(2, &flood), Ok(()));
    }
    assert_eq!(host.receives(&rest), Ok(()));
}

#[test]
fn a_fragment_that_would_overwrite_tcp_flags_is_refused() {
    let host = Host::with(&only([port(Action::Allow, 6, 22)]));
    let packet = tcp((PEER, 5000), (US, 22), ACK);
    let ([first, _], [_, rest]) = (fragments(&packet, 16), fragments(&packet, 8));
    assert_eq!((host.receives(&first), host.receives(&rest)), (Ok(()), Err(Discard::Refused)));
}

#[test]
fn a_first_fragment_that_leaves_tcp_flags_to_the_next_one_is_refused() {
    let host = Host::with(&NOTHING);
    host.sends(&tcp((US, 5000), (PEER, 443), ACK));
    let opening = tcp((PEER, 443), (US, 5000), SYN);
    assert_eq!(host.receives(&opening), Err(Discard::Refused));
    let [first, _] = fragments(&opening, 8);
    assert_eq!(host.receives(&first), Err(Discard::Refused));
    let [first, rest] = fragments(&tcp((PEER, 443), (US, 5000), ACK), 16);
    assert_eq!((host.receives(&first), host.receives(&rest)), (Ok(()), Ok(())));
}

#[test]
fn errors_about_what_we_sent_arrive() {
    let host = Host::with(&NOTHING);
    let sent = udp((US, 5000), (PEER, 53));
    let error = unreachable(PEER, US, &sent);
    assert_eq!(host.receives(&error), Err(Discard::Refused), "nothing was sent yet");
    host.sends(&sent);
    assert_eq!(host.receives(&error), Ok(()));
    let forged = unreachable(PEER, US, &udp((PEER, 5000), (US, 53)));
    assert_eq!(host.receives(&forged), Err(Discard::Refused));
}

#[test]
fn an_error_that_we_send_opens_nothing() {
    let host = Host::with(&NOTHING);
    let scan = udp((PEER, 5000), (US, 53));
    host.sends(&unreachable(US, PEER, &scan));
    assert_eq!(host.receives(&scan), Err(Discard::Refused));
}

#[test]
fn silence_ends_a_flow() {
    let mut host = Host::with(&NOTHING);
    host.sends(&udp((US, 5000), (PEER, 53)));
    host.waits(31);
    assert_eq!(host.receives(&udp((PEER, 53), (US, 5000))), Err(Discard::Refused));
    host.sends(&tcp((US, 5000), (PEER, 443), SYN));
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 5000), SYN | ACK)), Ok(()));
    host.waits(24 * 60 * 60);
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 5000), ACK)), Ok(()));
}

#[test]
fn a_flood_of_peers_displaces_no_flow_of_ours() {
    let host = Host::with(&Access { rules: Vec::new(), default: Action::Allow });
    host.sends(&tcp((US, 5000), (PEER, 443), SYN));
    for number in 0..300_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        assert_eq!(host.receives(&udp(([10, a, b, c], 1), (US, 53))), Ok(()));
    }
    let mut host = host;
    host.changes_to(&NOTHING);
    assert_eq!(host.receives(&tcp((PEER, 443), (US, 5000), SYN | ACK)), Ok(()));
}

/// The answers come late, so that the flow that a peer opened is forgotten and ours seems to begin.
#[test]
fn a_flood_of_one_peer_that_is_answered_displaces_no_flow_to_another() {
    let mut host = Host::with(&only([port(Action::Allow, 17, 53)]));
    host.sends_to(1, &tcp((US, 5000), (PEER, 443), SYN));
    let answer = tcp((PEER, 443), (US, 5000), SYN | ACK);
    assert_eq!(host.receives_from(1, &answer), Ok(()));
    let others = || (0..120_000_u32).map(u32::to_be_bytes).map(|[_, a, b, c]| ([10, a, b, c], 1));
    for _ in 0..2 {
        host.waits(10);
        for other in others() {
            assert_eq!(host.receives_from(2, &udp(other, (US, 53))), Ok(()));
        }
        others().for_each(|other| host.sends_to(2, &udp((US, 53), other)));
    }
    assert_eq!(host.receives_from(1, &answer), Ok(()));
}

#[test]
fn a_peer_whose_flow_was_cut_does_not_push_it_out_with_others() {
    let mut host = Host::with(&only([port(Action::Allow, 6, 5432), port(Action::Allow, 17, 53)]));
    let shell = tcp((PEER, 1000), (US, 5432), ACK);
    assert_eq!(host.receives(&shell), Ok(()));
    host.sends(&tcp((US, 5432), (PEER, 1000), ACK));
    host.changes_to(&only([port(Action::Allow, 17, 53)]));
    for number in 0..150_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let other = ([10, a, b, c], 1);
        assert_eq!(host.receives(&udp(other, (US, 53))), Ok(()));
        host.sends(&udp((US, 53), other));
    }
    host.sends(&tcp((US, 5432), (PEER, 1000), ACK));
    assert_eq!(host.receives(&shell), Err(Discard::Refused));
}

#[test]
fn a_run_of_one_flow_is_judged_once_and_others_in_it_too() {
    let host = Host::with(&only([port(Action::Allow, 17, 53)]));
    let mut memo = Memo::default();
    let verdicts =
        [53, 53, 54, 53].map(|port| host.filter.admit(host.now, &udp((PEER, 1), (US, port)), 1, |_| true, &mut memo));
    assert_eq!(verdicts, [Ok(()), Ok(()), Err(Discard::Refused), Ok(())]);
}

#[test]
fn packets_of_both_families_are_never_taken_for_one_flow() {
    let v4 = udp(([0xfd, 0, 0, 2], 0), (US, 0));
    let mut v6 = Vec::new();
    let mut source = [0; 16];
    source[..12].copy_from_slice(&v4[12..24]);
    PacketBuilder::ipv6(source, [0; 16], 64).udp(0, 0).write(&mut v6, b"").unwrap();
    let signatures = [&v4, &v6].map(|packet| Signature::of(packet).unwrap());
    assert_ne!(signatures[0], signatures[1]);
}

#[test]
fn packets_may_end_anywhere() {
    let mut v6 = Vec::new();
    PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(1, 2, 3, 4).write(&mut v6, b"payload").unwrap();
    let asked = udp((US, 1), (PEER, 2));
    let whole = [tcp((PEER, 1), (US, 2), SYN), udp((PEER, 1), (US, 2)), unreachable(PEER, US, &asked), v6];
    let pieces = fragments(&udp((PEER, 1), (US, 2)), 8);
    let host = Host::with(&NOTHING);
    for packet in whole.iter().chain(&pieces) {
        for end in 0..packet.len() {
            assert!(host.receives(&packet[..end]).is_err(), "{:?}", &packet[..end]);
            host.sends(&packet[..end]);
        }
    }
}

fn prefix() -> impl Strategy<Value = IpNet> {
    // Few networks, so that prefixes hold each other and flows hit them.
    (0u32..64, 24u8..=32)
        .prop_map(|(host, len)| IpNet::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | host)), len).unwrap())
}

fn rule() -> impl Strategy<Value = AccessRule> {
    let traffic = prop_oneof![
        Just(Traffic::All),
        (0u8..3).prop_map(Traffic::Protocol),
        (0u8..3, prop::collection::vec((0u16..8, 0u16..8), 0..3)).prop_map(|(protocol, ports)| Traffic::Ports {
            protocol,
            ports: ports.into_iter().map(|(from, to)| from..=to).collect()
        }),
    ];
    let prefixes = || prop::collection::vec(prefix(), 0..4);
    (prefixes(), prefixes(), traffic, prop_oneof![Just(Action::Allow), Just(Action::Deny)])
        .prop_map(|(sources, destinations, traffic, action)| AccessRule { action, sources, destinations, traffic })
}

fn naive(access: &Access, flow: &Flow) -> Action {
    let within = |prefixes: &[IpNet], address: &IpAddr| prefixes.iter().any(|prefix| prefix.contains(address));
    let matches = |rule: &&AccessRule| {
        within(&rule.sources, &flow.remote.0)
            && within(&rule.destinations, &flow.local.0)
            && match &rule.traffic {
                Traffic::All => true,
                Traffic::Protocol(protocol) => *protocol == flow.protocol,
                Traffic::Ports { protocol, ports } => {
                    *protocol == flow.protocol && ports.iter().any(|range| range.contains(&flow.local.1))
                }
            }
    };
    access.rules.iter().find(matches).map_or(access.default, |rule| rule.action)
}

proptest! {
    #[test]
    fn compiled_rules_decide_as_they_are_written(
        rules in prop::collection::vec(rule(), 0..150),
        flows in prop::collection::vec((0u32..64, 0u32..64, 0u8..3, 0u16..8), 20),
    ) {
        let access = Access { rules, default: Action::Deny };
        let compiled = Classifier::new(&access);
        for (local, remote, protocol, port) in flows {
            let address = |host: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | host));
            let flow = Flow { protocol, local: (address(local), port), remote: (address(remote), 1) };
            prop_assert_eq!(compiled.decide(&flow), naive(&access, &flow));
        }
    }

    #[test]
    fn no_bytes_panic(version in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()], bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let packet: Vec<u8> = std::iter::once(version).chain(bytes).collect();
        let host = Host::with(&NOTHING);
        let _ = host.receives(&packet);
        host.sends(&packet);
    }

    #[test]
    fn equal_signatures_are_of_one_flow(
        bytes in prop::collection::vec(any::<u8>(), 60..80),
        version in prop_oneof![Just(0x45u8), Just(0x60)],
        protocol in prop_oneof![Just(6u8), Just(17)],
        change in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut one = bytes;
        one[0] = version;
        if version == 0x45 {
            (one[6], one[7], one[9]) = (0, 0, protocol);
            let len = one.len() as u16;
            one[2..4].copy_from_slice(&len.to_be_bytes());
        } else {
            one[6] = protocol;
            let len = one.len() as u16 - 40;
            one[4..6].copy_from_slice(&len.to_be_bytes());
        }
        let mut other = one.clone();
        other[change.index(one.len())] ^= 1 << bit;
        // A packet is cut to the length that it names before it comes here.
        prop_assume!(crate::packet::length(&other) == Ok(other.len()));
        if let (Some(signature), Some(same)) = (Signature::of(&one), Signature::of(&other)) {
            prop_assert!(signature != same || flow::of(&one) == flow::of(&other));
        }
    }
}
