//! What path rules say about a pair.

use std::{collections::BTreeSet, time::Duration};

use super::{Party, PathRule, Rule, RuleSet};
use crate::{
    EncryptionPolicy, RuleId, RuleType, Scope,
    path::{Author, Authors, Encryption, Limits, PairPolicy, Policy},
    tariff::Price,
};

/// What differs for a pair from what its network says, each thing with the rule that states it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathOverrides {
    pub prefer: Option<Stated<Scope>>,
    pub forbid: Option<Stated<BTreeSet<Scope>>>,
    pub encryption: Option<Stated<EncryptionPolicy>>,
    pub rule_type: Option<Stated<RuleType>>,
    pub max_rtt: Option<Stated<Duration>>,
    pub max_price_per_gb: Option<Stated<Price>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated<T> {
    pub value: T,
    pub by: RuleId,
}

/// What holds for packets from one peer to another: of each thing, what the first rule that states it says. What both
/// ends must agree on, encryption, is as the rules of either direction say it; `always` goes before.
pub fn overrides(rules: &RuleSet, from: &Party<'_>, to: &Party<'_>) -> PathOverrides {
    let mut result = PathOverrides::default();
    for (rule, path) in rules.path_rules().filter(|(_, path)| applies(path, from, to)) {
        result.take(rule, path);
    }
    let mut back = rules.path_rules().filter(|(_, path)| path.encryption.is_some() && applies(path, to, from));
    let back = back.find_map(|(rule, path)| stated(rule, path.encryption.as_ref()));
    let is_always = |stated: &Stated<EncryptionPolicy>| stated.value == EncryptionPolicy::Always;
    let (there, back) = (result.encryption.take(), back);
    result.encryption = match (there, back) {
        (Some(there), Some(back)) if is_always(&back) && !is_always(&there) => Some(back),
        (there, back) => there.or(back),
    };
    result
}

/// What holds for packets from one peer to another: what the network says, but for what path rules state.
pub fn policy(rules: &RuleSet, network: &PairPolicy, from: &Party<'_>, to: &Party<'_>) -> PairPolicy {
    overrides(rules, from, to).over(network)
}

fn applies(path: &PathRule, from: &Party<'_>, to: &Party<'_>) -> bool {
    path.from.matches(from) && path.to.matches(to)
}

fn stated<T: Clone>(rule: &Rule, value: Option<&T>) -> Option<Stated<T>> {
    value.map(|value| Stated { value: value.clone(), by: rule.id.clone() })
}

impl PathOverrides {
    /// What the network says, with what these state in its place.
    pub fn over(self, network: &PairPolicy) -> PairPolicy {
        let PairPolicy { mut paths, mut encryption } = network.clone();
        let Policy { rule_type, limits: Limits { max_rtt, max_price_per_gb, forbid }, prefer, authors, .. } =
            &mut paths;
        let Authors { rule_type: by_rule_type, prefer: by_prefer, forbid: by_forbid, .. } = authors;
        lay(self.rule_type, rule_type, by_rule_type);
        lay(self.prefer.map(Stated::into_some), prefer, by_prefer);
        lay(self.forbid, forbid, by_forbid);
        lay(self.max_rtt.map(Stated::into_some), max_rtt, &mut authors.max_rtt);
        lay(self.max_price_per_gb.map(Stated::into_some), max_price_per_gb, &mut authors.max_price_per_gb);
        let Encryption { policy, by } = &mut encryption;
        lay(self.encryption, policy, by);
        PairPolicy { paths, encryption }
    }

    /// Takes what no rule before has stated.
    fn take(&mut self, rule: &Rule, path: &PathRule) {
        let PathRule { prefer, forbid, encryption, rule_type, max_rtt, max_price_per_gb, .. } = path;
        or(&mut self.prefer, || stated(rule, prefer.as_ref()));
        or(&mut self.forbid, || stated(rule, Some(forbid).filter(|forbid| !forbid.is_empty())));
        or(&mut self.encryption, || stated(rule, encryption.as_ref()));
        or(&mut self.rule_type, || stated(rule, rule_type.as_ref()));
        or(&mut self.max_rtt, || stated(rule, max_rtt.as_ref()));
        or(&mut self.max_price_per_gb, || stated(rule, max_price_per_gb.as_ref()));
    }
}

impl<T> Stated<T> {
    fn into_some(self) -> Stated<Option<T>> {
        Stated { value: Some(self.value), by: self.by }
    }
}

fn or<T>(slot: &mut Option<T>, other: impl FnOnce() -> Option<T>) {
    if slot.is_none() {
        *slot = other();
    }
}

fn lay<T>(stated: Option<Stated<T>>, slot: &mut T, author: &mut Author) {
    if let Some(Stated { value, by }) = stated {
        (*slot, *author) = (value, Author(Some(by)));
    }
}
