//! Which endpoint of a remote peer is used, and why. Pure; candidates and their ranking are `model`'s.

use std::net::SocketAddr;

use cladnet_model::{
    CloudLocation, Endpoint, RuleType, Scope,
    path::{HostView, Measurements, Policy, Ranked, Route, candidates, rank, summary},
};

use crate::{configuration::Remote, facts::endpoints::scope_of};

/// Our side of a pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local<'a> {
    pub(crate) location: &'a CloudLocation,
    pub(crate) endpoints: &'a [Endpoint],
    pub(crate) rule_type: RuleType,
}

/// The endpoint that the device is given. Until paths are probed nothing that was seen counts, so it changes only with
/// what the hosts tell of themselves.
pub(crate) fn choose(local: Local<'_>, remote: &Remote) -> Option<Endpoint> {
    let best = ranked(local, remote, &Measurements::default()).into_iter().next()?;
    best.rank.is_some().then_some(best.candidate.endpoint)
}

/// The endpoints of a remote peer inside the VPC that we share with it, as far as we know. A public address is none,
/// whatever the peer calls it.
pub(crate) fn inside_vpc(local: Local<'_>, remote: &Remote) -> Vec<SocketAddr> {
    let all = ranked(local, remote, &Measurements::default()).into_iter();
    let inside = all.filter(|ranked| ranked.candidate.route == Ok(Route::Vpc));
    let addresses = inside.map(|ranked| ranked.candidate.endpoint.address);
    addresses.filter(|address| scope_of(address.ip()) == Some(Scope::Private)).collect()
}

/// What packets to an endpoint of a remote peer cross, if it may be used.
pub(crate) fn route(local: Local<'_>, remote: &Remote, endpoint: SocketAddr) -> Option<Route> {
    let all = ranked(local, remote, &Measurements::default());
    let found = all.into_iter().find(|ranked| ranked.candidate.endpoint.address == endpoint)?;
    found.candidate.route.ok()
}

/// One sentence on the path as it is.
pub(crate) fn explain(local: Local<'_>, remote: &Remote, seen: &Measurements) -> String {
    summary(&ranked(local, remote, seen))
}

fn ranked(local: Local<'_>, remote: &Remote, seen: &Measurements) -> Vec<Ranked> {
    let ours = HostView { location: local.location, endpoints: local.endpoints };
    let theirs = HostView { location: &remote.location, endpoints: &remote.endpoints };
    rank(&Policy::new(local.rule_type), candidates(ours, theirs, |_| None), seen)
}
