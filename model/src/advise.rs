//! The address-space advisor: which spaces a network could have, given everything in sight that it must not overlap.
//!
//! Exact: ranges are subtracted, not guessed at. Deterministic: equal questions have equal answers, and the salt,
//! which an installation keeps, spreads the answers so that two organisations which meet one day did not choose the
//! same space.

mod known;
mod ranges;
mod search;
#[cfg(test)]
mod tests;
mod words;

use std::{collections::BTreeSet, fmt};

use ipnet::{IpNet, Ipv4Net};

use crate::{
    Host, Network, NetworkId,
    rule::RuleSet,
    space::{self, PRIVATE_BLOCKS},
};
use ranges::Ranges;

/// Room to grow without moving: as many hosts again.
pub const HEADROOM_FACTOR: u64 = 2;
/// And at least this many more, so that a handful of hosts does not get a network for a handful.
pub const HEADROOM_LEAST: u64 = 16;
/// Hosts to plan for if nobody says how many.
pub const DEFAULT_HOSTS: u32 = 250;
/// Proposals to make if nobody says how many.
pub const DEFAULT_LIMIT: usize = 5;
/// More proposals than this are no advice.
pub const MAX_LIMIT: usize = 100;

/// A range that a network must not overlap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Avoid {
    pub range: Ipv4Net,
    pub origin: Origin,
}

/// Where a range to avoid is known from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Named in the question: a VPC or subnet, existing or planned.
    Given,
    /// A VPC or subnet of a host, by its name.
    Cloud(String),
    /// A route of a host, by the host's name.
    HostRoute(String),
    /// Another network.
    Network(NetworkId),
    /// Kept by a provider, or by the protocol, for what it says.
    Reserved(&'static str),
}

impl fmt::Display for Avoid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, origin } = self;
        match origin {
            Origin::Given => write!(f, "{range}"),
            Origin::Cloud(name) => write!(f, "{range} ({name})"),
            Origin::HostRoute(host) => write!(f, "{range} (route of {host})"),
            Origin::Network(id) => write!(f, "{range} (network {id})"),
            Origin::Reserved(what) => write!(f, "{range} ({what})"),
        }
    }
}

impl Avoid {
    /// The ranges that a host's own routes take; its default route takes none.
    pub fn host_routes<'a>(host: &'a str, routes: &'a [IpNet]) -> impl Iterator<Item = Self> + 'a {
        let claimed = routes.iter().filter_map(space::claimed_by_route);
        claimed.map(|range| Self { range, origin: Origin::HostRoute(host.to_owned()) })
    }

    /// Everything that a host is known to need: its routes, the subnet it stands in, and those that are to be reached through it.
    pub fn of_host(host: &Host) -> impl Iterator<Item = Self> {
        let name = host.facts.name.as_str();
        let subnet = host.facts.private_address.and_then(|subnet| space::claimed_by_route(&subnet.into()));
        let subnet = subnet.map(|range| Self { range, origin: Origin::Cloud(format!("subnet of {name}")) });
        let behind = host.facts.advertise.iter().filter_map(space::claimed_by_route);
        let behind = behind.map(move |range| Self { range, origin: Origin::Cloud(format!("subnet behind {name}")) });
        Self::host_routes(name, &host.facts.routes).chain(subnet).chain(behind)
    }

    /// The subnets that a network reaches through its peers, as they are and as they are known.
    pub fn of_rules(network: &NetworkId, rules: &RuleSet) -> impl Iterator<Item = Self> {
        let origin = Origin::Cloud(format!("subnet behind a peer of network {network}"));
        let prefixes = rules.subnets().filter_map(|prefix| space::claimed_by_route(&prefix));
        prefixes.map(move |range| Self { range, origin: origin.clone() })
    }

    /// The address space of another network.
    pub fn of_network(network: &Network) -> Self {
        Self { range: network.address_space, origin: Origin::Network(network.id.clone()) }
    }
}

/// A text that names no range to avoid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {0:?}, which is neither a CIDR nor an address; use one such as 10.0.0.0/16")]
pub struct AvoidError(String);

/// Reads a range to avoid: a CIDR, also one with host bits set, or a single address. IPv6 is right, and none of our
/// business.
pub fn parse_avoid(text: &str) -> Result<Option<Avoid>, AvoidError> {
    let text = text.trim();
    let single = || text.parse().map(|address: std::net::IpAddr| IpNet::from(address));
    match text.parse::<IpNet>().or_else(|_| single()) {
        Ok(IpNet::V4(range)) => Ok(Some(Avoid { range: range.trunc(), origin: Origin::Given })),
        Ok(IpNet::V6(_)) => Ok(None),
        Err(_) => Err(AvoidError(text.chars().take(60).collect())),
    }
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Question<'a> {
    /// Hosts that will join, head-room is added; 0 means [`DEFAULT_HOSTS`].
    pub hosts: u32,
    pub avoid: &'a [Avoid],
    /// Providers of the hosts, as in their cloud locations.
    pub providers: BTreeSet<String>,
    /// How many proposals, at most [`MAX_LIMIT`]; 0 means [`DEFAULT_LIMIT`].
    pub limit: usize,
    /// Anything that differs between installations and stays within one, such as the cluster's epoch.
    pub salt: &'a str,
}

/// A space that overlaps nothing that is to be avoided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    pub space: Ipv4Net,
    /// Addresses that hosts can have.
    pub capacity: u32,
    /// Why this one, and what speaks against it, as a sentence without its full stop.
    pub reason: String,
    /// Defaults of common software that it overlaps.
    pub soft_conflicts: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Best first.
    pub proposals: Vec<Proposal>,
    /// What it was sized for; or why there is no proposal, and what would fit.
    pub message: String,
}

/// Proposes spaces out of all private blocks.
pub fn advise(question: &Question<'_>) -> Advice {
    advise_in(&PRIVATE_BLOCKS, question)
}

/// Proposes spaces out of each private block by itself, in the order of [`PRIVATE_BLOCKS`].
pub fn advise_per_block(question: &Question<'_>) -> [Advice; 3] {
    PRIVATE_BLOCKS.map(|block| advise_in(&[block], question))
}

fn advise_in(blocks: &[Ipv4Net], question: &Question<'_>) -> Advice {
    let hosts = if question.hosts == 0 { DEFAULT_HOSTS } else { question.hosts };
    let limit = if question.limit == 0 { DEFAULT_LIMIT } else { question.limit.min(MAX_LIMIT) };
    let (taken, needed) = (taken(question), needed(hosts));
    let Some(prefix) = prefix_for(needed) else {
        return Advice { proposals: Vec::new(), message: words::too_many(hosts, needed) };
    };
    let free = free(blocks, &taken);
    let found = search::search(&free, prefix, limit, search::Seed::of(question));
    let proposals: Vec<Proposal> = found.into_iter().map(|found| words::proposal(found, hosts, &taken)).collect();
    let message = if proposals.is_empty() {
        words::nothing_left(blocks, &free, &taken, hosts, prefix)
    } else {
        words::sized(hosts, needed, prefix)
    };
    Advice { proposals, message }
}

/// A prefix of that length that overlaps nothing: to know a subnet by whose own addresses somebody else has.
pub fn stand_in(prefix_length: u8, question: &Question<'_>) -> Option<Ipv4Net> {
    let free = free(&PRIVATE_BLOCKS, &taken(question));
    search::search(&free, prefix_length, 1, search::Seed::of(question)).first().map(|found| found.space)
}

fn free(blocks: &[Ipv4Net], taken: &[Avoid]) -> Ranges {
    Ranges::from_iter(blocks.iter().copied()).minus(&taken.iter().map(|avoid| avoid.range).collect())
}

/// Everything that a network must not overlap, in order, without repetitions.
fn taken(question: &Question<'_>) -> Vec<Avoid> {
    let reserved = |(range, what): known::Known| Avoid { range, origin: Origin::Reserved(what) };
    let of_providers = known::RESERVED.iter().filter(|(provider, ..)| question.providers.contains(*provider));
    let of_providers = of_providers.map(|(_, range, what)| reserved((*range, what)));
    let taken: BTreeSet<Avoid> =
        question.avoid.iter().cloned().chain(of_providers).chain([reserved(known::LINK_LOCAL)]).collect();
    taken.into_iter().collect()
}

/// The addresses to provide for that many hosts.
pub fn needed(hosts: u32) -> u64 {
    let hosts = u64::from(hosts);
    (hosts * HEADROOM_FACTOR).max(hosts + HEADROOM_LEAST)
}

/// The longest prefix with that many usable addresses; none if no private block has them.
fn prefix_for(needed: u64) -> Option<u8> {
    let largest = PRIVATE_BLOCKS.map(|block| block.prefix_len()).into_iter().min()?;
    (largest..=30).rev().find(|prefix| (1u64 << (32 - prefix)) - 2 >= needed)
}
