//! Clear frames between two tunnels: when packets travel unsealed, and what nobody can make of it.

use std::net::SocketAddr;
use std::time::Duration;

use cladnet_tunnel::{Access, Action, Discard, LANES, Obstacle, PeerConfig, TICK, Transport, queue};
use proptest::prelude::*;

use crate::sim::{Host, Output, between, carry, endpoint, friends, packet, strangers};

const SECOND: Duration = Duration::from_secs(1);
const TEXT: &[u8] = b"what everybody may read";

/// How `host` would configure `peer` in a network with clear frames.
fn trusted(peer: &Host) -> PeerConfig {
    PeerConfig { trusted_endpoints: vec![peer.endpoint()], ..peer.as_peer() }
}

/// Tells `host` whether the scope that it has in common with `peer` is trusted, as a device does.
fn trust(host: &Host, peer: &Host, is_trusted: bool) {
    let applied = host.set_peers(&[if is_trusted { trusted(peer) } else { peer.as_peer() }]);
    assert!(applied.to_greet.is_empty(), "the session is kept");
    carry(host, peer, host.probe_due());
}

/// Lets time pass on both, and carries what they say.
fn pass(a: &mut Host, b: &mut Host, time: Duration) {
    for _ in 0..time.as_millis() / TICK.as_millis() {
        let (from_a, from_b) = (a.pass(TICK), b.pass(TICK));
        carry(a, b, from_a);
        carry(b, a, from_b);
    }
}

/// Sends a packet, which must arrive, and returns its datagram, or the handshake that it waits for.
fn send(from: &Host, to: &Host) -> Vec<u8> {
    let inner = between(from.number, to.number, TEXT);
    let output = from.seal(&inner).unwrap();
    let datagram = output.datagrams[0].1.clone();
    assert_eq!(carry(from, to, output), [(to.number, inner)]);
    datagram
}

fn is_clear(datagram: &[u8]) -> bool {
    datagram.windows(TEXT.len()).any(|window| window == TEXT)
}

/// Hosts 1 and 2 that trust each other's endpoint and have nothing said yet.
fn neighbours() -> (Host, Host) {
    let (a, b) = friends();
    trust(&a, &b, true);
    trust(&b, &a, true);
    (a, b)
}

/// The same, and packets travel in clear.
fn clear() -> (Host, Host) {
    let (mut a, mut b) = neighbours();
    assert!(!is_clear(&send(&a, &b)), "nothing was proved yet");
    pass(&mut a, &mut b, 2 * SECOND);
    assert!(is_clear(&send(&a, &b)) && is_clear(&send(&b, &a)));
    (a, b)
}

/// A frame of `a` that is on its way.
fn frame(a: &Host) -> Vec<u8> {
    let datagram = a.seal(&between(1, 2, TEXT)).unwrap().datagram().to_vec();
    assert!(is_clear(&datagram));
    datagram
}

#[test]
fn packets_travel_in_clear_as_long_as_they_flow_also_while_sessions_are_renewed() {
    for forth in [true, false] {
        let (mut a, mut b) = clear();
        assert_eq!(a.stats_of(&b).transport, Transport::Clear);
        let mut sealed = 0;
        for _ in 0..1000 {
            pass(&mut a, &mut b, SECOND / 2);
            let datagram = if forth { send(&a, &b) } else { send(&b, &a) };
            sealed += usize::from(!is_clear(&datagram));
        }
        assert!(sealed <= 10, "{sealed} of 1000, forth: {forth}");
    }
}

#[test]
fn a_frame_is_as_long_as_a_sealed_packet_and_a_train_arrives_in_order() {
    let (a, b) = clear();
    let packets: Vec<_> = (0..40u8).map(|n| between(1, 2, &vec![n; if n == 39 { 3 } else { 1380 }])).collect();
    let datagrams: Vec<_> = a.seal_train(&packets).unwrap().datagrams.into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!((datagrams[0].len(), datagrams[39].len()), (32 + 1408, 32 + 32));
    let delivered = b.open_train(a.endpoint(), &datagrams).packets;
    assert_eq!(delivered.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>(), packets);
    assert!(b.open_train(a.endpoint(), &datagrams).packets.is_empty());
    assert_eq!(b.tunnel.discards().of(Discard::Replay), 40);
}

#[test]
fn clear_frames_may_overtake_too() {
    let (a, b) = clear();
    let packets = [between(1, 2, TEXT)];
    let [frame, overtaking] = [a.seal_train(&packets), a.seal_overtaking(&packets)].map(Result::unwrap);
    assert!(is_clear(frame.datagram()) && is_clear(overtaking.datagram()));
    assert_eq!(queue(overtaking.datagram()), queue(frame.datagram()).map(|lane| LANES + lane));
    assert_eq!(carry(&a, &b, overtaking).len(), 1);
    assert_eq!(carry(&a, &b, frame).len(), 1, "as many as its window takes may come later");
}

#[test]
fn what_travels_in_clear_counts_apart_at_both_ends() {
    let (a, b) = clear();
    let clear_bytes = |of: &Host, with: &Host| {
        let volumes = of.stats_of(with).volumes;
        volumes.iter().fold((0, 0), |(sent, received), volume| {
            (sent + volume.sent.clear_bytes, received + volume.received.clear_bytes)
        })
    };
    let before = clear_bytes(&a, &b);
    let packets = vec![between(1, 2, &[7; 1380]); 10];
    let datagrams: Vec<_> = a.seal_train(&packets).unwrap().datagrams.into_iter().map(|(_, bytes)| bytes).collect();
    b.open_train(a.endpoint(), &datagrams);
    assert_eq!(clear_bytes(&a, &b).0 - before.0, 10 * 1408);
    assert_eq!(clear_bytes(&a, &b), (clear_bytes(&b, &a).1, clear_bytes(&b, &a).0));
}

#[test]
fn without_trust_of_either_side_everything_is_sealed_and_arrives() {
    for (trusting, obstacle) in [(true, Obstacle::Unaccepted), (false, Obstacle::Untrusted)] {
        let (mut a, mut b) = friends();
        trust(&a, &b, trusting);
        trust(&b, &a, !trusting);
        for _ in 0..20 {
            assert!(!is_clear(&send(&a, &b)) && !is_clear(&send(&b, &a)));
            pass(&mut a, &mut b, SECOND);
        }
        assert_eq!(a.stats_of(&b).transport, Transport::Sealed(obstacle));
        assert_eq!(b.tunnel.discards().iter().map(|(_, count)| count).sum::<u64>(), 0);
    }
}

#[test]
fn an_idle_pair_asks_nothing_and_one_that_talks_every_three_seconds() {
    let (mut a, mut b) = clear();
    let probes = |a: &mut Host, b: &mut Host, talk: bool| {
        let mut count = 0;
        for _ in 0..30 * 4 {
            if talk {
                send(a, b);
            }
            let (from_a, from_b) = (a.pass(TICK), b.pass(TICK));
            count += from_a.datagrams.iter().filter(|(_, datagram)| datagram[0] == 0xc1).count();
            carry(a, b, from_a);
            carry(b, a, from_b);
        }
        count
    };
    assert_eq!(probes(&mut a, &mut b, true), 10);
    probes(&mut a, &mut b, false);
    assert_eq!(probes(&mut a, &mut b, false), 0);
    assert_eq!(a.stats_of(&b).transport, Transport::Sealed(Obstacle::Unproved));
    assert!(!is_clear(&send(&a, &b)));
    pass(&mut a, &mut b, 2 * SECOND);
    assert!(is_clear(&send(&a, &b)), "it comes back with traffic");
}

#[test]
fn without_answers_it_ends_within_ten_seconds_on_either_side() {
    let (mut a, mut b) = clear();
    let late = frame(&a);
    for _ in 0..40 {
        let _lost = (a.pass(TICK), b.pass(TICK));
    }
    assert!(!is_clear(a.seal(&between(1, 2, TEXT)).unwrap().datagram()));
    assert_eq!(b.open(a.endpoint(), &late).unwrap_err(), Discard::ClearUnproved);
}

#[test]
fn a_frame_from_elsewhere_is_refused_and_moves_nothing() {
    let (a, b) = clear();
    let before = (b.stats_of(&a).endpoint, b.stats_of(&a).rx_bytes);
    assert_eq!(b.open(endpoint(66), &frame(&a)).unwrap_err(), Discard::ClearRefused);
    assert_eq!((b.stats_of(&a).endpoint, b.stats_of(&a).rx_bytes), before);
}

#[test]
fn a_frame_that_is_refused_starts_no_handshake() {
    let (mut a, b) = clear();
    let datagram = send(&b, &a);
    // An initiator that received something now would renew its session.
    a.now += Duration::from_secs(165);
    assert_eq!(a.open_both(b.endpoint(), &datagram), (Err(Discard::ClearUnproved), Output::default()));
}

#[test]
fn a_frame_with_anothers_source_is_refused() {
    let (a, b) = clear();
    let authentic = frame(&a);
    let mut forged = authentic.clone();
    let at = forged.windows(4).position(|window| window == [10, 9, 0, 1]).unwrap();
    forged[at + 3] = 9;
    assert_eq!(b.open(a.endpoint(), &forged).unwrap_err(), Discard::ForeignSource);
    assert_eq!(b.open(a.endpoint(), &authentic).unwrap().packets.len(), 1, "its counter is not spent");
    let own = a.seal(&packet([10, 9, 0, 9].into(), [10, 9, 0, 2].into(), TEXT)).unwrap();
    assert_eq!(b.open(a.endpoint(), own.datagram()).unwrap_err(), Discard::ForeignSource);
}

#[test]
fn the_networks_rules_hold_for_frames_too_and_a_replay_touches_no_flow() {
    let (a, b) = clear();
    let sent = frame(&a);
    assert_eq!(b.open(a.endpoint(), &sent).unwrap().packets.len(), 1);
    b.tunnel.set_access(b.now, b.interface, Some(&Access { rules: vec![], default: Action::Deny })).unwrap();
    assert_eq!(b.open(a.endpoint(), &frame(&a)).unwrap_err(), Discard::Refused);
    assert_eq!(b.open(a.endpoint(), &sent).unwrap_err(), Discard::Replay);
}

#[test]
fn who_cannot_read_the_pairs_traffic_cannot_forge_a_frame() {
    let (a, b) = clear();
    let mut guessed = frame(&a);
    let token = guessed.len() - 16;
    guessed[token..].fill(7);
    assert_eq!(b.open(a.endpoint(), &guessed).unwrap_err(), Discard::ClearStale);
    let mut unknown = frame(&a);
    unknown[4] ^= 1;
    assert_eq!(b.open(a.endpoint(), &unknown).unwrap_err(), Discard::UnknownIndex);
    let mut reflected = frame(&a);
    let back = send(&b, &a);
    reflected[4..8].copy_from_slice(&back[4..8]);
    assert_eq!(a.open(b.endpoint(), &reflected).unwrap_err(), Discard::ForeignSource);
}

#[test]
fn a_counter_is_taken_once_and_not_when_it_is_stale() {
    let (a, b) = clear();
    let stale = frame(&a);
    for _ in 0..200 {
        let packets: Vec<_> = (0..60u8).map(|n| between(1, 2, &[n])).collect();
        let sent: Vec<_> = a.seal_train(&packets).unwrap().datagrams.into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(b.open_train(a.endpoint(), &sent).packets.len(), 60);
    }
    assert_eq!(b.open(a.endpoint(), &stale).unwrap_err(), Discard::Replay);
    let mut last = frame(&a);
    last[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(b.open(a.endpoint(), &last).unwrap_err(), Discard::CounterExhausted);
}

#[test]
fn counters_that_somebody_spends_ahead_come_back_with_the_next_probe() {
    let (mut a, mut b) = clear();
    let mut forged = frame(&a);
    forged[8..16].copy_from_slice(&(1u64 << 50).to_le_bytes());
    assert_eq!(b.open(a.endpoint(), &forged).unwrap().packets.len(), 1);
    let refused = frame(&a);
    assert_eq!(b.open(a.endpoint(), &refused).unwrap_err(), Discard::Replay);
    pass(&mut a, &mut b, 4 * SECOND);
    assert!(is_clear(&send(&a, &b)));
    assert_eq!(b.open(a.endpoint(), &refused).unwrap_err(), Discard::Replay);
    assert!(is_clear(&send(&a, &b)));
}

#[test]
fn frames_and_sealed_packets_of_before_pass_side_by_side() {
    let (mut a, mut b) = neighbours();
    let sealed = a.seal(&between(1, 2, b"sealed before")).unwrap();
    send(&a, &b);
    pass(&mut a, &mut b, 2 * SECOND);
    assert!(is_clear(&send(&a, &b)));
    assert_eq!(b.open(a.endpoint(), sealed.datagram()).unwrap().packets.len(), 1);
    assert_eq!(b.open(a.endpoint(), sealed.datagram()).unwrap_err(), Discard::Replay);
}

#[test]
fn who_stops_accepting_says_so_and_the_other_seals() {
    let (a, b) = clear();
    let under_way = frame(&a);
    trust(&b, &a, false);
    assert!(!is_clear(&send(&a, &b)) && !is_clear(&send(&b, &a)));
    assert_eq!(b.open(a.endpoint(), &under_way).unwrap_err(), Discard::ClearRefused);
}

#[test]
fn a_word_that_was_lost_is_said_again() {
    let (mut a, mut b) = clear();
    b.set_peers(&[a.as_peer()]);
    let _lost = b.probe_due();
    let mut refused = 0;
    while is_clear(a.seal(&between(1, 2, TEXT)).unwrap().datagram()) {
        refused += 1;
        assert_eq!(b.open(a.endpoint(), &frame(&a)).unwrap_err(), Discard::ClearRefused);
        pass(&mut a, &mut b, TICK);
    }
    assert!((1..=5).contains(&refused), "{refused} ticks");
}

#[test]
fn who_stops_sending_in_clear_still_hears_it() {
    let (a, b) = clear();
    let under_way = frame(&a);
    trust(&a, &b, false);
    assert!(!is_clear(&send(&a, &b)));
    assert_eq!(b.open(a.endpoint(), &under_way).unwrap().packets.len(), 1);
}

#[test]
fn who_moves_away_is_sent_sealed_packets_at_once() {
    let (a, b) = clear();
    let public: SocketAddr = "203.0.113.9:8055".parse().unwrap();
    let announced = b.announce();
    a.open(public, &announced.datagrams[0].1).unwrap();
    let output = a.seal(&between(1, 2, TEXT)).unwrap();
    assert_eq!(output.datagrams[0].0, public);
    assert!(!is_clear(output.datagram()));
    assert_eq!(a.stats_of(&b).transport, Transport::Sealed(Obstacle::Untrusted));
}

#[test]
fn a_restart_of_either_side_ends_in_clear_frames_again() {
    for receiver_restarts in [true, false] {
        let (a, b) = clear();
        for _ in 0..50 {
            send(&a, &b);
        }
        let old = frame(&a);
        let (mut a, mut b) = if receiver_restarts {
            let anew = Host::with_key(2, b.private_key.clone(), vec![trusted(&a)]);
            (a, anew)
        } else {
            (Host::with_key(1, a.private_key.clone(), vec![trusted(&b)]), b)
        };
        // A moment later than what was said before, by either clock.
        pass(&mut a, &mut b, SECOND);
        let (anew, other) = if receiver_restarts { (&b, &a) } else { (&a, &b) };
        carry(anew, other, anew.initiate(&[other.public_key()]));
        send(&a, &b);
        pass(&mut a, &mut b, 4 * SECOND);
        assert!(is_clear(&send(&a, &b)) && is_clear(&send(&b, &a)), "receiver restarts: {receiver_restarts}");
        let reason = b.open(a.endpoint(), &old).unwrap_err();
        let expected = if receiver_restarts { Discard::UnknownIndex } else { Discard::ClearStale };
        assert_eq!(reason, expected);
    }
}

#[test]
fn a_new_session_is_proved_anew_and_costs_no_packet() {
    let (mut a, mut b) = clear();
    (a.now, b.now) = (a.now + SECOND, b.now + SECOND);
    carry(&b, &a, b.initiate(&[a.public_key()]));
    assert!(!is_clear(&send(&a, &b)), "the peer may have begun anew");
    assert!(is_clear(&send(&b, &a)));
    pass(&mut a, &mut b, TICK);
    assert!(is_clear(&send(&a, &b)));
}

#[test]
fn without_a_session_nothing_is_in_clear() {
    let (mut a, mut b) = strangers();
    a.set_peers(&[trusted(&b)]);
    b.set_peers(&[trusted(&a)]);
    let only_probes = |mut output: Output| {
        output.datagrams.retain(|(_, datagram)| datagram[0] == 0xc1);
        output
    };
    for _ in 0..20 {
        let sent = a.seal(&between(1, 2, TEXT)).unwrap_or_default().datagrams;
        assert!(sent.iter().all(|(_, datagram)| !is_clear(datagram)));
        let (from_a, from_b) = (only_probes(a.pass(TICK)), only_probes(b.pass(TICK)));
        carry(&a, &b, from_a);
        carry(&b, &a, from_b);
    }
    assert_eq!(a.proofs_of(&b).len(), 1);
    assert_eq!(a.stats_of(&b).transport, Transport::Sealed(Obstacle::Unproved));
}

#[test]
fn a_plain_peer_is_never_sent_a_frame() {
    let (a, b) = clear();
    a.set_peers(&[PeerConfig { probes: false, ..trusted(&b) }]);
    assert!(!is_clear(a.seal(&between(1, 2, TEXT)).unwrap().datagram()));
}

/// What happens to a pair.
#[derive(Debug, Clone, Copy)]
enum Event {
    Send { forth: bool },
    Pass { ticks: u8 },
    Trust { left: bool, is_trusted: bool },
    Handshake { forth: bool },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any::<bool>().prop_map(|forth| Event::Send { forth }),
        3 => (1u8..20).prop_map(|ticks| Event::Pass { ticks }),
        2 => any::<(bool, bool)>().prop_map(|(left, is_trusted)| Event::Trust { left, is_trusted }),
        1 => any::<bool>().prop_map(|forth| Event::Handshake { forth }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// `send` claims that each arrives.
    #[test]
    fn however_policies_change_no_packet_is_lost_and_none_in_clear_against_its_senders_will(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let (mut a, mut b) = neighbours();
        let mut trusts = [true, true];
        for event in events {
            match event {
                Event::Send { forth } => {
                    let datagram = if forth { send(&a, &b) } else { send(&b, &a) };
                    prop_assert!(!is_clear(&datagram) || trusts == [true, true]);
                }
                Event::Pass { ticks } => pass(&mut a, &mut b, u32::from(ticks) * TICK),
                Event::Trust { left, is_trusted } => {
                    trusts[usize::from(left)] = is_trusted;
                    if left { trust(&a, &b, is_trusted) } else { trust(&b, &a, is_trusted) }
                }
                Event::Handshake { forth } => {
                    let (from, to) = if forth { (&a, &b) } else { (&b, &a) };
                    carry(from, to, from.initiate(&[to.public_key()]));
                }
            }
        }
    }

    #[test]
    fn no_bytes_in_a_frame_panic_or_move_anything(
        mut datagram in prop::collection::vec(any::<u8>(), 0..200),
        with_token in any::<bool>(),
    ) {
        let (a, b) = clear();
        let model = frame(&a);
        let len = datagram.len();
        if with_token && len >= 32 {
            datagram[..16].copy_from_slice(&model[..16]);
            datagram[len - 16..].copy_from_slice(&model[model.len() - 16..]);
        }
        let (result, output) = b.open_both(a.endpoint(), &datagram);
        prop_assert!(result.is_err());
        prop_assert_eq!(output, Output::default());
        prop_assert_eq!(b.stats_of(&a).endpoint, Some(a.endpoint()));
    }
}
