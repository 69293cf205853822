//! Candidates in their places. What the policy rules out goes last, before it what has to answer first; the others are in
//! the order of the rule type.

use std::time::Duration;

use super::{
    Candidate, Measurements, Policy, Reach, Reason, Route, Unfit,
    order::{Order, margin_rtt},
};
use crate::{RuleType, word::words};

/// What can be done with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateState {
    /// Packets go there.
    InUse,
    /// Packets may go there.
    Usable,
    /// It answers, and has not yet proved that it will stay.
    Proving,
    /// Only probes go there until it has answered.
    Unproved,
    /// It does not answer, and stays behind those that do.
    Silent,
    /// No packet goes there.
    Excluded,
}

words!(CandidateState {
    InUse = "in use",
    Usable = "usable",
    Proving = "proving",
    Unproved = "unproved",
    Silent = "silent",
    Excluded = "excluded",
});

/// A candidate in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    pub candidate: Candidate,
    /// From 1; none if no packet may go there now.
    pub rank: Option<u32>,
    pub state: CandidateState,
    /// Why it stands where it stands; a sentence without its full stop.
    pub reason: Reason,
}

impl Ranked {
    /// Whether measuring it may change its place: it is probed, also if it may not be used now.
    pub fn is_worth_probing(&self) -> bool {
        matches!(self.candidate.route, Ok(_) | Err(Unfit::Slow { .. }))
    }
}

/// Puts candidates in order, best first, then those that have to answer first, then the excluded ones. Whoever has rank 1
/// is to be used. The order depends on nothing but the arguments, and using what it puts first does not change it.
pub fn rank(policy: &Policy, mut candidates: Vec<Candidate>, seen: &Measurements) -> Vec<Ranked> {
    candidates.sort_by_key(|candidate| candidate.endpoint.address);
    let candidates = candidates.into_iter().map(|candidate| restrict(policy, candidate, seen));
    let (fit, excluded): (Vec<_>, Vec<_>) = candidates.partition(|candidate| candidate.route.is_ok());
    let (unproved, usable): (Vec<_>, Vec<_>) = fit.into_iter().partition(|candidate| lacks_proof(candidate, seen));
    let ranked = Order::of(policy, usable, seen).into_reasoned().zip(1..).map(|((candidate, reason), place)| Ranked {
        state: state(&candidate, seen),
        candidate,
        rank: Some(place),
        reason,
    });
    let unproved = unproved.into_iter().map(|candidate| {
        let reach = seen.reach(candidate.endpoint.address);
        let state = if reach == Reach::Silent { CandidateState::Silent } else { CandidateState::Unproved };
        Ranked { candidate, rank: None, state, reason: Reason::Unproved(reach) }
    });
    let excluded = excluded.into_iter().filter_map(|candidate| {
        let reason = Reason::Excluded(candidate.route.clone().err()?);
        Some(Ranked { candidate, rank: None, state: CandidateState::Excluded, reason })
    });
    ranked.chain(unproved).chain(excluded).collect()
}

/// What the rule `basic` of cb-network takes of the same candidates: a public address, whatever it costs and whether or not
/// it answers.
pub fn ancestor(candidates: Vec<Candidate>) -> Option<Candidate> {
    let ranked = rank(&Policy::new(RuleType::Basic), candidates, &Measurements::default());
    ranked.into_iter().find(|ranked| ranked.rank == Some(1)).map(|ranked| ranked.candidate)
}

fn restrict(policy: &Policy, candidate: Candidate, seen: &Measurements) -> Candidate {
    match candidate.route.is_ok().then(|| objection(policy, &candidate, seen)).flatten() {
        Some(unfit) => Candidate { route: Err(unfit), ..candidate },
        None => candidate,
    }
}

/// What the policy has against a candidate.
fn objection(policy: &Policy, candidate: &Candidate, seen: &Measurements) -> Option<Unfit> {
    let (scope, address, by) = (candidate.endpoint.scope, candidate.endpoint.address, &policy.authors);
    let is_private = matches!(candidate.route, Ok(Route::Vpc | Route::Peered));
    if policy.rule_type == RuleType::Basic && is_private {
        return Some(Unfit::RuleType { by: by.rule_type.clone() });
    }
    if policy.limits.forbids(scope) {
        return Some(Unfit::Forbidden { scope, by: by.forbid.clone() });
    }
    let by_price = || by.max_price_per_gb.clone();
    match (policy.limits.max_price_per_gb, candidate.price) {
        (Some(limit), None) => return Some(Unfit::Unpriced { limit, by: by_price() }),
        (Some(limit), Some(price)) if price > limit => return Some(Unfit::Dear { price, limit, by: by_price() }),
        _ => {}
    }
    let (limit, rtt) = policy.limits.max_rtt.zip(seen.rtt(address))?;
    let tolerance = if seen.in_use == Some(address) { margin_rtt(limit) } else { Duration::ZERO };
    (rtt > limit + tolerance).then(|| Unfit::Slow { rtt, limit, by: by.max_rtt.clone() })
}

fn lacks_proof(candidate: &Candidate, seen: &Measurements) -> bool {
    let needs_proof = candidate.route.as_ref().is_ok_and(|route| route.needs_proof());
    needs_proof && !matches!(seen.reach(candidate.endpoint.address), Reach::Answers | Reach::Proving)
}

fn state(candidate: &Candidate, seen: &Measurements) -> CandidateState {
    let address = candidate.endpoint.address;
    match seen.reach(address) {
        _ if seen.in_use == Some(address) => CandidateState::InUse,
        Reach::Silent => CandidateState::Silent,
        Reach::Proving => CandidateState::Proving,
        Reach::Answers | Reach::Untried => CandidateState::Usable,
    }
}
