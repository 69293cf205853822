//! Which endpoint of a remote peer is used, and why. Pure; candidates and their ranking are `model`'s.

use cladnet_model::{
    CloudLocation, Endpoint, RuleType,
    path::{HostView, Measurements, Ranked, candidates, rank, summary},
};

use crate::configuration::Remote;

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

/// One sentence on the path as it is.
pub(crate) fn explain(local: Local<'_>, remote: &Remote, seen: &Measurements) -> String {
    summary(&ranked(local, remote, seen))
}

fn ranked(local: Local<'_>, remote: &Remote, seen: &Measurements) -> Vec<Ranked> {
    let ours = HostView { location: local.location, endpoints: local.endpoints };
    let theirs = HostView { location: &remote.location, endpoints: &remote.endpoints };
    rank(local.rule_type, candidates(ours, theirs), seen)
}
