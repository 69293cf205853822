//! Measuring the paths to every peer and choosing among them: whom to ask when, which endpoint is dead, which is used.
//! Pure: time and what was seen come in, requests and choices go out. Who ranks is `model`; who sends is `device`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cladnet_model::path::{Health, Measurements};
use cladnet_tunnel::{Activity, InterfaceId, PublicKey, Sighting, Urgency};

use crate::paths::Pair;

mod candidate;
mod estimate;
mod lane;
mod peer;
mod rate;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
#[cfg(test)]
mod tests;

pub(crate) use candidate::State;

use candidate::Candidate;
use lane::Lane;
use peer::{Pace, PeerPaths};

/// Requests to pairs with traffic, and after events that put many paths in question.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);
const BUSY_BURST: u32 = 64;
/// Requests to pairs without: two a second for all of them together. Each is answered, and each peer asks as well, so
/// that this host sends no more than four.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);
const IDLE_BURST: u32 = 4;
/// How much the time between two requests varies, so that hosts do not ask in step.
const JITTER: f64 = 0.2;
/// Who is so late was not running, and what it did not hear in that time says nothing.
const STOOD_STILL: Duration = Duration::from_millis(400);

/// A peer of one interface.
pub(crate) type PeerId = (InterfaceId, PublicKey);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Ask {
        peer: PeerId,
        endpoint: SocketAddr,
        urgency: Urgency,
    },
    /// Use this endpoint, or none, from now on.
    Steer {
        peer: PeerId,
        from: Option<SocketAddr>,
        to: Option<SocketAddr>,
    },
}

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) endpoint: SocketAddr,
    pub(crate) state: State,
    pub(crate) rtt: Option<Duration>,
    pub(crate) loss_permille: u16,
    /// How long ago its last answer came.
    pub(crate) answered: Option<Duration>,
}

/// What is known of the paths to one peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    /// The inputs of the ranking.
    pub(crate) seen: Measurements,
    /// Endpoints that nobody told of.
    pub(crate) observed: Vec<SocketAddr>,
    pub(crate) probed: Vec<Probed>,
}

impl Measured {
    /// Whether every endpoint was tried and none answers.
    pub(crate) fn is_silent(&self) -> bool {
        !self.probed.is_empty() && self.probed.iter().all(|probed| probed.state == State::Silent)
    }
}

/// Since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// How often another endpoint was taken into use.
    pub(crate) steered: u64,
}

/// See the module.
pub(crate) struct Prober {
    peers: BTreeMap<PeerId, PeerPaths>,
    /// When each has something to do.
    schedule: BTreeSet<(Instant, PeerId)>,
    scheduled: BTreeMap<PeerId, Instant>,
    busy: Lane,
    idle: Lane,
    /// When it wanted to be called.
    expected: Option<Instant>,
    /// Yields numbers from 0 to 1.
    random: Box<dyn FnMut() -> f64 + Send>,
    counts: Counts,
}

impl Prober {
    pub(crate) fn new(now: Instant, random: impl FnMut() -> f64 + Send + 'static) -> Self {
        Self {
            peers: BTreeMap::new(),
            schedule: BTreeSet::new(),
            scheduled: BTreeMap::new(),
            busy: Lane::new(now, BUSY_INTERVAL, BUSY_BURST),
            idle: Lane::new(now, IDLE_INTERVAL, IDLE_BURST),
            expected: None,
            random: Box::new(random),
            counts: Counts::default(),
        }
    }

    /// The peers of an interface that are to be probed, and between what to choose; others are forgotten.
    pub(crate) fn set_peers(&mut self, now: Instant, interface: InterfaceId, pairs: BTreeMap<PublicKey, Pair>) {
        let gone: Vec<_> = self.of(interface).map(|(id, _)| *id).filter(|(_, key)| !pairs.contains_key(key)).collect();
        for id in gone {
            self.peers.remove(&id);
            self.schedule_at(id, None);
        }
        for (key, pair) in pairs {
            let id = (interface, key);
            match self.peers.get_mut(&id) {
                Some(peer) if *peer.pair() == pair => continue,
                Some(peer) => peer.set_pair(now, pair),
                None => drop(self.peers.insert(id, PeerPaths::new(now, pair))),
            }
            self.schedule_at(id, Some(now));
        }
    }

    /// An address of ours has changed, or this machine stood still: every path is another one.
    pub(crate) fn moved(&mut self, now: Instant) {
        let all: Vec<_> = self.peers.keys().copied().collect();
        for id in all {
            self.with(now, id, |peer| peer.moved(now));
        }
    }

    pub(crate) fn note(&mut self, now: Instant, id: PeerId, activity: Activity) {
        self.with(now, id, |peer| peer.note(now, activity));
    }

    pub(crate) fn sighted(&mut self, now: Instant, id: PeerId, sighting: Sighting) {
        match sighting {
            Sighting::Answer { endpoint, asked_at, .. } => {
                let mut is_ours = false;
                self.with(now, id, |peer| is_ours = peer.answered(now, endpoint, asked_at));
                self.counts.answered += u64::from(is_ours);
            }
            Sighting::Request { from, is_alarm } => self.with(now, id, |peer| peer.asked_by(now, from, is_alarm)),
        }
    }

    /// What is to be done now. To be called when [`Prober::wake_at`] has come, and after everything that was told.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Action> {
        if self.expected.is_some_and(|expected| now.saturating_duration_since(expected) > STOOD_STILL) {
            self.peers.values_mut().for_each(PeerPaths::forget_pending);
        }
        let mut actions = Vec::new();
        while let Some((_, id)) = self.schedule.first().copied().filter(|(at, _)| *at <= now) {
            self.serve(now, id, &mut actions);
        }
        for pace in [Pace::Busy, Pace::Idle] {
            while let Some(id) = self.lane(pace).next(now) {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.is_waiting = false;
                    self.serve(now, id, &mut actions);
                }
            }
        }
        actions
    }

    /// When to call [`Prober::poll`] next.
    pub(crate) fn wake_at(&mut self) -> Option<Instant> {
        let scheduled = self.schedule.first().map(|(at, _)| *at);
        self.expected = [scheduled, self.busy.due_at(), self.idle.due_at()].into_iter().flatten().min();
        self.expected
    }

    /// What is known of the peers of an interface.
    pub(crate) fn measured(&self, now: Instant, interface: InterfaceId) -> BTreeMap<PublicKey, Measured> {
        let measured = |peer: &PeerPaths| Measured {
            seen: peer.measurements(),
            observed: peer.observed().to_vec(),
            probed: peer.probed(now),
        };
        self.of(interface).map(|((_, key), peer)| (*key, measured(peer))).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn of(&self, interface: InterfaceId) -> impl Iterator<Item = (&PeerId, &PeerPaths)> {
        self.peers.iter().filter(move |((of, _), _)| *of == interface)
    }

    /// Judges, chooses, and asks what the budget allows.
    fn serve(&mut self, now: Instant, id: PeerId, actions: &mut Vec<Action>) {
        let Some(mut peer) = self.peers.remove(&id) else { return self.schedule_at(id, None) };
        peer.judge(now);
        if let Some((from, to)) = peer.settle(now) {
            self.counts.steered += u64::from(from.is_some());
            actions.push(Action::Steer { peer: id, from, to });
        }
        while let Some((endpoint, urgency, pace)) = peer.due(now).filter(|_| !peer.is_waiting) {
            if !self.lane(pace).take(now) {
                peer.is_waiting = true;
                self.lane(pace).wait(id);
                break;
            }
            let jitter = 1.0 + JITTER * (2.0 * (self.random)() - 1.0);
            peer.asked(now, endpoint, jitter);
            self.counts.asked += 1;
            actions.push(Action::Ask { peer: id, endpoint, urgency });
        }
        let wake_at = peer.wake_at(now);
        self.peers.insert(id, peer);
        self.schedule_at(id, wake_at);
    }

    /// Tells a peer something, after which it is looked at.
    fn with(&mut self, now: Instant, id: PeerId, tell: impl FnOnce(&mut PeerPaths)) {
        if let Some(peer) = self.peers.get_mut(&id) {
            tell(peer);
            self.schedule_at(id, Some(now));
        }
    }

    fn lane(&mut self, pace: Pace) -> &mut Lane {
        match pace {
            Pace::Busy => &mut self.busy,
            Pace::Idle => &mut self.idle,
        }
    }

    fn schedule_at(&mut self, id: PeerId, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.scheduled.insert(id, at),
            None => self.scheduled.remove(&id),
        };
        if let Some(before) = before {
            self.schedule.remove(&(before, id));
        }
        self.schedule.extend(at.map(|at| (at, id)));
    }
}

/// What the ranking is told of an endpoint; nothing of one that was never tried.
fn health(candidate: &Candidate, is_fresh: bool) -> Option<Health> {
    let (rtt, loss_permille) = (candidate.rtt(), candidate.loss_permille());
    match candidate.state() {
        State::Answers if is_fresh => rtt.map(|rtt| Health::Answers { rtt, loss_permille }),
        State::Answers | State::Proving => rtt.map(|rtt| Health::Proving { rtt, loss_permille }),
        State::Silent => Some(Health::Silent),
        State::Untried => None,
    }
}
