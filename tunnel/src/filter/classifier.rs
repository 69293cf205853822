//! Ordered rules, compiled: the first that matches a flow is found by two look-ups, however many rules there are.
//!
//! For every prefix that any rule names, a set of bits says which rules hold it or a prefix around it. The bits of a
//! flow's source and of its destination, both at once, are the rules whose addresses match; their protocols and ports
//! are looked at in order. (Lakshman and Stiliadis, "High-speed policy-based packet forwarding using efficient
//! multi-dimensional range matching", SIGCOMM 1998, §4.)

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::flow::Flow;
use super::{Access, AccessRule, Action, Traffic};
use crate::allowed_ips::AllowedIps;

pub(super) struct Classifier {
    sources: Matches,
    destinations: Matches,
    rules: Vec<(Traffic, Action)>,
    default: Action,
}

/// Which rules match an address, bit by bit.
struct Matches(AllowedIps<Arc<[u64]>>);

impl Classifier {
    pub(super) fn new(access: &Access) -> Self {
        let matches = |prefixes: fn(&AccessRule) -> &[IpNet]| Matches::new(access.rules.iter().map(prefixes));
        Self {
            sources: matches(|rule| &rule.sources),
            destinations: matches(|rule| &rule.destinations),
            rules: access.rules.iter().map(|rule| (rule.traffic.clone(), rule.action)).collect(),
            default: access.default,
        }
    }

    /// Whether nothing that `source` sends to `destination` can be refused.
    pub(super) fn allows_whatever(&self, source: IpAddr, destination: IpAddr) -> bool {
        for (traffic, action) in self.between(source, destination) {
            match (traffic, action) {
                (_, Action::Deny) => return false,
                (Traffic::All, Action::Allow) => return true,
                (_, Action::Allow) => {}
            }
        }
        self.default == Action::Allow
    }

    /// What happens to a packet of `flow` from its remote end.
    pub(super) fn decide(&self, flow: &Flow) -> Action {
        let first = self.between(flow.remote.0, flow.local.0).find(|(traffic, _)| traffic.matches(flow));
        first.map_or(self.default, |(_, action)| *action)
    }

    /// The rules whose addresses match, in order.
    fn between(&self, source: IpAddr, destination: IpAddr) -> impl Iterator<Item = &(Traffic, Action)> {
        let (sources, destinations) = (self.sources.of(source), self.destinations.of(destination));
        let words = sources.iter().zip(destinations).map(|(source, destination)| source & destination);
        let indices = words.enumerate().flat_map(|(word, bits)| ones(bits).map(move |bit| word * 64 + bit));
        indices.filter_map(|index| self.rules.get(index))
    }
}

impl Matches {
    /// From the prefixes of every rule, in the order of the rules.
    fn new<'a>(rules: impl ExactSizeIterator<Item = &'a [IpNet]>) -> Self {
        let words = rules.len().div_ceil(64);
        let mut named: HashMap<IpNet, Vec<u64>> = HashMap::new();
        for (rule, prefixes) in rules.enumerate() {
            for prefix in prefixes {
                let bits = named.entry(prefix.trunc()).or_insert_with(|| vec![0; words]);
                bits[rule / 64] |= 1 << (rule % 64);
            }
        }
        // A prefix comes before all that it holds.
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_unstable_by_key(|(prefix, _)| (prefix.network(), prefix.prefix_len()));
        let mut matches = AllowedIps::new();
        let mut around: Vec<(IpNet, Vec<u64>)> = Vec::new();
        for (prefix, mut bits) in named {
            while around.last().is_some_and(|(outer, _)| !outer.contains(&prefix)) {
                around.pop();
            }
            for (own, outer) in bits.iter_mut().zip(around.last().into_iter().flat_map(|(_, outer)| outer)) {
                *own |= outer;
            }
            matches.insert(prefix, Arc::from(bits.as_slice()));
            around.push((prefix, bits));
        }
        Self(matches)
    }

    /// No bits at all if no rule names the address.
    fn of(&self, address: IpAddr) -> &[u64] {
        self.0.lookup(address).map(AsRef::as_ref).unwrap_or_default()
    }
}

impl Traffic {
    fn matches(&self, flow: &Flow) -> bool {
        match self {
            Self::All => true,
            Self::Protocol(protocol) => *protocol == flow.protocol,
            Self::Ports { protocol, ports } => {
                *protocol == flow.protocol && ports.iter().any(|range| range.contains(&flow.local.1))
            }
        }
    }
}

/// The positions of the bits that are set, lowest first.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (lowest < 64).then_some(lowest as usize)
    })
}
