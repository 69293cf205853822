//! One peer: which of its endpoints to ask when, when to doubt the one in use, and which to use. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cladnet_model::path::{Measurements, Ranked};
use cladnet_tunnel::{Activity, Urgency};

use super::candidate::{Candidate, State};
use super::rate::Rate;
use super::{Probed, health};
use crate::paths::Pair;

/// Packets that nothing answers for so long put the path in doubt; see [`PeerPaths::doubt_after`].
pub(super) const DOUBT_AFTER: Duration = Duration::from_millis(500);
/// Between two requests to an endpoint in doubt.
const CHECK_EVERY: Duration = Duration::from_millis(35);
/// The same if it was the peer that noticed: it has waited for us already.
const CHECK_EVERY_IF_TOLD: Duration = Duration::from_millis(20);
/// The same while packets are answered: a flood of our own delays requests and loses them, and the path works.
const CHECK_EVERY_BESIDE_PACKETS: Duration = Duration::from_millis(200);
/// So many in a row must be lost before it is left; more where losses are usual, or packets are answered.
const CHECKS: u32 = 10;
const CHECKS_IF_LOSSY: u32 = 14;
const LOSSY_PERMILLE: u16 = 100;
/// After so many, the alternatives are asked too, also those that answered a moment ago.
const CHECKS_ALONE: u32 = 4;
const ALTERNATIVE_CHECK_EVERY: Duration = Duration::from_millis(200);

/// A pair with traffic asks its path and, seldom, the others; these as often until their round trip is known for sure.
const ASK_IN_USE: Duration = Duration::from_secs(1);
const ASK_ALTERNATIVE: Duration = Duration::from_secs(15);
/// Where a request was lost, or none was sent before.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// An alternative that lost so many in a row is silent.
const MISSES: u32 = 4;
/// What is silent is asked less and less often; while something comes from there, as often as at first.
const ASK_SILENT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// One that never answered is nobody's, as likely as not.
const ASK_NEVER_HEARD: Duration = Duration::from_secs(30);
const ASK_PROVING: Duration = Duration::from_secs(1);
/// A pair without traffic.
const ASK_IDLE: Duration = Duration::from_secs(300);
const ASK_IDLE_ALTERNATIVE: Duration = Duration::from_secs(900);

/// A pair counts as having traffic so long after the last packet.
const BUSY_FOR: Duration = Duration::from_secs(10);
/// And so long after an event that puts its paths in question.
const LIVELY_FOR: Duration = Duration::from_secs(5);
/// What was measured before is looked at again when the traffic of a pair begins.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// Rankings by round trip need not follow every answer.
const RANK_EVERY: Duration = Duration::from_secs(5);
/// Endpoints that nobody told of but where the peer was heard.
const MAX_OBSERVED: usize = 4;

/// Requests to endpoints of a peer that have never answered: it may name whom it likes, and nobody is to be flooded for
/// that. At once as many as a host may tell of itself, then two a second, as for all idle peers together.
const UNHEARD_INTERVAL: Duration = Duration::from_millis(500);
const UNHEARD_BURST: u32 = 16;
/// All requests to a peer. An endpoint in doubt gets some thirty in a second, beside those to its alternatives; more takes
/// from what is there for the other peers.
const PEER_INTERVAL: Duration = Duration::from_millis(20);
const PEER_BURST: u32 = 64;

/// Whose budget a request is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Busy,
    Idle,
}

/// What puts the endpoint in use in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// Nothing answers our packets.
    Packets,
    /// It does not answer a request.
    Request,
    /// The peer doubts its own.
    Peer,
}

/// The endpoint in use is in doubt.
#[derive(Debug, Clone, Copy)]
struct Check {
    since: Instant,
    asked: u32,
    /// Whether losses were usual before.
    is_lossy: bool,
    are_packets_lost: bool,
    /// Whether it was the peer that noticed.
    is_told: bool,
}

impl Check {
    /// How many requests in a row must be lost.
    fn limit(self) -> u32 {
        if self.is_lossy || !self.are_packets_lost { CHECKS_IF_LOSSY } else { CHECKS }
    }

    fn every(self) -> Duration {
        match (self.are_packets_lost, self.is_told) {
            (true, true) => CHECK_EVERY_IF_TOLD,
            (true, false) => CHECK_EVERY,
            (false, _) => CHECK_EVERY_BESIDE_PACKETS,
        }
    }

    /// The peer is told that packets are lost, unless it was the one who noticed. The first request may be answered in
    /// time.
    fn urgency(self) -> Urgency {
        if self.are_packets_lost && !self.is_told && self.asked > 1 { Urgency::Alarm } else { Urgency::Routine }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct PeerPaths {
    pair: Pair,
    candidates: BTreeMap<SocketAddr, Candidate>,
    observed: Vec<SocketAddr>,
    in_use: Option<SocketAddr>,
    busy_until: Instant,
    check: Option<Check>,
    /// Where it was heard beside the endpoint in use.
    elsewhere: Option<SocketAddr>,
    /// When to rank anew; nothing if no answer came and nothing else changed since it was done.
    rank_at: Option<Instant>,
    ranked_at: Instant,
    /// What may be asked where it has never answered, and anywhere.
    unheard: Rate,
    all: Rate,
    pub(super) is_waiting: bool,
}

impl PeerPaths {
    pub(super) fn new(now: Instant, pair: Pair) -> Self {
        let mut peer = Self {
            pair,
            candidates: BTreeMap::new(),
            observed: Vec::new(),
            in_use: None,
            busy_until: now + LIVELY_FOR,
            check: None,
            elsewhere: None,
            rank_at: None,
            ranked_at: now,
            unheard: Rate::new(now, UNHEARD_INTERVAL, UNHEARD_BURST),
            all: Rate::new(now, PEER_INTERVAL, PEER_BURST),
            is_waiting: false,
        };
        peer.take_candidates(now);
        peer
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Takes what is told of the two now. Their addresses have changed, perhaps: all that there are are asked.
    pub(super) fn set_pair(&mut self, now: Instant, pair: Pair) {
        let is_same_place = self.pair.is_same_place(&pair);
        self.pair = pair;
        self.take_candidates(now);
        if !is_same_place {
            self.hurry(now);
        }
    }

    /// We are elsewhere, or may be.
    pub(super) fn moved(&mut self, now: Instant) {
        self.check = None;
        self.candidates.values_mut().for_each(|candidate| candidate.moved(now));
        self.hurry(now);
    }

    /// Takes what the data threads noted.
    pub(super) fn note(&mut self, now: Instant, activity: Activity) {
        if activity.has_traffic {
            if self.busy_until < now {
                self.refresh(now);
            }
            self.busy_until = self.busy_until.max(now + BUSY_FOR);
        }
        if activity.unanswered.is_some_and(|unanswered| unanswered >= self.doubt_after()) {
            self.doubt(now, Evidence::Packets);
        }
        if let Some(from) = activity.elsewhere.filter(|from| self.elsewhere != Some(*from)) {
            self.elsewhere = Some(from);
            self.see_at(now, from);
            self.hurry(now);
            self.plan_ranking(now);
        }
    }

    /// The peer asked us from there.
    pub(super) fn asked_by(&mut self, now: Instant, from: SocketAddr, is_alarm: bool) {
        if self.candidates.get(&from).is_none_or(|candidate| candidate.state() != State::Answers) {
            self.see_at(now, from);
        }
        if is_alarm {
            self.busy_until = self.busy_until.max(now + LIVELY_FOR);
            self.doubt(now, Evidence::Peer);
        }
    }

    pub(super) fn answered(&mut self, now: Instant, endpoint: SocketAddr, asked_at: Instant) -> bool {
        let Some(candidate) = self.candidates.get_mut(&endpoint) else { return false };
        let before = candidate.state();
        if !candidate.take_answer(now, asked_at) {
            return false;
        }
        let changed = before != candidate.state();
        if self.in_use == Some(endpoint) {
            self.check = None;
        }
        self.plan_ranking(if changed { now } else { now.max(self.ranked_at + RANK_EVERY) });
        true
    }

    /// Nothing that is under way tells anything: this machine stood still.
    pub(super) fn forget_pending(&mut self) {
        self.check = None;
        self.candidates.values_mut().for_each(Candidate::forget_pending);
    }

    /// Judges what is overdue.
    pub(super) fn judge(&mut self, now: Instant) {
        let (in_use, checks) = (self.in_use, self.check.map_or(CHECKS_IF_LOSSY, Check::limit));
        let (mut is_missed, mut changed) = (false, false);
        for (address, candidate) in &mut self.candidates {
            let (before, missed) = (candidate.state(), candidate.missed);
            let is_in_use = in_use == Some(*address);
            let limit = if is_in_use && before != State::Untried { checks } else { MISSES };
            candidate.judge(now, limit);
            changed |= before != candidate.state();
            is_missed |= is_in_use && candidate.missed > missed;
        }
        if changed {
            self.plan_ranking(now);
            self.forget_observed(now);
        }
        if is_missed {
            self.doubt(now, Evidence::Request);
        }
        let in_use = in_use.and_then(|in_use| self.candidates.get(&in_use));
        if in_use.is_none_or(|candidate| candidate.state() == State::Silent) {
            self.check = None;
        }
    }

    /// What to ask now, and on whose budget. The endpoint in use comes first, then what is new, as budgets may not suffice
    /// for all.
    pub(super) fn due(&self, now: Instant) -> Option<(SocketAddr, Urgency, Pace)> {
        let is_due = |(address, candidate): &(&SocketAddr, &Candidate)| {
            self.due_at(now, **address, candidate).is_some_and(|at| at <= now)
        };
        let order = |(address, candidate): &(&SocketAddr, &Candidate)| {
            (self.in_use != Some(**address), candidate.state() == State::Silent, candidate.asked_at)
        };
        let (address, _) = self.candidates.iter().filter(is_due).min_by_key(order)?;
        let urgency = self.check.map_or(Urgency::Routine, Check::urgency);
        Some((*address, urgency, self.pace(now)))
    }

    pub(super) fn asked(&mut self, now: Instant, endpoint: SocketAddr, jitter: f64) {
        self.all.take(now);
        if let Some(candidate) = self.candidates.get_mut(&endpoint) {
            if candidate.rtt().is_none() {
                self.unheard.take(now);
            }
            candidate.asked(now, jitter);
        }
        if let Some(check) = self.check.as_mut().filter(|_| self.in_use == Some(endpoint)) {
            check.asked += 1;
        }
    }

    /// When there is something to do next.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let times = self.candidates.iter().flat_map(|(address, candidate)| {
            let asked_next = self.due_at(now, *address, candidate).filter(|_| !self.is_waiting);
            [asked_next, candidate.judged_at()]
        });
        times.flatten().chain(self.ranks_at()).min()
    }

    /// Ranks anew if something has changed; `Some` if another endpoint is to be used, or none: from where, to where.
    pub(super) fn settle(&mut self, now: Instant) -> Option<(Option<SocketAddr>, Option<SocketAddr>)> {
        self.ranks_at().filter(|at| *at <= now)?;
        (self.rank_at, self.ranked_at) = (None, now);
        let best = self.ranked().into_iter().find(|ranked| ranked.rank.is_some());
        let best = best.map(|ranked| ranked.candidate.endpoint.address);
        if best == self.in_use {
            return None;
        }
        let left = std::mem::replace(&mut self.in_use, best);
        self.check = None;
        self.elsewhere = None;
        self.note_relapse(now, left, best);
        self.forget_observed(now);
        Some((left, best))
    }

    /// The inputs of the ranking.
    pub(super) fn measurements(&self) -> Measurements {
        let failed = self.in_use.and_then(|in_use| self.candidates.get(&in_use)).and_then(Candidate::failed_since);
        let is_any_alive = self.candidates.values().any(|it| matches!(it.state(), State::Answers | State::Proving));
        let seen = self.candidates.iter().filter_map(|(address, candidate)| {
            // What answered before the one in use failed may have failed with it.
            let is_fresh = failed.is_none_or(|since| candidate.has_answered_since(since));
            // If nothing answers, where it was heard last is the best guess, as WireGuard has it.
            let is_last_resort = !is_any_alive && self.elsewhere == Some(*address);
            Some((*address, health(candidate, is_fresh).filter(|_| !is_last_resort)?))
        });
        Measurements { in_use: self.in_use, health: seen.collect() }
    }

    pub(super) fn ranked(&self) -> Vec<Ranked> {
        self.pair.rank(&self.observed, &self.measurements())
    }

    pub(super) fn observed(&self) -> &[SocketAddr] {
        &self.observed
    }

    pub(super) fn probed(&self, now: Instant) -> Vec<Probed> {
        let of = |(address, candidate): (&SocketAddr, &Candidate)| Probed {
            endpoint: *address,
            state: candidate.state(),
            rtt: candidate.rtt(),
            loss_permille: candidate.loss_permille(),
            answered: candidate.answered_at.map(|at| now.saturating_duration_since(at)),
        };
        self.candidates.iter().map(of).collect()
    }

    /// Takes what is worth asking: endpoints that no packet may go to are left alone.
    fn take_candidates(&mut self, now: Instant) {
        let ranked = self.ranked();
        let fit = ranked.iter().filter(|ranked| ranked.is_worth_probing());
        let wanted: Vec<_> = fit.map(|ranked| ranked.candidate.endpoint.address).collect();
        self.candidates.retain(|address, _| wanted.contains(address));
        for address in wanted {
            self.candidates.entry(address).or_insert_with(|| Candidate::new(now));
        }
        self.plan_ranking(now);
    }

    /// Something was learnt that is to be ranked at that time, or before.
    fn plan_ranking(&mut self, at: Instant) {
        self.rank_at = Some(self.rank_at.map_or(at, |planned| planned.min(at)));
    }

    /// An endpoint that nobody told of is a candidate for as long as it answers.
    fn forget_observed(&mut self, now: Instant) {
        let before = self.observed.len();
        let (candidates, kept) = (&self.candidates, [self.in_use, self.elsewhere]);
        let is_silent = |address: &SocketAddr| candidates.get(address).is_some_and(|it| it.state() == State::Silent);
        self.observed.retain(|address| kept.contains(&Some(*address)) || !is_silent(address));
        if self.observed.len() < before {
            self.take_candidates(now);
        }
    }

    /// Something authentic came from there.
    fn see_at(&mut self, now: Instant, from: SocketAddr) {
        self.busy_until = self.busy_until.max(now + LIVELY_FOR);
        if !self.candidates.contains_key(&from) && !self.observed.contains(&from) {
            if self.observed.len() == MAX_OBSERVED {
                let unused = self.observed.iter().position(|address| self.in_use != Some(*address));
                self.observed.remove(unused.unwrap_or(0));
            }
            self.observed.push(from);
            self.take_candidates(now);
        }
        // Not at once if it was asked a moment ago: two ends that both hear no answer would ask each other without end.
        if let Some(candidate) = self.candidates.get_mut(&from) {
            candidate.is_heard = true;
        }
    }

    /// Has every endpoint asked at once.
    fn hurry(&mut self, now: Instant) {
        self.busy_until = self.busy_until.max(now + LIVELY_FOR);
        self.candidates.values_mut().for_each(|candidate| candidate.is_urgent = true);
    }

    /// Traffic begins: what is known may be old.
    fn refresh(&mut self, now: Instant) {
        for candidate in self.candidates.values_mut() {
            let is_fresh = |at: Instant| now.saturating_duration_since(at) < STALE_AFTER;
            candidate.is_urgent |= !candidate.asked_at.is_some_and(is_fresh);
        }
    }

    /// Begins to check the endpoint in use, unless that is under way or it has answered just now.
    fn doubt(&mut self, now: Instant, evidence: Evidence) {
        let candidate = self.in_use.and_then(|in_use| self.candidates.get(&in_use));
        let Some(candidate) = candidate.filter(|candidate| candidate.state() != State::Silent) else { return };
        let has_just_answered = candidate.answered_at.is_some_and(|at| now.saturating_duration_since(at) < DOUBT_AFTER);
        let is_lossy = candidate.loss_permille() >= LOSSY_PERMILLE;
        match &mut self.check {
            Some(check) => {
                check.are_packets_lost |= evidence != Evidence::Request;
                check.is_told |= evidence == Evidence::Peer;
            }
            None if has_just_answered && candidate.missed == 0 => {}
            None => {
                let are_packets_lost = evidence != Evidence::Request;
                let is_told = evidence == Evidence::Peer;
                self.check = Some(Check { since: now, asked: 0, is_lossy, are_packets_lost, is_told });
            }
        }
    }

    /// How long packets may be without an answer: where the round trip is longer than usual, a quarter more than that.
    fn doubt_after(&self) -> Duration {
        let rtt = self.in_use.and_then(|in_use| self.candidates.get(&in_use)).and_then(Candidate::rtt);
        rtt.map_or(DOUBT_AFTER, |rtt| DOUBT_AFTER.max(rtt * 5 / 4))
    }

    fn pace(&self, now: Instant) -> Pace {
        if now < self.busy_until { Pace::Busy } else { Pace::Idle }
    }

    /// When to ask at an endpoint next, and may.
    fn due_at(&self, now: Instant, address: SocketAddr, candidate: &Candidate) -> Option<Instant> {
        let mut may_ask_at = self.all.ready_at();
        if candidate.rtt().is_none() {
            may_ask_at = may_ask_at.max(self.unheard.ready_at());
        }
        self.wanted_at(now, address, candidate).map(|at| at.max(may_ask_at))
    }

    fn wanted_at(&self, now: Instant, address: SocketAddr, candidate: &Candidate) -> Option<Instant> {
        let Some(asked_at) = candidate.asked_at.filter(|_| !candidate.is_urgent) else { return Some(now) };
        let is_in_use = self.in_use == Some(address);
        if let Some(check) = self.check {
            let check = if is_in_use {
                due_in_doubt(check, candidate, asked_at)
            } else {
                due_beside(check, candidate, asked_at)
            };
            if check.is_some() {
                return check;
            }
        }
        Some(asked_at + self.interval(now, is_in_use, candidate).mul_f64(candidate.jitter))
    }

    fn interval(&self, now: Instant, is_in_use: bool, candidate: &Candidate) -> Duration {
        let is_busy = self.pace(now) == Pace::Busy;
        match candidate.state() {
            State::Untried => ASK_AGAIN,
            State::Proving => ASK_PROVING,
            State::Answers if candidate.missed > 0 && !is_in_use => ASK_AGAIN,
            State::Answers if is_busy && (is_in_use || !candidate.is_rtt_sure()) => ASK_IN_USE,
            State::Answers if is_busy => ASK_ALTERNATIVE,
            State::Silent if candidate.is_heard => ASK_SILENT.0,
            State::Silent if is_busy => {
                let (first, most) = ASK_SILENT;
                let most = if candidate.rtt().is_some() { most } else { ASK_NEVER_HEARD };
                (first * (1 << candidate.missed.saturating_sub(MISSES).min(5))).min(most)
            }
            State::Answers | State::Silent if is_in_use => ASK_IDLE,
            State::Answers | State::Silent => ASK_IDLE_ALTERNATIVE,
        }
    }

    /// When to rank anew. Who answers first is not the best: the one in use gets its chance before it is judged.
    fn ranks_at(&self) -> Option<Instant> {
        let in_use = self.in_use.and_then(|in_use| self.candidates.get(&in_use));
        let is_untried = in_use.is_some_and(|candidate| candidate.state() == State::Untried);
        self.rank_at.filter(|_| !is_untried)
    }

    /// An endpoint that was left because it alone had failed is not trusted again at once.
    fn note_relapse(&mut self, now: Instant, left: Option<SocketAddr>, best: Option<SocketAddr>) {
        let Some((left, best)) = left.zip(best) else { return };
        let failed = match (self.candidates.get(&left), self.candidates.get(&best)) {
            (Some(left), Some(best)) => left.failed_beside(best),
            _ => false,
        };
        if let Some(left) = self.candidates.get_mut(&left).filter(|_| failed) {
            left.relapsed(now);
        }
    }
}

/// When the endpoint in use is asked because it is in doubt.
fn due_in_doubt(check: Check, candidate: &Candidate, asked_at: Instant) -> Option<Instant> {
    let wanted = check.limit().saturating_sub(candidate.missed + candidate.under_way());
    match check.asked {
        0 => Some(check.since),
        _ if wanted > 0 => Some(asked_at + check.every()),
        _ => None,
    }
}

/// When an alternative is asked because the endpoint in use is in doubt.
fn due_beside(check: Check, candidate: &Candidate, asked_at: Instant) -> Option<Instant> {
    let answered_since = |at: Instant| candidate.answered_at.is_some_and(|answered| answered >= at);
    let recently = check.since.checked_sub(ASK_SILENT.1).unwrap_or(check.since);
    let is_asked = asked_at >= check.since;
    match () {
        () if !is_asked && !answered_since(recently) => Some(check.since),
        () if check.asked >= CHECKS_ALONE && !answered_since(check.since) => Some(match is_asked {
            true => asked_at + ALTERNATIVE_CHECK_EVERY,
            false => check.since,
        }),
        () => None,
    }
}
