//! Which endpoints of a remote host may be used, and what a packet to each of them crosses.

use std::{cmp::Reverse, collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{Apart, Author, same_vpc};
use crate::{CloudLocation, Endpoint, RuleId, Scope, tariff::Price};

/// What is known of one end of a path.
#[derive(Debug, Clone, Copy)]
pub struct HostView<'a> {
    /// From all sources.
    pub location: &'a CloudLocation,
    pub endpoints: &'a [Endpoint],
}

/// What a packet to an endpoint crosses. The order says what is better where neither price nor round trip decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// The VPC that both hosts stand in.
    Vpc,
    /// Whatever leads from one VPC to the private addresses of another, or from one unknown place to another: peering, a
    /// transit gateway, a VPN. Whether there is such a thing is not known before the endpoint answers.
    Peered,
    /// The internet, by IPv4.
    Internet,
    /// The internet, by IPv6.
    InternetV6,
}

impl Route {
    /// Whether no packet but a probe goes there before it has answered.
    pub fn needs_proof(self) -> bool {
        self == Self::Peered
    }
}

impl Candidate {
    /// A private address of another provider that a line of the operator's own is said to lead to: it has to answer, as
    /// those of other VPCs have.
    pub(super) fn over_line(&mut self, local: HostView<'_>) {
        if matches!(self.route, Err(Unfit::Apart(_))) && !is_own(local, self.endpoint) {
            self.route = Ok(Route::Peered);
        }
    }
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
    #[error("private address, and the rule type basic{by} uses public ones only")]
    RuleType { by: Author },
    #[error("{scope} address, and that scope is forbidden{by}")]
    Forbidden { scope: Scope, by: Author },
    #[error("path that costs {price} USD/GB, and at most {limit} are allowed{by}")]
    Dear { price: Price, limit: Price, by: Author },
    #[error("path whose price is not known, and at most {limit} USD/GB are allowed{by}")]
    Unpriced { limit: Price, by: Author },
    #[error("path with a round trip of {:.1} ms, and at most {:.1} ms are allowed{by}", milliseconds(.rtt), milliseconds(.limit))]
    Slow { rtt: Duration, limit: Duration, by: Author },
}

impl Unfit {
    /// The path rule that excludes the endpoint.
    pub fn rule(&self) -> Option<&RuleId> {
        match self {
            Self::Apart(_) | Self::Own | Self::NoIpv4 | Self::NoIpv6 => None,
            Self::RuleType { by }
            | Self::Forbidden { by, .. }
            | Self::Dear { by, .. }
            | Self::Unpriced { by, .. }
            | Self::Slow { by, .. } => by.0.as_ref(),
        }
    }
}

fn milliseconds(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// An endpoint of the remote host, with what a packet to it crosses or why none can go there, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub endpoint: Endpoint,
    pub route: Result<Route, Unfit>,
    /// From the sender to the endpoint, both ends' shares together. None if it is not known; that is never 0.
    pub price: Option<Price>,
}

/// Every endpoint of `remote` as `local` may use it, each address once, in no order of merit; see [`super::rank`].
/// `price` says what a path to an endpoint costs.
pub fn candidates(
    local: HostView<'_>,
    remote: HostView<'_>,
    price: impl Fn(&Endpoint) -> Option<Price>,
) -> Vec<Candidate> {
    let mut by_address: BTreeMap<SocketAddr, (Endpoint, Result<Route, Unfit>)> = BTreeMap::new();
    for endpoint in remote.endpoints {
        let found = (*endpoint, route(local, remote, *endpoint));
        let known = by_address.entry(endpoint.address).or_insert_with(|| found.clone());
        // One address known in two ways: the better one, and of equals the one better vouched for.
        let merit = |(endpoint, route): &(Endpoint, Result<Route, Unfit>)| {
            let needs_proof = route.as_ref().is_ok_and(|route| route.needs_proof());
            (route.is_err(), needs_proof, route.clone().ok(), Reverse(endpoint.source), endpoint.scope)
        };
        if merit(&found) < merit(known) {
            *known = found;
        }
    }
    let candidate = |(endpoint, route)| Candidate { endpoint, route, price: price(&endpoint) };
    by_address.into_values().map(candidate).collect()
}

fn route(local: HostView<'_>, remote: HostView<'_>, endpoint: Endpoint) -> Result<Route, Unfit> {
    check_family(local, endpoint)?;
    match endpoint.scope {
        Scope::Private => private_route(local, remote, endpoint),
        Scope::Public => Ok(Route::Internet),
        Scope::PublicV6 => Ok(Route::InternetV6),
    }
}

/// The same VPC carries packets; between others of one provider, or where one is not known, something may.
fn private_route(local: HostView<'_>, remote: HostView<'_>, endpoint: Endpoint) -> Result<Route, Unfit> {
    let route = match same_vpc(local.location, remote.location) {
        Ok(()) => Route::Vpc,
        Err(apart @ Apart::Different { field: "provider", .. }) => return Err(Unfit::Apart(apart)),
        Err(_) => Route::Peered,
    };
    if is_own(local, endpoint) { Err(Unfit::Own) } else { Ok(route) }
}

fn is_own(local: HostView<'_>, endpoint: Endpoint) -> bool {
    let is_same = |own: &Endpoint| own.scope == Scope::Private && own.address.ip() == endpoint.address.ip();
    local.endpoints.iter().any(is_same)
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
