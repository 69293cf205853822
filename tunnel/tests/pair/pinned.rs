//! Peers whose endpoint somebody else chooses: what is heard moves nothing, and everything that is seen is told.

use std::net::SocketAddr;
use std::time::Duration;

use cladnet_tunnel::{Activity, BUFFER_SIZE, PeerConfig, Roaming, Sighting, Urgency};

use crate::sim::{Host, Output, between, carry, endpoint, strangers};

const SECOND: Duration = Duration::from_secs(1);

/// As `friends`, but the first has pinned the second.
fn pinned() -> (Host, Host) {
    let (a, b) = strangers();
    a.set_peers(&[PeerConfig { roaming: Roaming::Pinned, ..b.as_peer() }]);
    carry(&a, &b, a.initiate(&[b.public_key()]));
    assert!(a.stats_of(&b).last_handshake.is_some());
    activity(&a, &b);
    (a, b)
}

fn elsewhere() -> SocketAddr {
    endpoint(99)
}

fn activity(host: &Host, of: &Host) -> Option<Activity> {
    let mut found = None;
    host.tunnel.activities(host.now, host.interface, |key, activity| {
        found = (key == of.public_key()).then_some(activity);
    });
    found
}

fn steer(host: &Host, peer: &Host, to: Option<SocketAddr>) -> Output {
    let (mut output, mut buffer) = (Output::default(), vec![0; BUFFER_SIZE]);
    host.tunnel.steer(host.now, host.interface, &peer.public_key(), to, &mut buffer, &mut output);
    output
}

#[test]
fn an_authentic_packet_from_elsewhere_moves_no_pinned_endpoint_and_is_told() {
    let (a, b) = pinned();
    let output = b.seal(&between(2, 1, b"from elsewhere")).unwrap();
    assert_eq!(a.open(elsewhere(), output.datagram()).unwrap().packets.len(), 1, "it is delivered all the same");
    assert_eq!(a.stats_of(&b).endpoint, Some(b.endpoint()));
    let told = activity(&a, &b).unwrap();
    assert_eq!((told.has_traffic, told.elsewhere), (true, Some(elsewhere())));
    assert_eq!(activity(&a, &b), None, "once");
}

#[test]
fn a_handshake_from_elsewhere_is_answered_there_and_moves_nothing() {
    let (mut a, mut b) = pinned();
    (a.now, b.now) = (a.now + 10 * SECOND, b.now + 10 * SECOND);
    let initiation = b.initiate(&[a.public_key()]);
    let response = a.open(elsewhere(), initiation.datagram()).unwrap();
    assert_eq!(response.datagrams[0].0, elsewhere());
    assert_eq!(a.stats_of(&b).endpoint, Some(b.endpoint()));
}

#[test]
fn configuration_moves_no_pinned_endpoint_and_steering_does() {
    let (a, b) = pinned();
    let moved = PeerConfig { roaming: Roaming::Pinned, endpoint: Some(elsewhere()), ..b.as_peer() };
    assert_eq!(a.set_peers(&[moved]).to_greet, []);
    assert_eq!(a.stats_of(&b).endpoint, Some(b.endpoint()));
    assert!(steer(&a, &b, Some(elsewhere())).datagrams.is_empty(), "the session goes on");
    let output = a.seal(&between(1, 2, b"there")).unwrap();
    assert_eq!(output.datagrams[0].0, elsewhere());
}

#[test]
fn to_nowhere_nothing_is_sent() {
    let (mut a, b) = pinned();
    steer(&a, &b, None);
    assert!(a.seal(&between(1, 2, b"nowhere")).is_err());
    let output = b.seal(&between(2, 1, b"still heard")).unwrap();
    assert_eq!(a.open(b.endpoint(), output.datagram()).unwrap().packets.len(), 1);
    for _ in 0..200 {
        assert!(a.pass(SECOND).datagrams.is_empty());
    }
    assert!(a.initiate(&[b.public_key()]).datagrams.is_empty());
}

#[test]
fn without_a_session_steering_begins_a_handshake() {
    let (a, b) = strangers();
    a.set_peers(&[PeerConfig { roaming: Roaming::Pinned, endpoint: None, ..b.as_peer() }]);
    steer(&a, &b, None);
    let output = steer(&a, &b, Some(elsewhere()));
    assert_eq!(output.datagrams.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [elsewhere()]);
}

#[test]
fn packets_wait_for_an_answer_from_the_very_endpoint_they_went_to() {
    let (mut a, b) = pinned();
    a.seal(&between(1, 2, b"question")).unwrap();
    a.now += SECOND;
    assert_eq!(activity(&a, &b).unwrap().unanswered, Some(SECOND));
    let answer = b.seal(&between(2, 1, b"answer")).unwrap();
    a.open(elsewhere(), answer.datagram()).unwrap();
    assert_eq!(activity(&a, &b).unwrap().unanswered, Some(SECOND), "that was another path");
    let answer = b.seal(&between(2, 1, b"answer")).unwrap();
    a.open(b.endpoint(), answer.datagram()).unwrap();
    assert_eq!(activity(&a, &b).unwrap().unanswered, None);
    assert_eq!(activity(&a, &b), None, "nothing passed since");
}

#[test]
fn probes_tell_what_they_have_shown() {
    let (mut a, b) = pinned();
    let mut ask = |urgency| {
        let request = cladnet_tunnel::ProbeRequest { endpoints: &[elsewhere()], size: 0, urgency };
        let (mut output, mut buffer) = (Output::default(), vec![0; BUFFER_SIZE]);
        a.tunnel.probe(a.now, a.interface, &b.public_key(), request, &mut buffer, &mut output);
        let asked_at = a.now;
        a.now += SECOND / 10;
        (asked_at, output)
    };
    for (urgency, is_alarm) in [(Urgency::Routine, false), (Urgency::Alarm, true)] {
        let (_, request) = ask(urgency);
        let heard = b.open(endpoint(77), request.datagram()).unwrap();
        assert_eq!(heard.sightings, [Sighting::Request { from: endpoint(77), is_alarm }]);
    }
    let (asked_at, request) = ask(Urgency::Alarm);
    let reply = b.open(endpoint(77), request.datagram()).unwrap();
    let heard = a.open(elsewhere(), reply.datagram()).unwrap();
    assert_eq!(heard.sightings, [Sighting::Answer { endpoint: elsewhere(), asked_at, mapped: endpoint(77) }]);
}
