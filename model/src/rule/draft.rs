//! Rules as people write them, in files and over the API: checked here, every fault told with its field.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    AccessRule, AdvertiseRule, Expectation, PathRule, Rule, RuleKind, RuleSet, Side, SyntaxError, Traffic,
    check_subnet, side::prefix, traffic::PortRange,
};
use crate::{
    RuleId, Scope,
    path::{Limits, MAX_RTT_MS},
    validate::{Checks, InvalidInput, check_text},
    word::words,
};

/// As many as a person can keep in order.
pub const MAX_RULES: usize = 500;
pub const MAX_TESTS: usize = 500;
/// Bytes of all texts in a document: every agent of the network gets it with every change.
pub const MAX_TEXT: usize = 128 * 1024;
/// Longest comment, in characters.
const MAX_COMMENT: usize = 200;
/// Longest test, in characters.
const MAX_TEST: usize = 500;

/// A document of rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RulesDraft {
    /// Absent: allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_access: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleDraft>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<String>,
}

/// One rule; which fields it may have depends on its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuleDraft {
    /// Absent: `rule-` and its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Absent: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snat: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbid: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rtt_ms: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_usd_per_gb: Option<String>,
}

/// What a rule is about; see [`RuleKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KindWord {
    Access,
    Advertise,
    Path,
}

words!(KindWord {
    Access = "access",
    Advertise = "advertise",
    Path = "path",
});

impl RulesDraft {
    /// All fields checked, all faults told.
    pub fn check(&self) -> Result<RuleSet, InvalidInput> {
        let mut checks = Checks::default();
        checks.field("rules", within(self.rules.len(), MAX_RULES, "rules"));
        checks.field("tests", within(self.tests.len(), MAX_TESTS, "tests"));
        checks.field("rules", within(self.length(), MAX_TEXT, "bytes of text"));
        checks.finish()?;

        let mut checks = Checks::default();
        let default = self.default_access.as_deref().map(str::parse);
        let default_access = checks.optional("default_access", default).unwrap_or_default();
        let mut first = BTreeMap::new();
        let places = self.rules.iter().enumerate();
        let rules = places.filter_map(|(index, draft)| {
            let rule = draft.check_at(index, &mut checks)?;
            let earlier = first.insert(rule.id.clone(), index).map_or(Ok(()), |first| {
                Err(format!("is {}, as that of rules[{first}] already; give every rule an id of its own", rule.id))
            });
            checks.field(&format!("rules[{index}].id"), earlier).map(|()| rule)
        });
        let rules = rules.collect();
        let tests = self.tests.iter().enumerate();
        let tests = tests.filter_map(|(index, text)| checks.field(&format!("tests[{index}]"), check_test(text)));
        let tests = tests.collect();
        checks.conclude(Some(RuleSet { default_access, rules, tests }))
    }

    fn length(&self) -> usize {
        self.rules.iter().map(RuleDraft::length).chain(self.tests.iter().map(String::len)).sum()
    }
}

impl RuleDraft {
    /// The rule, if it stands at this place of its document.
    fn check_at(&self, index: usize, checks: &mut Checks) -> Option<Rule> {
        let at = |field: &str| format!("rules[{index}].{field}");
        let place = || format!("rule-{}", index + 1).parse::<RuleId>();
        let id = checks.field(&at("id"), self.id.as_deref().map_or_else(place, str::parse));
        checks.field(&at("comment"), check_text(&self.comment, MAX_COMMENT));
        let kind = checks.field(&at("kind"), self.kind.parse::<KindWord>());
        for (field, _) in self.given().filter(|(_, belongs)| kind.is_some_and(|kind| !belongs.contains(&kind))) {
            let kind = kind.map_or("", KindWord::as_str);
            checks.field(&at(field), Err::<(), _>(format!("does not belong to a rule of kind {kind}; remove it")));
        }
        let kind = match kind? {
            KindWord::Access => self.access(&at, checks).map(RuleKind::Access),
            KindWord::Advertise => self.advertise(&at, checks).map(RuleKind::Advertise),
            KindWord::Path => self.path(&at, checks).map(RuleKind::Path),
        };
        Some(Rule { id: id?, comment: self.comment.clone(), enabled: self.enabled.unwrap_or(true), kind: kind? })
    }

    fn access(&self, at: &impl Fn(&str) -> String, checks: &mut Checks) -> Option<AccessRule> {
        let action = checks.field(&at("action"), required(self.action.as_deref(), "allow or deny", str::parse));
        let (from, to) = (self.side(&at("from"), &self.from, checks), self.side(&at("to"), &self.to, checks));
        let protocol =
            checks.field(&at("protocol"), self.protocol.as_deref().map_or(Ok(Default::default()), str::parse));
        let ports = self.ports.iter().map(|text| text.parse::<PortRange>()).collect::<Result<Vec<_>, _>>();
        let ports = checks.field(&at("ports"), ports);
        let traffic = checks.field(&at("ports"), Traffic::new(protocol?, ports?));
        Some(AccessRule { action: action?, from: from?, to: to?, traffic: traffic? })
    }

    fn advertise(&self, at: &impl Fn(&str) -> String, checks: &mut Checks) -> Option<AdvertiseRule> {
        let prefix =
            checks.field(&at("prefix"), required(self.prefix.as_deref(), "a CIDR such as 10.1.0.0/16", subnet));
        let via = required(self.via.as_deref(), "a selector of the peer that stands before the subnet", str::parse);
        let via = checks.field(&at("via"), via);
        let mapped = checks.optional(&at("mapped"), self.mapped.as_deref().map(subnet));
        let fits = match (prefix, mapped) {
            (Some(prefix), Some(mapped)) if mapped.prefix_len() != prefix.prefix_len() => {
                Err(format!("is {mapped}; give a prefix of the same length as {prefix}"))
            }
            _ => Ok(()),
        };
        checks.field(&at("mapped"), fits)?;
        Some(AdvertiseRule { prefix: prefix?, via: via?, snat: self.snat.unwrap_or(true), mapped })
    }

    fn path(&self, at: &impl Fn(&str) -> String, checks: &mut Checks) -> Option<PathRule> {
        let (from, to) = (self.side(&at("from"), &self.from, checks), self.side(&at("to"), &self.to, checks));
        let prefer = checks.optional(&at("prefer"), self.prefer.as_deref().map(str::parse::<Scope>));
        let forbid = self.forbid.iter().map(|scope| scope.parse::<Scope>()).collect::<Result<_, _>>();
        let forbid = checks.field(&at("forbid"), forbid);
        let encryption = checks.optional(&at("encryption"), self.encryption.as_deref().map(str::parse));
        let rule_type = checks.optional(&at("rule_type"), self.rule_type.as_deref().map(str::parse));
        let max_rtt = checks.optional(&at("max_rtt_ms"), self.max_rtt_ms.map(round_trip));
        let max_price_per_gb = checks.optional(&at("max_usd_per_gb"), self.max_usd_per_gb.as_deref().map(str::parse));
        let rule = PathRule {
            from: from?,
            to: to?,
            prefer,
            forbid: forbid?,
            encryption,
            rule_type,
            max_rtt,
            max_price_per_gb,
        };
        let limits = Limits { forbid: rule.forbid.clone(), ..Limits::default() };
        checks.field(&at("forbid"), limits.leave_something(rule.rule_type))?;
        checks.field(&at("prefer"), sensible(&rule, &limits))?;
        Some(rule)
    }

    fn side(&self, field: &str, text: &Option<String>, checks: &mut Checks) -> Option<Side> {
        checks.field(field, text.as_deref().unwrap_or_default().parse())
    }

    /// The fields that are there, of those that not every kind has, with the kinds that have them.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static [KindWord])> {
        use KindWord::{Access, Advertise, Path};
        const BOTH_SIDES: &[KindWord] = &[Access, Path];
        let fields: [(bool, &'static str, &'static [KindWord]); 15] = [
            (self.from.is_some(), "from", BOTH_SIDES),
            (self.to.is_some(), "to", BOTH_SIDES),
            (self.action.is_some(), "action", &[Access]),
            (self.protocol.is_some(), "protocol", &[Access]),
            (!self.ports.is_empty(), "ports", &[Access]),
            (self.prefix.is_some(), "prefix", &[Advertise]),
            (self.via.is_some(), "via", &[Advertise]),
            (self.snat.is_some(), "snat", &[Advertise]),
            (self.mapped.is_some(), "mapped", &[Advertise]),
            (self.prefer.is_some(), "prefer", &[Path]),
            (!self.forbid.is_empty(), "forbid", &[Path]),
            (self.encryption.is_some(), "encryption", &[Path]),
            (self.rule_type.is_some(), "rule_type", &[Path]),
            (self.max_rtt_ms.is_some(), "max_rtt_ms", &[Path]),
            (self.max_usd_per_gb.is_some(), "max_usd_per_gb", &[Path]),
        ];
        fields.into_iter().filter(|(given, ..)| *given).map(|(_, field, kinds)| (field, kinds))
    }

    fn length(&self) -> usize {
        let texts = [&self.id, &self.from, &self.to, &self.prefix, &self.via, &self.mapped].into_iter().flatten();
        let lists = self.ports.iter().chain(&self.forbid).chain([&self.comment]);
        texts.chain(lists).map(String::len).sum()
    }
}

fn within(found: usize, most: usize, what: &str) -> Result<(), String> {
    if found > most { Err(format!("has {found} {what}; at most {most} are allowed")) } else { Ok(()) }
}

fn required<T, E: Display>(text: Option<&str>, what: &str, parse: fn(&str) -> Result<T, E>) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("is missing; give {what}"))?;
    parse(text).map_err(|error| error.to_string())
}

/// A subnet that a peer may stand before.
fn subnet(text: &str) -> Result<IpNet, String> {
    match prefix(text).map_err(|error| error.to_string())? {
        IpNet::V6(_) => Err("is of IPv6, which no network carries yet; give an IPv4 CIDR".to_owned()),
        IpNet::V4(subnet) => check_subnet(subnet).map(|()| subnet.into()).map_err(|error| error.to_string()),
    }
}

fn check_test(text: &str) -> Result<Expectation, String> {
    check_text(text, MAX_TEST).map_err(|error| error.to_string())?;
    text.parse().map_err(|error: SyntaxError| error.to_string())
}

/// A network takes 0 for no limit; a rule that states none leaves it out.
fn round_trip(ms: u32) -> Result<Duration, String> {
    match ms {
        1..=MAX_RTT_MS => Ok(Duration::from_millis(ms.into())),
        _ => Err(format!("is {ms}; use 1 to {MAX_RTT_MS}")),
    }
}

/// A rule that states nothing does nothing, and nobody can prefer what the same rule forbids.
fn sensible(rule: &PathRule, limits: &Limits) -> Result<(), String> {
    let PathRule { prefer, forbid, encryption, rule_type, max_rtt, max_price_per_gb, .. } = rule;
    let states = [encryption.is_some(), rule_type.is_some(), max_rtt.is_some(), max_price_per_gb.is_some()];
    match prefer {
        Some(scope) if limits.forbids(*scope) => Err(format!("is {scope}, which the same rule forbids")),
        None if forbid.is_empty() && !states.contains(&true) => Err(
            "is missing, and nothing else is stated; state prefer, forbid, encryption, rule_type, max_rtt_ms or max_usd_per_gb".to_owned(),
        ),
        _ => Ok(()),
    }
}

impl TryFrom<RulesDraft> for RuleSet {
    type Error = InvalidInput;

    fn try_from(draft: RulesDraft) -> Result<Self, InvalidInput> {
        draft.check()
    }
}

impl From<RuleSet> for RulesDraft {
    fn from(rules: RuleSet) -> Self {
        Self {
            default_access: Some(rules.default_access.to_string()),
            rules: rules.rules.iter().map(Into::into).collect(),
            tests: rules.tests.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&Rule> for RuleDraft {
    fn from(rule: &Rule) -> Self {
        let side = |side: &Side| Some(side.to_string());
        let common = Self {
            id: Some(rule.id.to_string()),
            comment: rule.comment.clone(),
            enabled: (!rule.enabled).then_some(false),
            ..Self::default()
        };
        match &rule.kind {
            RuleKind::Access(access) => Self {
                kind: KindWord::Access.to_string(),
                from: side(&access.from),
                to: side(&access.to),
                action: Some(access.action.to_string()),
                protocol: Some(access.traffic.protocol().to_string()),
                ports: access.traffic.ports().iter().map(ToString::to_string).collect(),
                ..common
            },
            RuleKind::Advertise(advertise) => Self {
                kind: KindWord::Advertise.to_string(),
                prefix: Some(advertise.prefix.to_string()),
                via: Some(advertise.via.to_string()),
                snat: (!advertise.snat).then_some(false),
                mapped: advertise.mapped.map(|mapped| mapped.to_string()),
                ..common
            },
            RuleKind::Path(path) => Self {
                kind: KindWord::Path.to_string(),
                from: side(&path.from),
                to: side(&path.to),
                prefer: path.prefer.map(|scope| scope.to_string()),
                forbid: path.forbid.iter().map(ToString::to_string).collect(),
                encryption: path.encryption.map(|policy| policy.to_string()),
                rule_type: path.rule_type.map(|rule_type| rule_type.to_string()),
                max_rtt_ms: path.max_rtt.map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)),
                max_usd_per_gb: path.max_price_per_gb.map(|price| price.to_string()),
                ..common
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tariff::Price;

    fn document(rules: serde_json::Value) -> RulesDraft {
        serde_json::from_value(rules).unwrap()
    }

    #[test]
    fn every_fault_of_a_document_is_told_with_its_field() {
        let error = document(serde_json::json!({
            "default_access": "maybe",
            "rules": [
                {"kind": "access", "action": "allow", "from": "role in web", "protocol": "icmp", "ports": ["22"]},
                {"kind": "acess"},
                {"kind": "advertise", "prefix": "10.1.0.5/16", "to": "any"},
                {"kind": "path", "prefer": "public", "forbid": ["public"]},
                {"kind": "path", "max_usd_per_gb": "2 cents", "rule_type": "fastest"},
                {"kind": "path"},
                {"id": "same", "kind": "access", "action": "deny"},
                {"id": "same", "kind": "access", "ports": ["9-8"], "protocol": "tcp"},
                {"kind": "path", "prefer": "public-v6", "forbid": ["public"]},
                {"kind": "path", "max_rtt_ms": 0},
                {"kind": "path", "max_rtt_ms": 60_001},
                {"kind": "path", "forbid": ["private", "public"]},
                {"kind": "path", "rule_type": "basic", "forbid": ["public"]},
                {"kind": "path", "rule_type": "basic", "forbid": ["public-v6", "private"]},
            ],
            "tests": ["a reaches b"],
        }))
        .check()
        .unwrap_err();
        let fields: Vec<&str> = error.0.iter().map(|invalid| invalid.field.as_str()).collect();
        for field in [
            "default_access",
            "rules[0].from",
            "rules[0].ports",
            "rules[1].kind",
            "rules[2].to",
            "rules[2].prefix",
            "rules[2].via",
            "rules[3].prefer",
            "rules[4].max_usd_per_gb",
            "rules[4].rule_type",
            "rules[5].prefer",
            "rules[7].action",
            "rules[7].ports",
            "rules[8].prefer",
            "rules[9].max_rtt_ms",
            "rules[10].max_rtt_ms",
            "rules[11].forbid",
            "rules[12].forbid",
            "tests[0]",
        ] {
            assert!(fields.contains(&field), "{field}: {error}");
        }
        assert!(!fields.contains(&"rules[13].forbid"), "public IPv4 is left: {error}");
        assert!(error.to_string().contains("rule type basic uses public addresses only"), "{error}");
    }

    #[test]
    fn two_rules_of_one_id_are_refused() {
        let rule = |id: Option<&str>| RuleDraft {
            id: id.map(str::to_owned),
            kind: "access".to_owned(),
            action: Some("deny".to_owned()),
            ..RuleDraft::default()
        };
        let draft = RulesDraft { rules: vec![rule(Some("rule-2")), rule(None)], ..RulesDraft::default() };
        let error = draft.check().unwrap_err();
        assert_eq!(error.field(), "rules[1].id");
        assert!(error.to_string().contains("as that of rules[0]"), "{error}");
    }

    #[test]
    fn a_document_survives_its_stored_form() {
        let rules = document(serde_json::json!({
            "default_access": "deny",
            "rules": [
                {"id": "web", "kind": "access", "action": "allow", "from": "role=web", "to": "role in (db, cache)",
                 "protocol": "tcp", "ports": ["5432", "8000-8100"], "comment": "the shop"},
                {"kind": "advertise", "prefix": "10.20.0.0/16", "via": "role=gateway", "snat": false},
                {"kind": "path", "from": "10.1.0.0/16", "forbid": ["public", "public-v6"], "encryption": "always",
                 "rule_type": "latency-prioritized", "max_rtt_ms": 80, "max_usd_per_gb": "0.025", "enabled": false},
            ],
            "tests": ["expect: web-1 may reach db-1:5432"],
        }))
        .check()
        .unwrap();
        let stored = serde_json::to_value(&rules).unwrap();
        assert_eq!(serde_json::from_value::<RuleSet>(stored).unwrap(), rules);
        let RuleKind::Path(path) = &rules.rules[2].kind else { panic!("{:?}", rules.rules[2]) };
        assert_eq!(path.max_price_per_gb, Some(Price(25_000_000)));
        assert_eq!(rules.rules[2].id.as_str(), "rule-3");
    }

    #[test]
    fn too_much_is_refused() {
        let many = RulesDraft { rules: vec![RuleDraft::default(); MAX_RULES + 1], ..RulesDraft::default() };
        assert!(many.check().unwrap_err().to_string().contains("at most 500"));
        let long = RuleDraft { from: Some("a".repeat(MAX_TEXT + 1)), ..RuleDraft::default() };
        assert_eq!(RulesDraft { rules: vec![long], ..RulesDraft::default() }.check().unwrap_err().0.len(), 1);
    }
}
