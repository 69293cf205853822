//! What a month's traffic costs between sixty machines in twenty regions, three to a region, under each of our rule types and under
//! both rules of cb-network, the ancestor. The traffic is fixed, and so is the day of the prices.
//!
//! Between regions, AWS and GCP take the same for private and public addresses, and another cloud is always the internet: what
//! the rules differ in is what is paid inside regions.

use anyhow::{Context as _, Result};
use cladnet_model::{
    CloudLocation, RuleType, Scope,
    path::{Policy, ancestors_cost_rule, rank},
    tariff::{AttoUsd, Book, GB, PoolUsage, cost},
};

use super::fleet::{DAY, Fleet};
use crate::report::{Better, Report};

const MACHINES: usize = 60;

/// From each machine to each other of its region in a month.
const INSIDE: u64 = 500 * GB;
/// To each machine of another region.
const BETWEEN: u64 = 5 * GB;

/// Who chooses the paths.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Ours(RuleType),
    Ancestor(fn(&CloudLocation, &CloudLocation) -> Scope),
}

const RULES: [(&str, Rule); 6] = [
    ("basic", Rule::Ours(RuleType::Basic)),
    ("cost_prioritized", Rule::Ours(RuleType::CostPrioritized)),
    ("latency_prioritized", Rule::Ours(RuleType::LatencyPrioritized)),
    ("balanced", Rule::Ours(RuleType::Balanced)),
    ("ancestor_basic", Rule::Ancestor(|_, _| Scope::Public)),
    ("ancestor_cost_prioritized", Rule::Ancestor(ancestors_cost_rule)),
];

pub(super) fn measure(report: &mut Report) -> Result<()> {
    let (fleet, book) = (Fleet::of(MACHINES)?, Book::shipped());
    for (name, rule) in RULES {
        let month = month(&fleet, &book, rule)?;
        let usd = month.spent.round().0 as f64 / 1e9;
        report.add(format!("month_{name}"), usd, "USD", Better::Lower, None);
        let unpriced = month.unpriced as f64 / GB as f64;
        report.add(format!("month_{name}_unpriced"), unpriced, "GB", Better::Lower, None);
    }
    Ok(())
}

/// A month's bill.
#[derive(Debug, Default)]
struct Month {
    spent: AttoUsd,
    /// Bytes whose price the book does not know.
    unpriced: u64,
}

fn month(fleet: &Fleet, book: &Book, rule: Rule) -> Result<Month> {
    let mut month = Month::default();
    for from in 0..fleet.machines.len() {
        for to in (0..fleet.machines.len()).filter(|to| *to != from) {
            let (source, destination) = (&fleet.machines[from], &fleet.machines[to]);
            let bytes = if source.region == destination.region { INSIDE } else { BETWEEN };
            let scope = match rule {
                Rule::Ours(rule_type) => ours(fleet, book, rule_type, from, to)?,
                Rule::Ancestor(choice) => choice(&source.location, &destination.location),
            };
            let quote = cost(book, &source.location, &destination.location, scope, DAY, &PoolUsage::FirstPaid);
            match quote.per_gb {
                Some(price) => month.spent += price.times(bytes),
                None => month.unpriced += bytes,
            }
        }
    }
    Ok(month)
}

fn ours(fleet: &Fleet, book: &Book, rule_type: RuleType, from: usize, to: usize) -> Result<Scope> {
    let candidates = fleet.candidates(book, from, to);
    let seen = fleet.measurements(from, &candidates, to);
    let ranked = rank(&Policy::new(rule_type), candidates, &seen);
    let best = ranked.iter().find(|ranked| ranked.rank == Some(1)).context("a pair has no path")?;
    Ok(best.candidate.endpoint.scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_first_never_costs_more_than_the_ancestor() {
        let (fleet, book) = (Fleet::of(MACHINES).expect("a fleet"), Book::shipped());
        let bill = |rule| month(&fleet, &book, rule).expect("every pair has a path");
        let ours = bill(Rule::Ours(RuleType::CostPrioritized));
        for (name, rule) in RULES {
            let theirs = bill(rule);
            assert_eq!(ours.unpriced, theirs.unpriced, "{name}");
            assert!(ours.spent <= theirs.spent, "{name}: {:?} and {:?}", ours.spent.round(), theirs.spent.round());
        }
        let ancestor = bill(Rule::Ancestor(ancestors_cost_rule));
        assert!(ours.spent < ancestor.spent, "two subnets of one zone cost the ancestor nothing");
    }
}
