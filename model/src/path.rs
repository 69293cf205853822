//! The paths from one host to another: which endpoints are candidates, how they rank, and why. Agents choose by it and
//! *explain* tells by it, so what is told is what is done.
//!
//! No prices yet: until a tariff book says what a path costs, private goes before public and IPv4 before IPv6.

mod encryption;
mod reason;
#[cfg(test)]
mod tests;
mod vpc;

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    net::SocketAddr,
    time::Duration,
};

pub use encryption::{Transport, encryption};
pub use reason::summary;
pub use vpc::{Apart, same_vpc};

use crate::{CloudLocation, Endpoint, RuleType, Scope, word::words};

/// What is known of one end of a path.
#[derive(Debug, Clone, Copy)]
pub struct HostView<'a> {
    /// From all sources.
    pub location: &'a CloudLocation,
    pub endpoints: &'a [Endpoint],
}

/// What a packet to an endpoint crosses; in the order of their cost as far as that is known without prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// The VPC that both hosts stand in.
    Vpc,
    /// The internet, by IPv4.
    Internet,
    /// The internet, by IPv6.
    InternetV6,
}

/// Why an endpoint is no candidate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("private address, and {0}")]
    Apart(#[from] Apart),
    #[error("private address that the sender has itself, so it is another one's in another network")]
    Own,
    #[error("IPv4 address, and the sender has IPv6 only")]
    NoIpv4,
    #[error("IPv6 address, and the sender has no IPv6")]
    NoIpv6,
    #[error("private address, and the rule type basic uses public ones only")]
    RuleType,
}

/// An endpoint of the remote host, with what a packet to it crosses or why none can go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub endpoint: Endpoint,
    pub route: Result<Route, Unfit>,
}

/// Every endpoint of `remote` as `local` may use it, each address once, in no order of merit; see [`rank`].
pub fn candidates(local: HostView<'_>, remote: HostView<'_>) -> Vec<Candidate> {
    let mut by_address: BTreeMap<SocketAddr, Candidate> = BTreeMap::new();
    for endpoint in remote.endpoints {
        let found = Candidate { endpoint: *endpoint, route: route(local, remote, *endpoint) };
        let known = by_address.entry(endpoint.address).or_insert_with(|| found.clone());
        // One address known in two ways: the better one, and of equals the one better vouched for.
        let merit = |candidate: &Candidate| {
            let Endpoint { source, scope, .. } = candidate.endpoint;
            (candidate.route.is_err(), candidate.route.clone().ok(), Reverse(source), scope)
        };
        if merit(&found) < merit(known) {
            *known = found;
        }
    }
    by_address.into_values().collect()
}

fn route(local: HostView<'_>, remote: HostView<'_>, endpoint: Endpoint) -> Result<Route, Unfit> {
    check_family(local, endpoint)?;
    match endpoint.scope {
        Scope::Private => {
            same_vpc(local.location, remote.location)?;
            let is_own = |own: &Endpoint| own.scope == Scope::Private && own.address.ip() == endpoint.address.ip();
            if local.endpoints.iter().any(is_own) { Err(Unfit::Own) } else { Ok(Route::Vpc) }
        }
        Scope::Public => Ok(Route::Internet),
        Scope::PublicV6 => Ok(Route::InternetV6),
    }
}

/// Whether the sender can send by the endpoint's protocol at all. One that has told nothing yet is taken to have IPv4.
fn check_family(local: HostView<'_>, endpoint: Endpoint) -> Result<(), Unfit> {
    let mut own = local.endpoints.iter();
    let is_public_v6 = endpoint.scope == Scope::PublicV6;
    match endpoint.address.is_ipv6() {
        true if !own.any(|own| own.address.is_ipv6() && (own.scope == Scope::PublicV6 || !is_public_v6)) => {
            Err(Unfit::NoIpv6)
        }
        false if !local.endpoints.is_empty() && !own.any(|own| own.address.is_ipv4()) => Err(Unfit::NoIpv4),
        _ => Ok(()),
    }
}

/// What the agent has seen of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers; the round trip is the smoothed one.
    Answers { rtt: Duration },
    /// It was tried, and does not answer.
    Silent,
}

/// What the agent has seen of a peer's endpoints; those that were never tried are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measurements {
    pub in_use: Option<SocketAddr>,
    pub health: BTreeMap<SocketAddr, Health>,
}

impl Measurements {
    fn is_silent(&self, address: SocketAddr) -> bool {
        self.health.get(&address) == Some(&Health::Silent)
    }

    fn rtt(&self, address: SocketAddr) -> Option<Duration> {
        match self.health.get(&address) {
            Some(Health::Answers { rtt }) => Some(*rtt),
            _ => None,
        }
    }
}

/// What can be done with a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateState {
    /// Packets go there.
    InUse,
    /// Packets may go there.
    Usable,
    /// It does not answer, and stays behind those that do.
    Silent,
    /// No packet goes there.
    Excluded,
}

words!(CandidateState {
    InUse = "in use",
    Usable = "usable",
    Silent = "silent",
    Excluded = "excluded",
});

/// A candidate in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked {
    pub candidate: Candidate,
    /// From 1; none if excluded.
    pub rank: Option<u32>,
    pub state: CandidateState,
    /// Why it stands where it stands, as a sentence without its full stop.
    pub reason: String,
}

/// Puts candidates in order, best first, the excluded ones last.
pub fn rank(rule: RuleType, candidates: Vec<Candidate>, seen: &Measurements) -> Vec<Ranked> {
    let candidates = candidates.into_iter().map(|candidate| restrict(rule, candidate));
    let (mut fit, unfit): (Vec<_>, Vec<_>) = candidates.partition(|candidate| candidate.route.is_ok());
    fit.sort_by(|one, other| decide(rule, one, other, seen).1);
    let places = fit.iter().zip(1..);
    let ranked = places.map(|(candidate, place)| Ranked {
        candidate: candidate.clone(),
        rank: Some(place),
        state: state(candidate, seen),
        reason: reason::of_place(rule, &fit, candidate, seen),
    });
    let excluded = unfit.iter().filter_map(|candidate| {
        let reason = candidate.route.as_ref().err()?.to_string();
        Some(Ranked { candidate: candidate.clone(), rank: None, state: CandidateState::Excluded, reason })
    });
    ranked.chain(excluded).collect()
}

fn restrict(rule: RuleType, candidate: Candidate) -> Candidate {
    match (rule, &candidate.route) {
        (RuleType::Basic, Ok(Route::Vpc)) => Candidate { route: Err(Unfit::RuleType), ..candidate },
        _ => candidate,
    }
}

fn state(candidate: &Candidate, seen: &Measurements) -> CandidateState {
    let address = candidate.endpoint.address;
    match () {
        () if seen.in_use == Some(address) => CandidateState::InUse,
        () if seen.is_silent(address) => CandidateState::Silent,
        () => CandidateState::Usable,
    }
}

/// What two candidates are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Criterion {
    /// What was never tried counts as answering: trying it is how one learns.
    Answers,
    /// Cost: what the route crosses, until it has a price.
    Cost,
    /// A measured round trip goes before one that was never measured.
    Rtt,
    /// Who knows of the endpoint.
    Source,
    /// So that two agents and an explanation agree.
    Address,
}

/// What a rule type compares by, most important first.
fn criteria(rule: RuleType) -> [Criterion; 5] {
    use Criterion::{Address, Answers, Cost, Rtt, Source};
    match rule {
        RuleType::LatencyPrioritized => [Answers, Rtt, Cost, Source, Address],
        // `balanced` weighs round trips in money: without prices that is cost before round trip.
        RuleType::Basic | RuleType::CostPrioritized | RuleType::Balanced => [Answers, Cost, Rtt, Source, Address],
    }
}

/// The first criterion by which two candidates differ, and how.
fn decide(rule: RuleType, one: &Candidate, other: &Candidate, seen: &Measurements) -> (Criterion, Ordering) {
    let (ours, theirs) = (one.endpoint, other.endpoint);
    let compare = |criterion| match criterion {
        Criterion::Answers => seen.is_silent(ours.address).cmp(&seen.is_silent(theirs.address)),
        Criterion::Cost => one.route.as_ref().ok().cmp(&other.route.as_ref().ok()),
        Criterion::Rtt => {
            let order = |address| seen.rtt(address).unwrap_or(Duration::MAX);
            order(ours.address).cmp(&order(theirs.address))
        }
        Criterion::Source => theirs.source.cmp(&ours.source),
        Criterion::Address => ours.address.cmp(&theirs.address),
    };
    let decided = criteria(rule).map(|criterion| (criterion, compare(criterion)));
    decided.into_iter().find(|(_, order)| order.is_ne()).unwrap_or((Criterion::Address, Ordering::Equal))
}
