//! What a network, or a rule of it, wants of the paths of a pair.

mod draft;

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use draft::MAX_RTT_MS;
pub use draft::PathSettingsDraft;

use super::Encryption;
use crate::{RuleId, RuleType, Scope, tariff::Price};

/// A tenth of a cent: 20 ms less are worth the 0.02 USD/GB that is usual between regions of one continent.
pub const DEFAULT_PRICE_PER_MS: Price = Price(1_000_000);
/// A cent: one packet in a hundred lost hurts as 10 ms more do.
pub const DEFAULT_PRICE_PER_LOSS_PERCENT: Price = Price(10_000_000);

/// How the paths of a pair are ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub rule_type: RuleType,
    /// What `balanced` pays per GB for a round trip that is 1 ms shorter.
    pub price_per_ms: Price,
    /// What `balanced` pays per GB for one percent less of loss.
    pub price_per_loss_percent: Price,
    pub limits: Limits,
    /// Goes before the others, whatever the rule type says, as long as it answers as well as they do.
    pub prefer: Option<Scope>,
    pub authors: Authors,
}

/// What holds for packets from one peer to another: which paths they take, and whether they may be read there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairPolicy {
    pub paths: Policy,
    pub encryption: Encryption,
}

impl PairPolicy {
    /// The path rules that have a say, each once.
    pub fn rules(&self) -> BTreeSet<&RuleId> {
        let Authors { rule_type, prefer, forbid, max_rtt, max_price_per_gb } = &self.paths.authors;
        let all = [rule_type, prefer, forbid, max_rtt, max_price_per_gb, &self.encryption.by];
        all.into_iter().filter_map(|author| author.0.as_ref()).collect()
    }
}

/// Who says something of a pair: a path rule, or else the network. Printed, it follows what is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Author(pub Option<RuleId>);

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |rule| write!(f, " (rule {rule})"))
    }
}

/// Who says each part of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authors {
    pub rule_type: Author,
    pub prefer: Author,
    pub forbid: Author,
    pub max_rtt: Author,
    pub max_price_per_gb: Author,
}

impl Policy {
    pub fn new(rule_type: RuleType) -> Self {
        Self::of(rule_type, PathSettings::default())
    }

    /// What a network states.
    pub fn of(rule_type: RuleType, settings: PathSettings) -> Self {
        let PathSettings { price_per_ms, price_per_loss_percent, limits } = settings;
        let authors = Authors::default();
        Self { rule_type, price_per_ms, price_per_loss_percent, limits, prefer: None, authors }
    }

    /// What no path of the pair may exceed, and who says so; empty if there is no limit.
    pub fn limits(&self) -> String {
        self.limits.parts(&self.authors).join(", ")
    }

    /// A price with the round trip and the loss counted in money; what was not measured counts nothing.
    pub(super) fn score(&self, price: Price, rtt: Option<Duration>, loss_permille: Option<u16>) -> Price {
        let microseconds = rtt.map_or(0, |rtt| rtt.as_micros());
        let delay = u128::from(self.price_per_ms.0) * microseconds / 1000;
        let loss = u128::from(self.price_per_loss_percent.0) * u128::from(loss_permille.unwrap_or(0)) / 10;
        Price(u64::try_from(u128::from(price.0) + delay + loss).unwrap_or(u64::MAX))
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(RuleType::default())
    }
}

/// What a network states of its paths beside the rule type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathSettings {
    pub price_per_ms: Price,
    pub price_per_loss_percent: Price,
    #[serde(flatten)]
    pub limits: Limits,
}

impl Default for PathSettings {
    fn default() -> Self {
        Self {
            price_per_ms: DEFAULT_PRICE_PER_MS,
            price_per_loss_percent: DEFAULT_PRICE_PER_LOSS_PERCENT,
            limits: Limits::default(),
        }
    }
}

impl fmt::Display for PathSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { price_per_ms, price_per_loss_percent, limits } = self;
        write!(
            f,
            "{price_per_ms} USD/GB for a millisecond and {price_per_loss_percent} for a percent of loss, {limits}"
        )
    }
}

impl PathSettings {
    /// Whether nothing was stated.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What no path may exceed: rather none than such a one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Of measured round trips. The path in use may exceed it by what a round trip varies, so that one at the limit is not
    /// left and taken back all the time.
    #[serde(rename = "max_rtt_ms", serialize_with = "to_ms", deserialize_with = "from_ms")]
    pub max_rtt: Option<Duration>,
    /// A path whose price is not known is not known to keep it, and is excluded.
    pub max_price_per_gb: Option<Price>,
    /// See [`Limits::forbids`].
    pub forbid: BTreeSet<Scope>,
}

impl Limits {
    /// Whether nothing may travel by endpoints of this scope. Who forbids `public` forbids the internet, by IPv6 as well.
    pub fn forbids(&self, scope: Scope) -> bool {
        self.forbid.contains(&scope) || (scope == Scope::PublicV6 && self.forbid.contains(&Scope::Public))
    }

    /// Refuses to forbid every scope that the rule type uses; of one that is not known every scope.
    pub(crate) fn leave_something(&self, rule_type: Option<RuleType>) -> Result<(), &'static str> {
        match () {
            () if [Scope::Private, Scope::Public, Scope::PublicV6].into_iter().all(|scope| self.forbids(scope)) => {
                Err("leaves no scope; public includes public-v6")
            }
            () if rule_type == Some(RuleType::Basic) && self.forbids(Scope::Public) => {
                Err("leaves nothing: rule type basic uses public addresses only")
            }
            () => Ok(()),
        }
    }
}

impl Limits {
    /// Each with who states it.
    fn parts(&self, by: &Authors) -> Vec<String> {
        let rtt = self.max_rtt.map(|limit| format!("at most {} ms{}", limit.as_millis(), by.max_rtt));
        let price = self.max_price_per_gb.map(|limit| format!("at most {limit} USD/GB{}", by.max_price_per_gb));
        let forbid = self.forbid.iter().map(|scope| format!("nothing by {scope} addresses{}", by.forbid));
        rtt.into_iter().chain(price).chain(forbid).collect()
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts(&Authors::default());
        f.write_str(if parts.is_empty() { "no limits" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

fn to_ms<S: Serializer>(limit: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    limit.map(|limit| limit.as_millis()).serialize(serializer)
}

fn from_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u32>::deserialize(deserializer)?.map(|limit| Duration::from_millis(u64::from(limit))))
}
