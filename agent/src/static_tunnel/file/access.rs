//! The `[access]` table of a static tunnel's file: who may reach this host through it.

use std::ops::RangeInclusive;

use cladnet_tunnel::{Access, AccessRule, Action, Traffic};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, de};

/// Numbers of IP protocols, as IANA assigns them.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessTable {
    default: Verdict,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    action: Verdict,
    #[serde(default = "every_address")]
    sources: Vec<IpNet>,
    #[serde(default = "every_address")]
    destinations: Vec<IpNet>,
    /// Absent: all traffic.
    traffic: Option<Protocol>,
    /// `"443"` or `"8000-8100"`; absent: all ports.
    #[serde(default, deserialize_with = "ports")]
    ports: Option<Vec<RangeInclusive<u16>>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Deny,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl From<AccessTable> for Access {
    fn from(table: AccessTable) -> Self {
        Self { rules: table.rules.into_iter().map(Into::into).collect(), default: table.default.into() }
    }
}

impl From<Rule> for AccessRule {
    fn from(rule: Rule) -> Self {
        let protocol = rule.traffic.map(Protocol::number);
        let traffic = match (protocol, rule.ports) {
            (None, _) => Traffic::All,
            (Some(protocol), None) => Traffic::Protocol(protocol),
            (Some(protocol), Some(ports)) => Traffic::Ports { protocol, ports },
        };
        Self { action: rule.action.into(), sources: rule.sources, destinations: rule.destinations, traffic }
    }
}

impl From<Verdict> for Action {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny => Self::Deny,
        }
    }
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
            Self::Icmp => ICMP,
        }
    }
}

fn every_address() -> Vec<IpNet> {
    vec![Ipv4Net::default().into(), Ipv6Net::default().into()]
}

fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<RangeInclusive<u16>>>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed: Option<Vec<_>> = texts.iter().map(|text| range(text)).collect();
    parsed.map(Some).ok_or_else(|| de::Error::custom("ports are written \"443\" or \"8000-8100\""))
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}
