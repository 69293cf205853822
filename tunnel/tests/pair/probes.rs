//! Probes between two tunnels: what an answer proves, and what nobody else can make of them.

use std::net::SocketAddr;
use std::time::Duration;

use cladnet_tunnel::{Discard, PeerConfig, PresharedKey, Proof};
use proptest::prelude::*;

use crate::sim::{Host, Output, endpoint, friends, strangers, with_preshared_keys};

const MILLISECOND: Duration = Duration::from_millis(1);
/// Of the shortest request and of every reply.
const MIN_LEN: usize = 124;

/// Where `b` is asked, though it knows nothing of it.
fn elsewhere() -> SocketAddr {
    endpoint(99)
}

/// One request of `a` to `b` at `to`.
fn request(a: &Host, b: &Host, to: SocketAddr) -> Vec<u8> {
    a.probe(b, &[to], 0).datagram().to_vec()
}

/// What both believe of each other's whereabouts, and how many bytes they count.
fn wireguard(a: &Host, b: &Host) -> [(Option<SocketAddr>, u64, u64); 2] {
    [a.stats_of(b), b.stats_of(a)].map(|stats| (stats.endpoint, stats.tx_bytes, stats.rx_bytes))
}

#[test]
fn an_answered_challenge_proves_the_endpoint_and_tells_its_round_trip_and_our_address() {
    let (mut a, b) = strangers();
    let before = wireguard(&a, &b);
    let request = request(&a, &b, elsewhere());
    let reply = b.open(endpoint(77), &request).unwrap();
    assert_eq!(reply.datagrams[0].0, endpoint(77));
    a.now += 40 * MILLISECOND;
    a.open(elsewhere(), reply.datagram()).unwrap();
    a.now += 2 * MILLISECOND;
    let proof = Proof {
        endpoint: elsewhere(),
        age: 2 * MILLISECOND,
        rtt: 40 * MILLISECOND,
        mapped: endpoint(77),
        longest: MIN_LEN,
    };
    assert_eq!(a.proofs_of(&b), [proof]);
    assert!(b.proofs_of(&a).is_empty(), "who answers has proved himself, not the other");
    assert_eq!(wireguard(&a, &b), before);
}

#[test]
fn an_address_of_ipv6_is_told_as_it_is() {
    let (a, b) = strangers();
    let from: SocketAddr = "[2001:db8::7]:51820".parse().unwrap();
    let reply = b.open(from, &request(&a, &b, elsewhere())).unwrap();
    a.open(elsewhere(), reply.datagram()).unwrap();
    assert_eq!(a.proofs_of(&b)[0].mapped, from);
}

#[test]
fn a_padded_request_has_the_wanted_size_and_a_short_reply() {
    let (a, b) = strangers();
    for size in [0, MIN_LEN, MIN_LEN + 1, 1452, 9000, 65_507, usize::MAX] {
        let request = a.probe(&b, &[elsewhere()], size);
        assert_eq!(request.datagram().len(), size.clamp(MIN_LEN, 65_507));
        let reply = b.open(a.endpoint(), request.datagram()).unwrap();
        assert_eq!(reply.datagram().len(), MIN_LEN);
        a.open(elsewhere(), reply.datagram()).unwrap();
    }
    assert_eq!(a.proofs_of(&b)[0].longest, 65_507);
}

#[test]
fn a_replayed_request_is_not_answered_and_a_replayed_reply_proves_nothing() {
    let (mut a, b) = strangers();
    let request = request(&a, &b, elsewhere());
    let reply = b.open(a.endpoint(), &request).unwrap();
    assert_eq!(b.open(a.endpoint(), &request).unwrap_err(), Discard::Replay);
    a.open(elsewhere(), reply.datagram()).unwrap();
    a.now += Duration::from_secs(1);
    assert_eq!(a.open(elsewhere(), reply.datagram()).unwrap_err(), Discard::UnexpectedReply);
    assert_eq!(a.proofs_of(&b)[0].age, Duration::from_secs(1));
}

#[test]
fn a_redirected_reply_proves_neither_endpoint_and_the_true_one_still_counts() {
    let (a, b) = strangers();
    let reply = b.open(a.endpoint(), &request(&a, &b, elsewhere())).unwrap();
    assert_eq!(a.open(endpoint(66), reply.datagram()).unwrap_err(), Discard::Redirected);
    assert!(a.proofs_of(&b).is_empty());
    a.open(elsewhere(), reply.datagram()).unwrap();
    assert_eq!(a.proofs_of(&b).len(), 1);
}

#[test]
fn a_reflected_probe_means_nothing_to_its_sender() {
    let (a, b) = strangers();
    let request = request(&a, &b, elsewhere());
    let reply = b.open(a.endpoint(), &request).unwrap();
    assert_eq!(a.open(elsewhere(), &request).unwrap_err(), Discard::UnknownTag);
    assert_eq!(b.open(a.endpoint(), reply.datagram()).unwrap_err(), Discard::UnknownTag);
    assert!(a.proofs_of(&b).is_empty());
}

#[test]
fn a_probe_of_another_pair_is_unknown_even_under_our_tag() {
    let (a, b) = strangers();
    let (c, d) = strangers();
    let ours = request(&a, &b, elsewhere());
    let mut theirs = request(&c, &d, elsewhere());
    assert_eq!(b.open(c.endpoint(), &theirs).unwrap_err(), Discard::UnknownTag);
    theirs[4..12].copy_from_slice(&ours[4..12]);
    assert_eq!(b.open(c.endpoint(), &theirs).unwrap_err(), Discard::NotAuthentic);
}

#[test]
fn without_the_same_preshared_key_there_is_no_answer() {
    let key = PresharedKey::generate(&mut rand::rng());
    let (a, b) = with_preshared_keys(Some(key.clone()), None);
    assert_eq!(b.open(a.endpoint(), &request(&a, &b, elsewhere())).unwrap_err(), Discard::UnknownTag);
    let (a, b) = with_preshared_keys(Some(key.clone()), Some(key));
    assert!(b.open(a.endpoint(), &request(&a, &b, elsewhere())).is_ok());
}

#[test]
fn an_answer_that_comes_too_late_proves_nothing() {
    let (mut a, b) = strangers();
    let reply = b.open(a.endpoint(), &request(&a, &b, elsewhere())).unwrap();
    a.now += Duration::from_millis(5001);
    assert_eq!(a.open(elsewhere(), reply.datagram()).unwrap_err(), Discard::UnexpectedReply);
    assert!(a.proofs_of(&b).is_empty());
}

#[test]
fn of_many_challenges_to_one_endpoint_the_last_sixteen_count() {
    let (a, b) = strangers();
    let requests: Vec<_> = (0..17).map(|_| request(&a, &b, elsewhere())).collect();
    let replies: Vec<_> = requests.iter().map(|request| b.open(a.endpoint(), request).unwrap()).collect();
    let taken: Vec<_> = replies.iter().map(|reply| a.open(elsewhere(), reply.datagram()).is_ok()).collect();
    assert_eq!((taken[0], &taken[1..]), (false, [true; 16].as_slice()));
}

#[test]
fn of_many_endpoints_the_sixteen_asked_last_are_remembered() {
    let (mut a, b) = strangers();
    for number in 100..120 {
        a.now += MILLISECOND;
        let reply = b.open(a.endpoint(), &request(&a, &b, endpoint(number))).unwrap();
        a.open(endpoint(number), reply.datagram()).unwrap();
    }
    let proved: Vec<_> = a.proofs_of(&b).into_iter().map(|proof| proof.endpoint).collect();
    assert_eq!(proved, (104..120).map(endpoint).collect::<Vec<_>>());
}

#[test]
fn one_address_is_answered_so_often_a_second_and_others_all_the_same() {
    let (a, mut b) = strangers();
    let ask = |b: &Host, from| b.open(from, &request(&a, b, elsewhere())).map(drop);
    let answers = (0..300).filter(|_| ask(&b, endpoint(66)).is_ok()).count();
    assert_eq!(answers, 256);
    assert_eq!(ask(&b, endpoint(66)), Err(Discard::ProbeLimit));
    assert_eq!(ask(&b, endpoint(67)), Ok(()));
    b.now += Duration::from_secs(1);
    assert_eq!(ask(&b, endpoint(66)), Ok(()));
}

#[test]
fn a_plain_peer_hears_no_probe_and_gets_no_answer() {
    let (a, b) = strangers();
    let asked = request(&a, &b, elsewhere());
    for (host, peer) in [(&a, &b), (&b, &a)] {
        let applied = host.set_peers(&[PeerConfig { probes: false, ..peer.as_peer() }]);
        assert!(applied.to_greet.is_empty(), "the peer was kept");
    }
    assert_eq!(a.probe(&b, &[elsewhere()], 0), Output::default());
    assert_eq!(b.open(a.endpoint(), &asked).unwrap_err(), Discard::UnknownTag);
}

#[test]
fn a_restarted_peer_is_answered_and_what_it_said_before_is_not() {
    let (mut a, b) = strangers();
    for _ in 0..100 {
        b.open(a.endpoint(), &request(&a, &b, elsewhere())).unwrap();
    }
    let old = request(&a, &b, elsewhere());
    let mut restarted = Host::with_key(1, a.private_key.clone(), vec![b.as_peer()]);
    restarted.now += MILLISECOND;
    b.open(a.endpoint(), &request(&restarted, &b, elsewhere())).unwrap();
    assert_eq!(b.open(a.endpoint(), &old).unwrap_err(), Discard::Replay);
    a.now += MILLISECOND;
    assert!(a.proofs_of(&b).is_empty());
}

#[test]
fn nobody_is_asked_or_answered_through_a_tunnel_of_ours() {
    let (a, b) = strangers();
    let inside = "10.9.0.2:8055".parse().unwrap();
    assert_eq!(a.probe(&b, &[inside], 0), Output::default());
    assert_eq!(a.tunnel.discards().of(Discard::InsideTunnel), 1);
    let request = request(&a, &b, elsewhere());
    assert_eq!(b.open(inside, &request).unwrap_err(), Discard::InsideTunnel);
}

#[test]
fn a_probe_between_data_leaves_the_train_as_it_is() {
    let (a, b) = friends();
    let packets: Vec<_> = (0..4u8).map(|n| crate::sim::between(1, 2, &[n; 100])).collect();
    let mut datagrams: Vec<_> = a.seal_train(&packets).unwrap().datagrams.into_iter().map(|(_, bytes)| bytes).collect();
    datagrams.insert(2, a.probe(&b, &[b.endpoint()], datagrams[0].len()).datagram().to_vec());
    let output = b.open_train(a.endpoint(), &datagrams);
    assert_eq!(output.packets.into_iter().map(|(_, packet)| packet).collect::<Vec<_>>(), packets);
    assert_eq!(output.datagrams.len(), 1);
    a.open(b.endpoint(), &output.datagrams[0].1).unwrap();
    assert_eq!(a.proofs_of(&b).len(), 1);
}

/// After how many milliseconds each copy of a datagram arrives; without one it is lost.
fn fate() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(1u32..400, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The oracle: what arrives first counts, once.
    #[test]
    fn loss_and_doubles_change_nothing_but_what_is_lost(ways in prop::collection::vec((fate(), fate()), 1..12)) {
        let (mut a, b) = strangers();
        let mut rtt: Option<Duration> = None;
        for (there, back) in ways {
            let (asked_at, request) = (a.now, request(&a, &b, elsewhere()));
            let answers: Vec<_> = there.iter().filter_map(|_| b.open(a.endpoint(), &request).ok()).collect();
            prop_assert_eq!(answers.len(), there.len().min(1));
            let mut arrivals: Vec<u32> = there.iter().min().iter().flat_map(|way| back.iter().map(|x| x + **way)).collect();
            arrivals.sort_unstable();
            for (position, after) in arrivals.iter().enumerate() {
                a.now = asked_at + *after * MILLISECOND;
                prop_assert_eq!(a.open(elsewhere(), answers[0].datagram()).is_ok(), position == 0);
            }
            if let Some(first) = arrivals.first() {
                let sample = *first * MILLISECOND;
                rtt = Some(rtt.map_or(sample, |before| (7 * before + sample) / 8));
            }
            a.now = asked_at + Duration::from_secs(1);
        }
        prop_assert_eq!(a.proofs_of(&b).first().map(|proof| proof.rtt), rtt);
    }

    #[test]
    fn requests_over_different_ways_may_overtake_each_other(
        order in Just((0..16u8).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let (a, b) = strangers();
        let endpoints: Vec<_> = (100..116).map(endpoint).collect();
        let requests = a.probe(&b, &endpoints, 0).datagrams;
        for at in order {
            let (to, request) = &requests[usize::from(at)];
            let reply = b.open(a.endpoint(), request).unwrap();
            a.open(*to, reply.datagram()).unwrap();
        }
        prop_assert_eq!(a.proofs_of(&b).len(), 16);
    }

    #[test]
    fn a_flipped_bit_or_a_cut_proves_nothing_and_is_not_answered(
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
        cut in any::<prop::sample::Index>(),
        size in 0usize..300,
    ) {
        let (a, b) = strangers();
        let request = a.probe(&b, &[elsewhere()], size);
        let reply = b.open(a.endpoint(), request.datagram()).unwrap();
        let fresh = a.probe(&b, &[endpoint(98)], size);
        for (host, from, datagram) in [(&b, a.endpoint(), fresh.datagram()), (&a, elsewhere(), reply.datagram())] {
            let mut flipped = datagram.to_vec();
            flipped[position.index(datagram.len())] ^= 1 << bit;
            for forged in [&flipped[..], &datagram[..cut.index(datagram.len())]] {
                let (result, output) = host.open_both(from, forged);
                prop_assert!(result.is_err());
                prop_assert_eq!(output, Output::default());
            }
        }
        prop_assert!(a.proofs_of(&b).is_empty());
    }
}
