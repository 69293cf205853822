//! What path rules say about a pair.

use std::{collections::BTreeSet, time::Duration};

use super::{Party, PathRule, RuleSet};
use crate::{
    EncryptionPolicy, RuleId, RuleType, Scope,
    path::{Limits, Policy},
    tariff::Price,
};

/// What differs for a pair from what its network says. Absent: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathOverrides {
    pub prefer: Option<Scope>,
    pub forbid: BTreeSet<Scope>,
    pub encryption: Option<EncryptionPolicy>,
    pub rule_type: Option<RuleType>,
    pub max_rtt: Option<Duration>,
    /// Nano USD for 10^9 bytes.
    pub max_price_per_gb: Option<u64>,
    /// The rules that had a say, in their order.
    pub by: Vec<RuleId>,
}

/// What holds for packets from one peer to another: of each thing, what the first rule that states it says. What both
/// ends must agree on, encryption, is as the rules of either direction say it; `always` goes before.
pub fn overrides(rules: &RuleSet, from: &Party<'_>, to: &Party<'_>) -> PathOverrides {
    let mut result = PathOverrides::default();
    for (rule, path) in rules.path_rules().filter(|(_, path)| applies(path, from, to)) {
        let before = result.clone();
        result.take(path);
        if result != before {
            result.by.push(rule.id.clone());
        }
    }
    let back = rules
        .path_rules()
        .filter(|(_, path)| applies(path, to, from))
        .find_map(|(rule, path)| Some((rule, path.encryption?)));
    match (result.encryption, back) {
        (Some(EncryptionPolicy::Always), _) | (_, None) => {}
        (_, Some((rule, encryption))) if result.encryption.is_none() || encryption == EncryptionPolicy::Always => {
            result.encryption = Some(encryption);
            if !result.by.contains(&rule.id) {
                result.by.push(rule.id.clone());
            }
        }
        _ => {}
    }
    result
}

/// How the paths from one peer to another are ranked: as the network says, but for what rules state.
pub fn policy(rules: &RuleSet, network: &Policy, from: &Party<'_>, to: &Party<'_>) -> Policy {
    overrides(rules, from, to).over(network)
}

fn applies(path: &PathRule, from: &Party<'_>, to: &Party<'_>) -> bool {
    path.from.matches(from) && path.to.matches(to)
}

impl PathOverrides {
    /// The network's policy with what these state in place of what it does.
    pub fn over(&self, network: &Policy) -> Policy {
        let limits = Limits {
            max_rtt: self.max_rtt.or(network.limits.max_rtt),
            max_price_per_gb: self.max_price_per_gb.map(Price).or(network.limits.max_price_per_gb),
            forbid: if self.forbid.is_empty() { network.limits.forbid.clone() } else { self.forbid.clone() },
        };
        Policy {
            rule_type: self.rule_type.unwrap_or(network.rule_type),
            limits,
            prefer: self.prefer.or(network.prefer),
            ..network.clone()
        }
    }

    fn take(&mut self, path: &PathRule) {
        self.prefer = self.prefer.or(path.prefer);
        if self.forbid.is_empty() {
            self.forbid = path.forbid.clone();
        }
        self.encryption = self.encryption.or(path.encryption);
        self.rule_type = self.rule_type.or(path.rule_type);
        self.max_rtt = self.max_rtt.or(path.max_rtt);
        self.max_price_per_gb = self.max_price_per_gb.or(path.max_price_per_gb);
    }
}
