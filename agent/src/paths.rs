//! Which endpoint of a remote peer is used, and why. Pure; candidates and their ranking are `model`'s.

use std::{net::SocketAddr, sync::Arc};

use cladnet_model::{
    CloudLocation, EncryptionPolicy, Endpoint, EndpointSource, HostId, Scope,
    path::{HostView, Measurements, PairPolicy, Policy, Pricing, Ranked, Route, rank},
    tariff::Book,
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{configuration::Remote, facts::endpoints::scope_of};

/// What paths cost on a day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prices {
    pub(crate) book: Arc<Book>,
    pub(crate) on: Date,
}

impl Prices {
    pub(crate) fn at(book: Arc<Book>, now: Timestamp) -> Self {
        Self { book, on: day(now) }
    }

    /// Whether they are those of the moment's day.
    pub(crate) fn hold_at(&self, now: Timestamp) -> bool {
        self.on == day(now)
    }
}

/// Prices change at midnight UTC.
fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Our side of a pair, and what holds for it.
#[derive(Debug, Clone)]
pub(crate) struct Local<'a> {
    pub(crate) host: &'a HostId,
    pub(crate) prices: &'a Prices,
    pub(crate) location: &'a CloudLocation,
    pub(crate) endpoints: &'a [Endpoint],
    /// What holds for packets to the other side.
    pub(crate) policy: PairPolicy,
}

/// The endpoint that is used before any was tried.
pub(crate) fn choose(local: &Local<'_>, remote: &Remote) -> Option<Endpoint> {
    let best = untried(local, remote).into_iter().next()?;
    best.rank.is_some().then_some(best.candidate.endpoint)
}

/// The endpoints of a remote peer that packets may go to in clear: inside the VPC that we share with it, as far as we know.
/// A public address is none, whatever the peer calls it.
pub(crate) fn trusted(local: &Local<'_>, remote: &Remote) -> Vec<SocketAddr> {
    if local.policy.encryption.policy == EncryptionPolicy::Always {
        return Vec::new();
    }
    let all = untried(local, remote).into_iter();
    let inside = all.filter(|ranked| ranked.candidate.route == Ok(Route::Vpc));
    let addresses = inside.map(|ranked| ranked.candidate.endpoint.address);
    addresses.filter(|address| scope_of(address.ip()) == Some(Scope::Private)).collect()
}

/// What packets to an endpoint of a remote peer cross, if it may be used.
pub(crate) fn route(local: &Local<'_>, remote: &Remote, endpoint: SocketAddr) -> Option<Route> {
    let all = untried(local, remote);
    let found = all.into_iter().find(|ranked| ranked.candidate.endpoint.address == endpoint)?;
    found.candidate.route.ok()
}

/// All candidates, best first, with what was seen of them.
pub(crate) fn ranked(local: &Local<'_>, remote: &Remote, observed: &[SocketAddr], seen: &Measurements) -> Vec<Ranked> {
    let ours = HostView { location: local.location, endpoints: local.endpoints };
    let endpoints = with_observed(&remote.endpoints, observed);
    let theirs = HostView { location: &remote.location, endpoints: &endpoints };
    let Prices { book, on } = local.prices;
    let pricing = Pricing { book, on: *on, local: local.host, remote: &remote.host };
    rank(&local.policy.paths, pricing.candidates(ours, theirs), seen)
}

fn untried(local: &Local<'_>, remote: &Remote) -> Vec<Ranked> {
    ranked(local, remote, &[], &Measurements::default())
}

/// A pair of hosts as its paths are ranked, for whoever measures them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    pub(crate) policy: Policy,
    pub(crate) prices: Prices,
    pub(crate) ours: Arc<Side>,
    pub(crate) theirs: Side,
}

/// One end of a pair.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Side {
    pub(crate) host: HostId,
    pub(crate) location: CloudLocation,
    pub(crate) endpoints: Vec<Endpoint>,
}

impl Pair {
    /// All candidates, best first; `observed` are endpoints where the remote peer was heard of though nobody told them.
    pub(crate) fn rank(&self, observed: &[SocketAddr], seen: &Measurements) -> Vec<Ranked> {
        let theirs = with_observed(&self.theirs.endpoints, observed);
        let ours = HostView { location: &self.ours.location, endpoints: &self.ours.endpoints };
        let theirs = HostView { location: &self.theirs.location, endpoints: &theirs };
        let Prices { book, on } = &self.prices;
        let pricing = Pricing { book, on: *on, local: &self.ours.host, remote: &self.theirs.host };
        rank(&self.policy, pricing.candidates(ours, theirs), seen)
    }

    /// Whether both hosts are still where they were.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        self.ours == other.ours && self.theirs == other.theirs
    }
}

/// What a remote host tells of itself, and where else it was heard of.
pub(crate) fn with_observed(told: &[Endpoint], observed: &[SocketAddr]) -> Vec<Endpoint> {
    let observed = observed.iter().filter_map(|address| {
        Some(Endpoint { address: *address, scope: scope_of(address.ip())?, source: EndpointSource::Interface })
    });
    told.iter().copied().chain(observed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_hold_until_midnight_in_utc() {
        let at = |moment: &str| moment.parse::<Timestamp>().expect("moment");
        let prices = Prices::at(Book::shipped(), at("2026-11-20T00:00:00Z"));
        assert!(prices.hold_at(at("2026-11-20T23:59:59Z")));
        assert!(!prices.hold_at(at("2026-11-21T00:00:00Z")));
    }
}
