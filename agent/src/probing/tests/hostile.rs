//! Peers that do what they can to have others asked, or to keep a host from asking its other peers.

use std::net::Ipv4Addr;

use super::*;

/// Between two deeds.
const PAUSE: Duration = Duration::from_millis(50);

struct Hostile {
    id: PeerId,
    named: u32,
}

impl Hostile {
    /// `count` of them beside the peer of `sim`.
    fn beside(sim: &Sim, count: u32) -> Vec<Self> {
        (0..count).map(|number| Self { id: (sim.id.0, key(100 + number)), named: number << 20 }).collect()
    }

    /// An address that nobody has named before.
    fn address(&mut self) -> SocketAddr {
        self.named += 1;
        SocketAddr::from((Ipv4Addr::from_bits(0x0800_0000 + self.named), 53))
    }

    /// Is heard at one new address after another, with an alarm each time.
    fn ask_from_everywhere(&mut self, sim: &mut Sim) {
        for _ in 0..10 {
            let from = self.address();
            sim.prober.sighted(sim.now, self.id, Sighting::Request { from, is_alarm: true });
        }
        let elsewhere = Some(self.address());
        let activity = Activity { has_traffic: true, unanswered: Some(SECOND), elsewhere };
        sim.prober.note(sim.now, self.id, activity);
    }

    /// Tells as many endpoints as a host may.
    fn tell_endpoints(&mut self) -> (PublicKey, Pair) {
        let endpoints: [_; 16] = std::array::from_fn(|_| self.address());
        (self.id.1, pair(&endpoints))
    }
}

/// Lets them do what they can for some time.
fn suffer(sim: &mut Sim, peers: &mut [Hostile], time: Duration) {
    let end = sim.now + time;
    while sim.now < end {
        let mut pairs = BTreeMap::from([(sim.id.1, pair(&[private(), public()]))]);
        pairs.extend(peers.iter_mut().map(Hostile::tell_endpoints));
        sim.prober.set_peers(sim.now, sim.id.0, pairs);
        peers.iter_mut().for_each(|peer| peer.ask_from_everywhere(sim));
        sim.run(PAUSE);
    }
}

#[test]
fn a_peer_that_names_ever_new_endpoints_has_two_a_second_asked() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let mut peers = Hostile::beside(&sim, 1);
    suffer(&mut sim, &mut peers, 30 * SECOND);
    let asked = sim.asked_of_others.len();
    assert!((60..=16 + 60 + 1).contains(&asked), "{asked} requests in half a minute; seed {seed}");
}

#[test]
fn hostile_peers_leave_the_others_their_requests() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let mut peers = Hostile::beside(&sim, 20);
    suffer(&mut sim, &mut peers, 2 * SECOND);
    sim.lines.insert(private(), dead(10 * MILLISECOND));
    suffer(&mut sim, &mut peers, 1_500 * MILLISECOND);
    assert_eq!(sim.in_use, Some(public()), "seed {seed}");
}

#[test]
fn a_peer_that_calls_for_answers_at_its_own_endpoints_gets_fifty_a_second() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let peer = Hostile::beside(&sim, 1).remove(0);
    let endpoints: Vec<_> = (1..=16).map(|last| SocketAddr::from(([192, 0, 2, last], 8055))).collect();
    let pairs = [(sim.id.1, pair(&[private(), public()])), (peer.id.1, pair(&endpoints))];
    sim.prober.set_peers(sim.now, sim.id.0, BTreeMap::from(pairs));
    let mut answered = 0;
    let start = sim.now;
    while sim.now < start + 10 * SECOND {
        sim.run(10 * MILLISECOND);
        while let Some((asked_at, id, endpoint)) = sim.asked_of_others.get(answered).copied() {
            // Every other one, so that each stays in doubt.
            if answered % 2 == 0 {
                sim.prober.sighted(sim.now, id, Sighting::Answer { endpoint, asked_at, mapped: endpoint });
            }
            answered += 1;
        }
        for (number, from) in endpoints.iter().copied().enumerate() {
            sim.prober.sighted(sim.now, peer.id, Sighting::Request { from, is_alarm: true });
            let elsewhere = (number == answered % endpoints.len()).then_some(from);
            let activity = Activity { has_traffic: true, unanswered: Some(SECOND), elsewhere };
            sim.prober.note(sim.now, peer.id, activity);
        }
    }
    let asked = sim.asked_of_others.len();
    assert!((300..=64 + 500 + 1).contains(&asked), "{asked} requests in ten seconds; seed {seed}");
}
