//! A host and peers that answer whatever they are asked, in virtual time: what probing takes. For tests and benchmarks.

#![cfg_attr(not(feature = "simulation"), expect(unreachable_pub, reason = "tests need no door, benchmarks have one"))]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use cladnet_model::{
    CloudLocation, Endpoint, EndpointSource, Located, LocationSource, RuleType, Scope, path::Policy, tariff::Book,
};
use cladnet_tunnel::{
    Activity, Epoch, Implementation, InterfaceConfig, InterfaceId, PrivateKey, PublicKey, Sighting, Tunnel,
};
use jiff::civil::date;
use rand::{rand_core::UnwrapErr, rngs::SysRng};

use super::{Action, PeerId, Prober};
use crate::paths::{Pair, Prices, Side};

/// How often a host looks at the packets of its peers.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
const RTT: Duration = Duration::from_millis(10);
/// What is asked of peers that are new is not what is asked for ever.
const SETTLED: Duration = Duration::from_secs(120);

/// Whether packets pass between the host and its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    Idle,
    /// All the time and with every peer; all of them are answered.
    Busy,
}

/// How many requests a second a host sends to so many peers, each with a private and a public address: the mean of a
/// time that begins when they have been known for two minutes.
pub fn requests_per_second(peers: u32, load: Load, time: Duration) -> f64 {
    let mut host = Host::new(peers, load);
    host.run(SETTLED);
    let before = host.prober.counts().asked;
    host.run(time);
    (host.prober.counts().asked - before) as f64 / time.as_secs_f64()
}

struct Host {
    prober: Prober,
    peers: Vec<PeerId>,
    load: Load,
    now: Instant,
    look_at: Instant,
    /// Who will have answered what it was asked when.
    answers: BTreeMap<Instant, Vec<(PeerId, SocketAddr, Instant)>>,
}

impl Host {
    fn new(peers: u32, load: Load) -> Self {
        let (now, interface) = (Instant::now(), interface());
        let pairs: BTreeMap<_, _> = (0..peers).map(|number| (key(number), pair(&[private(), public()]))).collect();
        let peers = pairs.keys().map(|key| (interface, *key)).collect();
        let mut prober = Prober::new(now, rand::random);
        prober.set_peers(now, interface, pairs);
        Self { prober, peers, load, now, look_at: now, answers: BTreeMap::new() }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.look();
            for action in self.prober.poll(self.now) {
                if let Action::Ask { peer, endpoint, .. } = action {
                    self.answers.entry(self.now + RTT).or_default().push((peer, endpoint, self.now));
                }
            }
            let answer_at = self.answers.keys().next().copied();
            let next = [answer_at, self.prober.wake_at(), Some(self.look_at)].into_iter().flatten().min();
            self.now = next.unwrap_or(end).max(self.now);
            for (peer, endpoint, asked_at) in self.answers.remove(&self.now).unwrap_or_default() {
                self.prober.sighted(self.now, peer, Sighting::Answer { endpoint, asked_at, mapped: endpoint });
            }
        }
    }

    fn look(&mut self) {
        if self.now < self.look_at {
            return;
        }
        self.look_at = self.now + LOOK_EVERY;
        if self.load == Load::Busy {
            let activity = Activity { has_traffic: true, unanswered: None, elsewhere: None };
            self.peers.iter().for_each(|peer| self.prober.note(self.now, *peer, activity));
        }
    }
}

pub(super) fn private() -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 2], 8055))
}

pub(super) fn public() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 2], 8055))
}

pub(super) fn interface() -> InterfaceId {
    let now = Instant::now();
    let tunnel = Tunnel::new(Implementation::Own, Epoch::new(now, SystemTime::now()), UnwrapErr(SysRng));
    let private_key = PrivateKey::generate(&mut rand::rng());
    let config = InterfaceConfig { private_key, network: None, mtu: 1420, peers: vec![] };
    tunnel.add_interface(now, &config).expect("the first interface has room").0
}

pub(super) fn key(number: u32) -> PublicKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

/// A remote host at these endpoints, in our VPC.
pub(super) fn pair(theirs: &[SocketAddr]) -> Pair {
    let ours = side(&[SocketAddr::from(([10, 0, 1, 1], 8055)), SocketAddr::from(([203, 0, 113, 1], 8055))]);
    let prices = Prices { book: Book::shipped(), on: date(2026, 11, 20) };
    Pair { policy: Policy::new(RuleType::CostPrioritized), prices, ours: ours.into(), theirs: side(theirs) }
}

fn side(endpoints: &[SocketAddr]) -> Side {
    let located = |value: &str| Some(Located { value: value.into(), source: LocationSource::Metadata });
    let location = CloudLocation {
        provider: located("aws"),
        account: located("1"),
        region: located("ap-northeast-2"),
        vpc: located("vpc-1"),
        ..CloudLocation::default()
    };
    let scope =
        |address: &SocketAddr| if address.to_string().starts_with("10.") { Scope::Private } else { Scope::Public };
    let endpoint =
        |address: &SocketAddr| Endpoint { address: *address, scope: scope(address), source: EndpointSource::Interface };
    let host = "host-a".parse().expect("a valid id");
    Side { host, location, endpoints: endpoints.iter().map(endpoint).collect() }
}
