//! The order of the candidates that may be used: by the criteria of the rule type, one after another; then the one in use
//! keeps the first place unless another is better by a margin.

use std::{cmp::Ordering, net::SocketAddr, time::Duration};

use super::{Authors, Candidate, Grounds, Measurements, Policy, Reach, Reason, Route};
use crate::{EndpointSource, RuleType, tariff::Price};

/// A path is left for one that saves at least so much per GB, and at least a tenth.
const MARGIN_PRICE: Price = Price(5_000_000);
/// A path is left for one whose round trip is shorter by at least so much, and at least by a tenth.
const MARGIN_RTT: Duration = Duration::from_millis(2);
const MARGIN_PART: u32 = 10;
/// Round trips that differ by no more than this, or than a twentieth, count as equal. Half the margin, so that noise does
/// not carry a path over both.
const NEAR_RTT: Duration = Duration::from_millis(1);
const NEAR_PART: u32 = 20;

/// What candidates are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Criterion {
    /// What answers goes before what was never tried, and that before what is silent.
    Reach,
    /// The scope that the policy prefers.
    Preferred,
    /// A known price goes before one that is not known.
    Price,
    /// Price, round trip and loss as one sum of money; without a known price there is none.
    Score,
    /// Near ones count as equal; a measured one goes before one that was never measured.
    Rtt,
    /// What the route crosses.
    Route,
    /// Who knows of the endpoint.
    Source,
    /// So that two agents and an explanation agree.
    Address,
}

const MOST_CRITERIA: usize = 7;

/// What a rule type compares by, most important first.
fn criteria(rule: RuleType) -> [Criterion; MOST_CRITERIA] {
    use Criterion::{Address, Preferred, Price, Reach, Route, Rtt, Score, Source};
    match rule {
        RuleType::Basic => [Reach, Preferred, Route, Rtt, Price, Source, Address],
        RuleType::CostPrioritized => [Reach, Preferred, Price, Rtt, Route, Source, Address],
        RuleType::LatencyPrioritized => [Reach, Preferred, Rtt, Price, Route, Source, Address],
        RuleType::Balanced => [Reach, Preferred, Score, Rtt, Route, Source, Address],
    }
}

/// A candidate with what it is compared by.
struct Contender {
    candidate: Candidate,
    route: Route,
    reach: Reach,
    is_preferred: bool,
    rtt: Option<Duration>,
    score: Option<Price>,
    /// By each criterion, its group among those that are equal by the ones before.
    groups: [u8; MOST_CRITERIA],
}

impl Contender {
    fn of(policy: &Policy, candidate: Candidate, seen: &Measurements) -> Option<Self> {
        let address = candidate.endpoint.address;
        let price = candidate.price;
        Some(Self {
            route: candidate.route.clone().ok()?,
            reach: seen.reach(address),
            is_preferred: policy.prefer == Some(candidate.endpoint.scope),
            rtt: seen.rtt(address),
            score: price.map(|price| policy.score(price, seen.rtt(address), seen.loss_permille(address))),
            groups: [0; MOST_CRITERIA],
            candidate,
        })
    }

    fn address(&self) -> SocketAddr {
        self.candidate.endpoint.address
    }

    fn price(&self) -> Option<Price> {
        self.candidate.price
    }

    fn source(&self) -> EndpointSource {
        self.candidate.endpoint.source
    }
}

/// The candidates that may be used, best first.
pub(super) struct Order {
    criteria: [Criterion; MOST_CRITERIA],
    rule: RuleType,
    authors: Authors,
    contenders: Vec<Contender>,
    /// The first one is in use and stands there for that reason alone.
    is_first_kept: bool,
}

impl Order {
    pub(super) fn of(policy: &Policy, candidates: Vec<Candidate>, seen: &Measurements) -> Self {
        let all = candidates.into_iter().filter_map(|candidate| Contender::of(policy, candidate, seen));
        let mut contenders: Vec<_> = all.collect();
        let criteria = criteria(policy.rule_type);
        arrange(&criteria, 0, &mut contenders);
        let (rule, authors) = (policy.rule_type, policy.authors.clone());
        let mut order = Self { criteria, rule, authors, contenders, is_first_kept: false };
        order.keep(seen.in_use);
        order
    }

    /// Each candidate with the reason for its place.
    pub(super) fn into_reasoned(self) -> impl Iterator<Item = (Candidate, Reason)> {
        let reasons: Vec<_> = (0..self.contenders.len()).map(|place| self.reason(place)).collect();
        self.contenders.into_iter().map(|contender| contender.candidate).zip(reasons)
    }

    /// Puts the one in use first, or what displaces it. A path is displaced only by one that goes before it anyhow, so
    /// that nothing can come back by being displaced in turn.
    fn keep(&mut self, in_use: Option<SocketAddr>) {
        let place = |contender: &Contender| Some(contender.address()) == in_use;
        let Some(mut kept) = self.contenders.iter().position(place) else { return };
        let displacing = |kept: usize| (0..kept).find(|place| self.displaces(*place, kept));
        while let Some(better) = displacing(kept) {
            kept = better;
        }
        self.contenders[..=kept].rotate_right(1);
        self.is_first_kept = kept > 0;
    }

    /// Whether the first criterion that tells two apart by more than its margin speaks against the one in use.
    fn displaces(&self, other: usize, kept: usize) -> bool {
        let (other, kept) = (&self.contenders[other], &self.contenders[kept]);
        for criterion in self.criteria {
            let lead = match criterion {
                Criterion::Reach => lead(other.reach, kept.reach),
                Criterion::Preferred => lead(kept.is_preferred, other.is_preferred),
                Criterion::Price => lead_by(other.price(), kept.price(), less_price),
                Criterion::Score => lead_by(other.score, kept.score, less_price),
                Criterion::Rtt => lead_by(other.rtt, kept.rtt, less_rtt),
                Criterion::Route => lead(other.route, kept.route),
                Criterion::Source | Criterion::Address => return false,
            };
            if lead != Lead::Neither {
                return lead == Lead::One;
            }
        }
        false
    }
}

impl Order {
    fn reason(&self, place: usize) -> Reason {
        let contender = &self.contenders[place];
        let route = contender.route;
        match (place, self.contenders.get(1)) {
            (0, None) => Reason::Only { route },
            (0, Some(next)) if self.is_first_kept => {
                let best = self.contenders[1..].iter().min_by_key(|other| other.groups).unwrap_or(next);
                Reason::Kept { route, better: best.address(), by: self.grounds(best, contender) }
            }
            (0, Some(next)) => {
                let (author, by) = (self.authors.rule_type.clone(), self.grounds(contender, next));
                Reason::Best { route, rule: self.rule, author, next: next.address(), by }
            }
            (_, _) => {
                let first = &self.contenders[0];
                let best = first.address();
                if self.is_first_kept && contender.groups < first.groups {
                    Reason::Waiting { route, in_use: best, by: self.grounds(contender, first) }
                } else {
                    Reason::Beaten { route, best, by: self.grounds(first, contender) }
                }
            }
        }
    }

    /// What sets two candidates apart: the first criterion by which they are not in one group.
    fn grounds(&self, better: &Contender, worse: &Contender) -> Grounds {
        let differs = |at: &usize| better.groups[*at] != worse.groups[*at];
        let at = (0..self.criteria.len()).find(differs).unwrap_or(MOST_CRITERIA - 1);
        match self.criteria[at] {
            Criterion::Reach => Grounds::Reach { better: better.reach, worse: worse.reach },
            Criterion::Preferred => {
                Grounds::Preferred { scope: better.candidate.endpoint.scope, by: self.authors.prefer.clone() }
            }
            Criterion::Price => Grounds::Price { better: better.price(), worse: worse.price() },
            Criterion::Score => Grounds::Score { better: better.score, worse: worse.score },
            Criterion::Rtt => Grounds::Rtt { better: better.rtt, worse: worse.rtt },
            Criterion::Route => Grounds::Route,
            Criterion::Source => Grounds::Source { better: better.source(), worse: worse.source() },
            Criterion::Address => Grounds::Address,
        }
    }
}

/// Sorts a group by the criterion at `depth`, each part that is equal by it by the next one, and so on.
fn arrange(criteria: &[Criterion], depth: usize, group: &mut [Contender]) {
    let Some(criterion) = criteria.get(depth) else { return };
    group.sort_by(|one, other| compare(*criterion, one, other));
    let (mut number, mut rest) = (0u8, group);
    while let Some(leader) = rest.first() {
        let equal = rest.iter().take_while(|other| are_equal(*criterion, leader, other)).count();
        let (part, after) = rest.split_at_mut(equal);
        part.iter_mut().for_each(|contender| contender.groups[depth] = number);
        arrange(criteria, depth + 1, part);
        (number, rest) = (number.saturating_add(1), after);
    }
}

fn compare(criterion: Criterion, one: &Contender, other: &Contender) -> Ordering {
    match criterion {
        Criterion::Reach => one.reach.cmp(&other.reach),
        Criterion::Preferred => other.is_preferred.cmp(&one.is_preferred),
        Criterion::Price => known_first(one.price(), other.price()),
        Criterion::Score => known_first(one.score, other.score),
        Criterion::Rtt => known_first(one.rtt, other.rtt),
        Criterion::Route => one.route.cmp(&other.route),
        Criterion::Source => other.source().cmp(&one.source()),
        Criterion::Address => one.address().cmp(&other.address()),
    }
}

fn known_first<T: Ord>(one: Option<T>, other: Option<T>) -> Ordering {
    one.is_none().cmp(&other.is_none()).then(one.cmp(&other))
}

/// Whether one that comes after the best of a group still belongs to it.
fn are_equal(criterion: Criterion, best: &Contender, other: &Contender) -> bool {
    match (criterion, best.rtt, other.rtt) {
        (Criterion::Rtt, Some(best), Some(other)) => other - best <= NEAR_RTT.max(best / NEAR_PART),
        _ => compare(criterion, best, other).is_eq(),
    }
}

/// Which of two is better by a criterion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    One,
    Other,
    Neither,
}

fn lead<T: Ord>(one: T, other: T) -> Lead {
    match one.cmp(&other) {
        Ordering::Less => Lead::One,
        Ordering::Greater => Lead::Other,
        Ordering::Equal => Lead::Neither,
    }
}

/// The less by at least a margin; what is known leads what is not. `less` is a figure less its margin.
fn lead_by<T: Ord + Copy>(one: Option<T>, other: Option<T>, less: fn(T) -> Option<T>) -> Lead {
    match (one, other) {
        (Some(one), Some(other)) if less(other).is_some_and(|limit| one <= limit) => Lead::One,
        (Some(one), Some(other)) if less(one).is_some_and(|limit| other <= limit) => Lead::Other,
        (Some(_), Some(_)) => Lead::Neither,
        (one, other) => lead(one.is_none(), other.is_none()),
    }
}

fn less_price(price: Price) -> Option<Price> {
    let margin = MARGIN_PRICE.max(Price(price.0 / u64::from(MARGIN_PART)));
    price.0.checked_sub(margin.0).map(Price)
}

fn less_rtt(rtt: Duration) -> Option<Duration> {
    rtt.checked_sub(margin_rtt(rtt))
}

/// By how much a round trip must be shorter to count.
pub(super) fn margin_rtt(rtt: Duration) -> Duration {
    MARGIN_RTT.max(rtt / MARGIN_PART)
}
