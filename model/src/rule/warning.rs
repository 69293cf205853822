//! What is allowed in rules, and hardly meant.

use std::fmt;

use ipnet::IpNet;

use super::{Broken, Member, Rule, RuleKind, RuleSet, Side, check_expectations};
use crate::RuleId;

/// What a person should look at; its text is a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("rule {rule} matches nobody now: no peer is {field} {side}")]
    Nobody { rule: RuleId, field: &'static str, side: String },
    #[error("rule {rule} has no effect: rule {by}, before it, matches all that it does")]
    Shadowed { rule: RuleId, by: RuleId },
    #[error("rule {rule} contradicts rule {by}, which comes first and does the opposite with all that it matches")]
    Contradicted { rule: RuleId, by: RuleId },
    #[error("rule {rule} selects {count} peers for one subnet: {owner} stands before it, the others do not")]
    Several { rule: RuleId, count: usize, owner: String },
    #[error(
        "rule {rule} means {name} by cladnet/name, and {count} peers call themselves so: a machine chooses its name; give labels, or name cladnet/host"
    )]
    Namesakes { rule: RuleId, name: String, count: usize },
    #[error(
        "{host} does not use {prefix} of rule {rule}, for it has a route {route} of its own{}; map the subnet to another prefix",
        Others(*.others)
    )]
    Owned { rule: RuleId, prefix: IpNet, host: String, route: IpNet, others: usize },
    #[error("test {test:?} proves nothing now: nobody is {nobody}")]
    Untested { test: String, nobody: String },
    /// It held when the rules were made: a host that joins is not kept out for it.
    #[error("test {0}")]
    Failing(Broken),
}

/// How many do the same.
struct Others(usize);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            others => write!(f, ", nor do {others} others"),
        }
    }
}

/// Everything of that kind that rules and labels show, in the order of the rules.
pub fn warnings(rules: &RuleSet, members: &[Member]) -> Vec<Warning> {
    let enabled: Vec<&Rule> = rules.enabled().collect();
    let mut warnings: Vec<Warning> = Vec::new();
    for (index, rule) in enabled.iter().enumerate() {
        warnings.extend(nobody(rule, rules, members));
        warnings.extend(several(rule, members));
        warnings.extend(namesakes(rule, members));
        warnings.extend(enabled[..index].iter().find_map(|earlier| shadow(earlier, rule)));
    }
    let untested = rules
        .tests
        .iter()
        .filter_map(|test| Some(Warning::Untested { nobody: test.nobody(members)?, test: test.to_string() }));
    warnings.extend(untested);
    warnings.extend(check_expectations(rules, members).into_iter().map(Warning::Failing));
    warnings
}

fn nobody(rule: &Rule, rules: &RuleSet, members: &[Member]) -> Option<Warning> {
    let warning = |field, side: String| Warning::Nobody { rule: rule.id.clone(), field, side };
    let sides = match &rule.kind {
        RuleKind::Access(access) => [("from", &access.from), ("to", &access.to)],
        RuleKind::Path(path) => [("from", &path.from), ("to", &path.to)],
        RuleKind::Advertise(advertise) => {
            let selected = members.iter().any(|member| advertise.via.matches(&member.labels));
            return (!selected).then(|| warning("via", advertise.via.to_string()));
        }
    };
    let empty = sides.into_iter().find(|(_, side)| !is_somebody(side, rules, members));
    empty.map(|(field, side)| warning(field, side.to_string()))
}

fn is_somebody(side: &Side, rules: &RuleSet, members: &[Member]) -> bool {
    let behind = |prefix: &IpNet| {
        rules.advertise_rules().any(|(_, advertise)| super::advertise::overlap(*prefix, advertise.visible()))
    };
    match side {
        Side::Any => true,
        Side::Peers(selector) => members.iter().any(|member| selector.matches(&member.labels)),
        Side::Prefixes(prefixes) => {
            members.iter().filter_map(Member::party).any(|party| side.matches(&party)) || prefixes.iter().any(behind)
        }
    }
}

fn several(rule: &Rule, members: &[Member]) -> Option<Warning> {
    let RuleKind::Advertise(advertise) = &rule.kind else { return None };
    let selected: Vec<_> = members.iter().filter(|member| advertise.via.matches(&member.labels)).collect();
    let owner = selected.iter().min_by_key(|member| &member.host)?;
    (selected.len() > 1).then(|| Warning::Several {
        rule: rule.id.clone(),
        count: selected.len(),
        owner: owner.name.clone(),
    })
}

fn namesakes(rule: &Rule, members: &[Member]) -> Option<Warning> {
    let of_side = |side: &Side| -> Vec<String> {
        match side {
            Side::Peers(selector) => selector.names().map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    let names: Vec<String> = match &rule.kind {
        RuleKind::Access(access) => [of_side(&access.from), of_side(&access.to)].concat(),
        RuleKind::Path(path) => [of_side(&path.from), of_side(&path.to)].concat(),
        RuleKind::Advertise(advertise) => advertise.via.names().map(str::to_owned).collect(),
    };
    names.into_iter().find_map(|name| {
        let count = members.iter().filter(|member| member.name == name).count();
        (count > 1).then(|| Warning::Namesakes { rule: rule.id.clone(), name, count })
    })
}

/// Whether `earlier` leaves nothing to `rule`.
fn shadow(earlier: &Rule, rule: &Rule) -> Option<Warning> {
    let (rule_id, by) = (rule.id.clone(), earlier.id.clone());
    match (&earlier.kind, &rule.kind) {
        (RuleKind::Access(first), RuleKind::Access(second)) => {
            let covers =
                first.from.covers(&second.from) && first.to.covers(&second.to) && first.traffic.covers(&second.traffic);
            covers.then(|| match first.action == second.action {
                true => Warning::Shadowed { rule: rule_id, by },
                false => Warning::Contradicted { rule: rule_id, by },
            })
        }
        (RuleKind::Path(first), RuleKind::Path(second)) => {
            let states = |ours: bool, theirs: bool| ours || !theirs;
            let all = states(first.prefer.is_some(), second.prefer.is_some())
                && states(!first.forbid.is_empty(), !second.forbid.is_empty())
                && states(first.encryption.is_some(), second.encryption.is_some())
                && states(first.rule_type.is_some(), second.rule_type.is_some())
                && states(first.max_rtt.is_some(), second.max_rtt.is_some())
                && states(first.max_price_per_gb.is_some(), second.max_price_per_gb.is_some());
            let covers = all && first.from.covers(&second.from) && first.to.covers(&second.to);
            covers.then_some(Warning::Shadowed { rule: rule_id, by })
        }
        _ => None,
    }
}
