//! Rules (`rule.proto`): the wire has them as people write them, and so does [`RuleDraft`].

use cladnet_model::rule::{Advertised, NetworkRules, RuleDraft, RuleSet, RulesDraft, Warning};

use super::{given, timestamp};
use crate::cladnet::v1::{self, AdvertisedPrefix, PendingSubnet, ReplaceRulesRequest, RuleDocument};

impl From<v1::Rule> for RuleDraft {
    fn from(wire: v1::Rule) -> Self {
        Self {
            id: wire.id.filter(|id| !id.is_empty()),
            kind: wire.kind,
            comment: wire.comment,
            enabled: wire.enabled,
            from: wire.from,
            to: wire.to,
            action: wire.action,
            protocol: wire.protocol,
            ports: wire.ports,
            prefix: wire.prefix,
            via: wire.via,
            snat: wire.snat,
            mapped: wire.mapped,
            prefer: wire.prefer,
            forbid: wire.forbid,
            encryption: wire.encryption,
            rule_type: wire.rule_type,
            max_rtt_ms: wire.max_rtt_ms,
            max_usd_per_gb: wire.max_usd_per_gb,
        }
    }
}

impl From<RuleDraft> for v1::Rule {
    fn from(draft: RuleDraft) -> Self {
        Self {
            id: draft.id,
            kind: draft.kind,
            comment: draft.comment,
            enabled: draft.enabled,
            from: draft.from,
            to: draft.to,
            action: draft.action,
            protocol: draft.protocol,
            ports: draft.ports,
            prefix: draft.prefix,
            via: draft.via,
            snat: draft.snat,
            mapped: draft.mapped,
            prefer: draft.prefer,
            forbid: draft.forbid,
            encryption: draft.encryption,
            rule_type: draft.rule_type,
            max_rtt_ms: draft.max_rtt_ms,
            max_usd_per_gb: draft.max_usd_per_gb,
        }
    }
}

/// The document of a request.
pub fn rules_draft(request: ReplaceRulesRequest) -> RulesDraft {
    RulesDraft {
        default_access: request.default_access.filter(|word| !word.is_empty()),
        rules: request.rules.into_iter().map(RuleDraft::from).collect(),
        tests: request.tests,
    }
}

/// The rules of a network as the API shows them.
pub fn rules(rules: &NetworkRules, warnings: &[Warning], pending: Vec<PendingSubnet>) -> v1::Rules {
    v1::Rules {
        network_id: rules.network.to_string(),
        generation: rules.generation,
        changed_at: (rules.generation > 0).then(|| timestamp(rules.changed_at)),
        default_access: rules.rules.default_access.to_string(),
        rules: wire_rules(&rules.rules),
        tests: rules.rules.tests.iter().map(ToString::to_string).collect(),
        warnings: warnings.iter().map(ToString::to_string).collect(),
        pending,
    }
}

/// What is behind a peer, as agents get it.
pub fn advertised(behind: &[Advertised]) -> Vec<AdvertisedPrefix> {
    let wire = |one: &Advertised| AdvertisedPrefix {
        prefix: one.prefix.to_string(),
        snat: one.snat,
        mapped_from: one.mapped_from.map(|real| real.to_string()).unwrap_or_default(),
        rule_id: one.rule.to_string(),
    };
    behind.iter().map(wire).collect()
}

/// The rules as agents get them; none if there is nothing to tell.
pub fn rule_document(rules: &RuleSet) -> Option<RuleDocument> {
    let default = RuleSet::default();
    let is_default = rules.rules.is_empty() && rules.default_access == default.default_access;
    let document = RuleDocument { default_access: rules.default_access.to_string(), rules: wire_rules(rules) };
    (!is_default).then_some(document)
}

/// What an agent got.
pub fn rule_document_draft(wire: &RuleDocument) -> RulesDraft {
    RulesDraft {
        default_access: given(&wire.default_access).map(str::to_owned),
        rules: wire.rules.iter().cloned().map(RuleDraft::from).collect(),
        tests: Vec::new(),
    }
}

fn wire_rules(rules: &RuleSet) -> Vec<v1::Rule> {
    rules.rules.iter().map(|rule| RuleDraft::from(rule).into()).collect()
}
