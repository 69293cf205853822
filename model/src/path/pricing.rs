//! What the paths of a pair cost, there and back.

use jiff::civil::Date;

use super::{Candidate, HostView, candidates};
use crate::{
    Endpoint, HostId, Scope,
    tariff::{Book, Class, End, PoolUsage, Price, Quote, cost},
};

/// Prices to compare paths by: those of the first paid tier, so that no path looks free at the month's start.
#[derive(Debug, Clone, Copy)]
pub struct Pricing<'a> {
    pub book: &'a Book,
    pub on: Date,
    /// The host that ranks.
    pub local: &'a HostId,
    pub remote: &'a HostId,
}

impl Pricing<'_> {
    /// From `local` to an endpoint of `remote`.
    pub fn quote(&self, local: HostView<'_>, remote: HostView<'_>, endpoint: &Endpoint) -> Quote {
        let (ours, theirs) = self.ends(local, remote, endpoint);
        self.between(ours, theirs, endpoint.scope)
    }

    /// From `remote` to `local`, if the answers take the same kind of way as the packets to the endpoint do.
    pub fn quote_back(&self, local: HostView<'_>, remote: HostView<'_>, endpoint: &Endpoint) -> Quote {
        let (ours, theirs) = self.ends(local, remote, endpoint);
        self.between(theirs, ours, endpoint.scope)
    }

    /// What [`candidates`] asks.
    pub fn to<'b>(&'b self, local: HostView<'b>, remote: HostView<'b>) -> impl Fn(&Endpoint) -> Option<Price> + 'b {
        move |endpoint| self.quote(local, remote, endpoint).per_gb
    }

    /// Every endpoint of `remote` as `local` may use it, with what a packet there costs; see [`candidates`]. Where the book
    /// has a line between two providers, private addresses may answer through it.
    pub fn candidates(&self, local: HostView<'_>, remote: HostView<'_>) -> Vec<Candidate> {
        let mut found = candidates(local, remote, self.to(local, remote));
        for candidate in found.iter_mut().filter(|candidate| candidate.route.is_err()) {
            if self.quote(local, remote, &candidate.endpoint).class == Class::Interconnect {
                candidate.over_line(local);
            }
        }
        found
    }

    /// Both hosts as they stand on such a path; the own address is, as far as it is known, the first one of that scope.
    fn ends<'b>(&'b self, local: HostView<'b>, remote: HostView<'b>, endpoint: &Endpoint) -> (End<'b>, End<'b>) {
        let own = local.endpoints.iter().find(|own| own.scope == endpoint.scope);
        let end = |view: HostView<'b>, host, address| End { location: view.location, host: Some(host), address };
        let ours = end(local, self.local, own.map(|own| own.address.ip()));
        (ours, end(remote, self.remote, Some(endpoint.address.ip())))
    }

    fn between(&self, source: End<'_>, destination: End<'_>, scope: Scope) -> Quote {
        cost(self.book, source, destination, scope, self.on, &PoolUsage::FirstPaid)
    }
}
