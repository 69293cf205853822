//! Probing in virtual time: one host and what lies between it and its peers.

use std::collections::BTreeSet;

use cladnet_model::{RuleType, path::Policy};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

mod hostile;
mod two_hosts;

use super::simulation::{LOOK_EVERY, Load, interface, key, pair, private, public, requests_per_second};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// How a path carries datagrams; a share of 1 is a black hole.
#[derive(Debug, Clone, Copy)]
struct Line {
    rtt: Duration,
    lost_out: f64,
    lost_back: f64,
}

fn fair(rtt: Duration) -> Line {
    Line { rtt, lost_out: 0.0, lost_back: 0.0 }
}

fn dead(rtt: Duration) -> Line {
    Line { lost_out: 1.0, lost_back: 1.0, ..fair(rtt) }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Traffic {
    None,
    /// Every packet is answered, if both pass.
    Both,
    /// We send and nobody answers.
    Out,
    /// We send, and the peer sends whether it hears us or not; it never says that it does not. Agents do: see
    /// [`two_hosts`].
    Beside,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Answer { asked_at: Instant },
    Packet,
}

/// One pair with two paths.
struct Sim {
    prober: Prober,
    id: PeerId,
    now: Instant,
    lines: BTreeMap<SocketAddr, Line>,
    traffic: Traffic,
    flying: BTreeMap<(Instant, u64), (SocketAddr, Event)>,
    serial: u64,
    rng: StdRng,
    in_use: Option<SocketAddr>,
    switches: Vec<(Instant, Option<SocketAddr>)>,
    asked: Vec<(Instant, SocketAddr, Urgency)>,
    /// What was asked of other peers than this one, and when.
    asked_of_others: Vec<(Instant, PeerId, SocketAddr)>,
    unanswered_since: Option<Instant>,
    packet_at: Instant,
    look_at: Instant,
}

fn elsewhere() -> SocketAddr {
    "198.51.100.7:4500".parse().expect("address")
}

impl Sim {
    fn new(seed: u64, lines: [Line; 2]) -> Self {
        let now = Instant::now() + Duration::from_secs(86_400);
        let mut jitter = StdRng::seed_from_u64(seed ^ 1);
        let mut sim = Self {
            prober: Prober::new(now, move || jitter.random()),
            id: (interface(), key(1)),
            now,
            lines: BTreeMap::from_iter([private(), public()].into_iter().zip(lines)),
            traffic: Traffic::Both,
            flying: BTreeMap::new(),
            serial: 0,
            rng: StdRng::seed_from_u64(seed),
            in_use: None,
            switches: Vec::new(),
            asked: Vec::new(),
            asked_of_others: Vec::new(),
            unanswered_since: None,
            packet_at: now,
            look_at: now,
        };
        sim.prober.set_peers(now, sim.id.0, BTreeMap::from([(sim.id.1, pair(&[private(), public()]))]));
        sim
    }

    /// On a path that has settled, at a random moment.
    fn settled(lines: [Line; 2]) -> (u64, Self) {
        let seed = rand::random();
        let mut sim = Self::new(seed, lines);
        sim.run(10 * SECOND);
        let phase = SECOND.mul_f64(2.0 * sim.rng.random::<f64>());
        sim.run(phase);
        assert_eq!(sim.in_use, Some(private()), "seed {seed}");
        (seed, sim)
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.poll();
            let flying = self.flying.first_key_value().map(|((at, _), _)| *at);
            let next = [flying, self.prober.wake_at(), Some(self.packet_at), Some(self.look_at)];
            let next = next.into_iter().flatten().min().unwrap_or(end).max(self.now);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            self.step();
        }
    }

    /// Runs until `holds`; how long that took.
    fn until(&mut self, within: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !holds(self) {
            if self.now - start > within {
                return None;
            }
            self.run(5 * MILLISECOND);
        }
        Some(self.now - start)
    }

    fn step(&mut self) {
        while let Some(first) = self.flying.first_entry().filter(|first| first.key().0 <= self.now) {
            let (endpoint, event) = first.remove();
            match event {
                Event::Answer { asked_at } => {
                    let sighting = Sighting::Answer { endpoint, asked_at, mapped: endpoint };
                    self.prober.sighted(self.now, self.id, sighting);
                }
                Event::Packet if self.in_use == Some(endpoint) => self.unanswered_since = None,
                Event::Packet => {}
            }
        }
        if self.packet_at <= self.now {
            self.packet_at = self.now + 50 * MILLISECOND;
            self.send_packet();
        }
        if self.look_at <= self.now {
            self.look_at = self.now + LOOK_EVERY;
            self.look();
        }
    }

    fn send_packet(&mut self) {
        let Some(endpoint) = self.in_use.filter(|_| self.traffic != Traffic::None) else { return };
        self.unanswered_since.get_or_insert(self.now);
        let line = self.lines[&endpoint];
        let (out, back) = (self.passes(line.lost_out), self.passes(line.lost_back));
        let comes = match self.traffic {
            Traffic::None | Traffic::Out => false,
            Traffic::Both => out && back,
            Traffic::Beside => back,
        };
        if comes {
            self.fly(line.rtt, endpoint, Event::Packet);
        }
    }

    fn look(&mut self) {
        let unanswered = self.unanswered_since.map(|since| self.now - since);
        let has_traffic = self.traffic != Traffic::None;
        if has_traffic || unanswered.is_some() {
            self.prober.note(self.now, self.id, Activity { has_traffic, unanswered, elsewhere: None });
        }
    }

    fn poll(&mut self) {
        for action in self.prober.poll(self.now) {
            match action {
                Action::Ask { peer, endpoint, .. } if peer != self.id => {
                    self.asked_of_others.push((self.now, peer, endpoint));
                }
                Action::Steer { peer, .. } if peer != self.id => {}
                Action::Ask { endpoint, urgency, .. } => {
                    self.asked.push((self.now, endpoint, urgency));
                    let Some(line) = self.lines.get(&endpoint).copied() else { continue };
                    if self.passes(line.lost_out) && self.passes(line.lost_back) {
                        let asked_at = self.now;
                        self.fly(line.rtt, endpoint, Event::Answer { asked_at });
                    }
                }
                Action::Steer { to, .. } => {
                    self.switches.push((self.now, to));
                    self.in_use = to;
                    self.unanswered_since = None;
                }
            }
        }
    }

    fn passes(&mut self, lost: f64) -> bool {
        self.rng.random::<f64>() >= lost
    }

    fn fly(&mut self, time: Duration, endpoint: SocketAddr, event: Event) {
        self.serial += 1;
        self.flying.insert((self.now + time, self.serial), (endpoint, event));
    }

    fn asked_since(&self, since: Instant) -> impl Iterator<Item = &(Instant, SocketAddr, Urgency)> {
        self.asked.iter().filter(move |(at, ..)| *at >= since)
    }
}

#[test]
fn a_black_hole_is_left_within_a_second_and_a_half() {
    let mut worst = Duration::ZERO;
    for _ in 0..1_000 {
        let mut rtts = [(); 2].map(|()| MILLISECOND.mul_f64(1.0 + 250.0 * rand::random::<f64>()));
        rtts.sort();
        let (seed, mut sim) = Sim::settled(rtts.map(fair));
        sim.lines.insert(private(), dead(rtts[0]));
        let took = sim.until(3 * SECOND, |sim| sim.in_use == Some(public()));
        worst = worst.max(took.unwrap_or_else(|| panic!("never left; seed {seed}, {rtts:?}")));
        assert!(worst <= 1_500 * MILLISECOND, "{worst:?}; seed {seed}, {rtts:?}");
    }
}

#[test]
fn a_hole_in_either_direction_is_left_also_while_the_peer_is_heard() {
    let rtt = 10 * MILLISECOND;
    for line in [Line { lost_out: 1.0, ..fair(rtt) }, Line { lost_back: 1.0, ..fair(rtt) }] {
        for traffic in [Traffic::Both, Traffic::Out, Traffic::Beside] {
            let (seed, mut sim) = Sim::settled([fair(rtt), fair(2 * rtt)]);
            sim.traffic = traffic;
            sim.lines.insert(private(), line);
            let took = sim.until(5 * SECOND, |sim| sim.in_use == Some(public()));
            let most = if traffic == Traffic::Beside { 4_500 } else { 1_500 } * MILLISECOND;
            assert!(took.is_some_and(|took| took <= most), "{took:?} with {traffic:?} and {line:?}; seed {seed}");
        }
    }
}

#[test]
fn a_fifth_of_all_datagrams_lost_each_way_makes_no_path_flap() {
    let mut left = 0;
    for _ in 0..1_000 {
        let (seed, mut sim) = Sim::settled([fair(20 * MILLISECOND), fair(30 * MILLISECOND)]);
        sim.switches.clear();
        sim.lines.insert(private(), Line { lost_out: 0.2, lost_back: 0.2, ..fair(20 * MILLISECOND) });
        sim.run(40 * SECOND);
        // Who left and took it back has done so once; it does not go on like that.
        assert!(sim.switches.len() <= 2, "{:?}; seed {seed}", sim.switches);
        left += usize::from(!sim.switches.is_empty());
    }
    assert!(left <= 5, "{left} of 1,000 left their path");
}

#[test]
fn loss_in_one_direction_makes_no_path_flap() {
    for (lost_out, lost_back) in [(0.3, 0.0), (0.0, 0.3)] {
        for _ in 0..200 {
            let (seed, mut sim) = Sim::settled([fair(20 * MILLISECOND), fair(30 * MILLISECOND)]);
            sim.switches.clear();
            sim.lines.insert(private(), Line { rtt: 20 * MILLISECOND, lost_out, lost_back });
            sim.run(40 * SECOND);
            assert!(sim.switches.len() <= 2, "{:?}; seed {seed}", sim.switches);
        }
    }
}

#[test]
fn packets_that_nobody_answers_leave_no_path_that_answers_probes() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    sim.switches.clear();
    let start = sim.now;
    sim.traffic = Traffic::Out;
    sim.run(60 * SECOND);
    assert_eq!(sim.switches, [], "seed {seed}");
    assert!(sim.asked_since(start).all(|(.., urgency)| *urgency == Urgency::Routine), "nobody is alarmed");
    let asked = sim.asked_since(start).count();
    assert!(asked <= 60 * 4, "{asked} requests in a minute");
}

#[test]
fn requests_that_a_flood_delays_leave_no_path_whose_packets_are_answered() {
    let (seed, mut sim) = Sim::settled([fair(MILLISECOND), fair(500 * MILLISECOND)]);
    sim.switches.clear();
    let start = sim.now;
    for _ in 0..10 {
        // Everything comes, but late; it is still the shorter path.
        sim.lines.insert(private(), fair(400 * MILLISECOND));
        sim.run(2 * SECOND);
        sim.lines.insert(private(), fair(MILLISECOND));
        sim.run(SECOND);
    }
    assert_eq!(sim.switches, [], "seed {seed}");
    assert!(sim.asked_since(start).all(|(.., urgency)| *urgency == Urgency::Routine), "nobody is alarmed");
}

#[test]
fn a_path_is_taken_back_when_it_has_proved_itself_and_later_after_each_relapse() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let mut before = Duration::ZERO;
    for least in [5, 10, 20] {
        sim.lines.insert(private(), dead(10 * MILLISECOND));
        assert!(sim.until(2 * SECOND, |sim| sim.in_use == Some(public())).is_some(), "seed {seed}");
        sim.run(7 * SECOND);
        sim.lines.insert(private(), fair(10 * MILLISECOND));
        let back = sim.until(60 * SECOND, |sim| sim.in_use == Some(private())).expect("taken back");
        assert!(back >= least * SECOND && back <= (least + 8) * SECOND, "{back:?} after {before:?}; seed {seed}");
        before = back;
    }
}

#[test]
fn a_peer_that_was_away_comes_back_on_the_path_it_had() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    for _ in 0..5 {
        sim.switches.clear();
        let lines =
            std::mem::replace(&mut sim.lines, BTreeMap::from([private(), public()].map(|it| (it, dead(SECOND)))));
        sim.run(20 * SECOND);
        sim.lines = lines;
        sim.run(10 * SECOND);
        assert_eq!(sim.in_use, Some(private()), "seed {seed}");
        let used: BTreeSet<_> = sim.switches.iter().map(|(_, to)| *to).collect();
        assert!(used.len() <= 2, "{:?}; seed {seed}", sim.switches);
    }
}

#[test]
fn where_a_peer_is_heard_of_is_asked_at_once_and_used_if_nothing_else_answers() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let rtt = 30 * MILLISECOND;
    sim.lines = BTreeMap::from([(private(), dead(rtt)), (public(), dead(rtt)), (elsewhere(), fair(rtt))]);
    sim.run(300 * MILLISECOND);
    sim.prober.sighted(sim.now, sim.id, Sighting::Request { from: elsewhere(), is_alarm: false });
    let took = sim.until(2 * SECOND, |sim| sim.in_use == Some(elsewhere()));
    assert!(took.is_some_and(|took| took <= 1_300 * MILLISECOND), "{took:?}; seed {seed}");

    sim.lines = BTreeMap::from([(private(), fair(rtt)), (public(), dead(rtt)), (elsewhere(), dead(rtt))]);
    sim.run(60 * SECOND);
    assert_eq!(sim.in_use, Some(private()), "seed {seed}");
    let measured = sim.prober.measured(sim.now, sim.id.0);
    assert_eq!(measured[&sim.id.1].observed, [], "it is told for no longer than it answers; seed {seed}");
}

#[test]
fn what_the_policy_excludes_is_neither_asked_nor_used() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let basic = Pair { policy: Policy::new(RuleType::Basic), ..pair(&[private()]) };
    sim.prober.set_peers(sim.now, sim.id.0, BTreeMap::from([(sim.id.1, basic)]));
    let start = sim.now;
    sim.run(20 * SECOND);
    assert_eq!((sim.in_use, sim.asked_since(start).count()), (None, 0), "seed {seed}");
}

#[test]
fn the_peers_alarm_is_reason_to_look_at_the_own_path() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    sim.traffic = Traffic::None;
    sim.run(30 * SECOND);
    sim.lines.insert(private(), dead(10 * MILLISECOND));
    sim.prober.sighted(sim.now, sim.id, Sighting::Request { from: public(), is_alarm: true });
    let took = sim.until(2 * SECOND, |sim| sim.in_use == Some(public()));
    assert!(took.is_some_and(|took| took <= 800 * MILLISECOND), "{took:?}; seed {seed}");
}

#[test]
fn idle_peers_cost_two_requests_a_second_however_many_there_are() {
    for count in [10, 100, 1_000] {
        let rate = requests_per_second(count, Load::Idle, 600 * SECOND);
        assert!(rate <= 2.1, "{rate} requests a second to {count} idle peers");
    }
}

#[test]
fn busy_peers_cost_hardly_more_than_a_request_a_second_each() {
    let rate = requests_per_second(50, Load::Busy, 60 * SECOND);
    assert!((50.0..=57.5).contains(&rate), "{rate} requests a second to 50 busy peers");
}

#[test]
fn after_a_move_all_endpoints_are_asked_at_once() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let start = sim.now;
    sim.prober.moved(sim.now);
    sim.run(MILLISECOND);
    let asked: BTreeSet<_> = sim.asked_since(start).map(|(_, endpoint, _)| *endpoint).collect();
    assert_eq!(asked, BTreeSet::from([private(), public()]), "seed {seed}");
}

#[test]
fn when_a_peer_tells_another_address_all_its_endpoints_are_asked_at_once() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    let start = sim.now;
    let told = pair(&[private(), elsewhere()]);
    sim.prober.set_peers(sim.now, sim.id.0, BTreeMap::from([(sim.id.1, told)]));
    sim.run(MILLISECOND);
    let asked: BTreeSet<_> = sim.asked_since(start).map(|(_, endpoint, _)| *endpoint).collect();
    assert_eq!(asked, BTreeSet::from([private(), elsewhere()]), "seed {seed}");
}

/// A second private address, which costs what the first one costs.
fn other_private() -> SocketAddr {
    "10.0.1.3:8055".parse().expect("address")
}

/// Between two private addresses, neither of them near.
fn of_one_price(seed: u64, traffic: Traffic) -> Sim {
    let mut sim = Sim::new(seed, [fair(60 * MILLISECOND), dead(SECOND)]);
    sim.traffic = traffic;
    sim.lines.insert(other_private(), fair(20 * MILLISECOND));
    sim.prober.set_peers(sim.now, sim.id.0, BTreeMap::from([(sim.id.1, pair(&[private(), other_private()]))]));
    sim
}

#[test]
fn one_late_answer_does_not_decide_for_long_between_paths_of_one_price() {
    for traffic in [Traffic::None, Traffic::Both] {
        let seed = rand::random();
        let mut sim = of_one_price(seed, traffic);
        sim.run(100 * MILLISECOND);
        assert_eq!(sim.in_use, Some(other_private()), "seed {seed}");
        sim.lines.insert(private(), fair(MILLISECOND));
        let took = sim.until(7 * SECOND, |sim| sim.in_use == Some(private()));
        assert!(took.is_some(), "{:?}; seed {seed}", sim.asked);
    }
}

#[test]
fn after_a_move_what_was_measured_before_decides_no_longer() {
    for traffic in [Traffic::None, Traffic::Both] {
        let seed = rand::random();
        let mut sim = of_one_price(seed, traffic);
        sim.run(120 * SECOND);
        assert_eq!(sim.in_use, Some(other_private()), "seed {seed}");
        sim.lines.insert(private(), fair(MILLISECOND));
        sim.lines.insert(other_private(), fair(30 * MILLISECOND));
        sim.prober.moved(sim.now);
        let took = sim.until(7 * SECOND, |sim| sim.in_use == Some(private()));
        assert!(took.is_some(), "seed {seed}");
    }
}

#[test]
fn of_endpoints_that_are_silent_the_one_where_the_peer_is_heard_is_used() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    sim.lines = BTreeMap::from([private(), public()].map(|endpoint| (endpoint, dead(SECOND))));
    sim.run(60 * SECOND);
    let heard = [private(), public()].into_iter().find(|endpoint| sim.in_use != Some(*endpoint)).expect("two");
    sim.prober.note(sim.now, sim.id, Activity { has_traffic: true, unanswered: None, elsewhere: Some(heard) });
    sim.run(SECOND);
    assert_eq!(sim.in_use, Some(heard), "seed {seed}");
}

#[test]
fn what_ranks_first_is_used_soon_after_the_last_answer() {
    for _ in 0..200 {
        let seed = rand::random();
        let mut sim = of_one_price(seed, Traffic::None);
        for _ in 0..10 {
            for endpoint in [private(), other_private()] {
                let rtt = MILLISECOND.mul_f64(1.0 + 60.0 * sim.rng.random::<f64>());
                sim.lines.insert(endpoint, fair(rtt));
            }
            sim.run(600 * MILLISECOND);
        }
        sim.run(6 * SECOND);
        let ranked = sim.prober.peers[&sim.id].ranked();
        let first = ranked.iter().find(|ranked| ranked.rank.is_some()).map(|ranked| ranked.candidate.endpoint.address);
        assert_eq!(sim.in_use, first, "seed {seed}");
    }
}

#[test]
fn a_machine_that_stood_still_does_not_blame_the_path() {
    let (seed, mut sim) = Sim::settled([fair(10 * MILLISECOND), fair(20 * MILLISECOND)]);
    sim.switches.clear();
    for _ in 0..20 {
        let phase = sim.rng.random::<f64>();
        sim.run(SECOND.mul_f64(1.0 + phase));
        // Everything that was under way is lost.
        sim.flying.clear();
        sim.now += 5 * SECOND;
    }
    assert_eq!(sim.switches, [], "seed {seed}");
}
