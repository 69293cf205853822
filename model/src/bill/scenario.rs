//! What-if: what a matrix of bytes costs as it went, or under another rule.

use std::collections::BTreeSet;

use jiff::civil::Date;

use super::{Flow, Matrix};
use crate::{
    CloudLocation, Scope,
    path::{ancestors_cost_rule, same_vpc},
    tariff::{self, AttoUsd, Book, PoolUsage},
    word::words,
};

/// By which rule flows take their ways: the rule types of networks, and one for comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhatIfRule {
    Basic,
    CostPrioritized,
    LatencyPrioritized,
    Balanced,
    /// The rule `cost-prioritized` of cb-network, the ancestor.
    CbNetwork,
}

words!(WhatIfRule {
    Basic = "basic",
    CostPrioritized = "cost-prioritized",
    LatencyPrioritized = "latency-prioritized",
    Balanced = "balanced",
    CbNetwork = "cb-network",
});

impl WhatIfRule {
    /// What is assumed of the traffic, because bytes do not tell it.
    pub fn assumed(self) -> Option<&'static str> {
        match self {
            Self::Basic | Self::CostPrioritized => None,
            Self::LatencyPrioritized | Self::Balanced => Some(
                "latency-prioritized, balanced: bytes tell no round trips; those of a pair are taken to be equal by every path, so \
                 that the price decides",
            ),
            Self::CbNetwork => Some(
                "cb-network: its cost rule, which asks for no price; bytes tell no subnets, so each zone of AWS is taken to be \
                 one subnet",
            ),
        }
    }
}

/// What a matrix costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Priced {
    pub spent: AttoUsd,
    /// Bytes without a known price; nothing of them is in `spent`.
    pub unpriced: u64,
    pub estimated: u64,
}

/// Prices a matrix as the traffic of one month, both sides together; `rule` none: as it went. Under a rule type a flow goes the
/// way that the rule takes of those that are known to be there: public addresses, what it used, and private ones in one VPC.
pub fn priced(book: &Book, matrix: &Matrix, rule: Option<WhatIfRule>, at: Date) -> Priced {
    let mut usage = PoolUsage::new_month();
    let mut priced = Priced::default();
    for (flow, bytes) in matrix.flows() {
        let (from, to) = (flow.from.location(), flow.to.location());
        let scope = rule.map_or(flow.scope, |rule| chosen(book, flow, rule, at));
        let charge = tariff::charge(book, &from, &to, scope, at, &mut usage, bytes);
        match charge.total {
            Some(total) => priced.spent += total,
            None => priced.unpriced = priced.unpriced.saturating_add(bytes),
        }
        if charge.estimated {
            priced.estimated = priced.estimated.saturating_add(bytes);
        }
    }
    priced
}

fn chosen(book: &Book, flow: &Flow, rule: WhatIfRule, at: Date) -> Scope {
    let (from, to) = (flow.from.location(), flow.to.location());
    match rule {
        WhatIfRule::Basic => Scope::Public,
        WhatIfRule::CbNetwork => ancestors_cost_rule(&in_one_subnet(from), &in_one_subnet(to)),
        WhatIfRule::CostPrioritized | WhatIfRule::LatencyPrioritized | WhatIfRule::Balanced => {
            let inside = same_vpc(&from, &to).is_ok().then_some(Scope::Private);
            let scopes: BTreeSet<Scope> =
                [Some(Scope::Public), Some(flow.scope), inside].into_iter().flatten().collect();
            let price = |scope: &Scope| {
                let quote = tariff::cost(book, &from, &to, *scope, at, &PoolUsage::FirstPaid);
                (quote.per_gb.is_none(), quote.per_gb, *scope)
            };
            scopes.into_iter().min_by_key(price).unwrap_or(flow.scope)
        }
    }
}

fn in_one_subnet(location: CloudLocation) -> CloudLocation {
    CloudLocation { subnet: location.zone.clone(), ..location }
}
