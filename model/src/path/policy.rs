//! What a network, or a rule of it, wants of the paths of a pair.

use std::{collections::BTreeSet, time::Duration};

use super::Price;
use crate::{RuleType, Scope};

/// A tenth of a cent: 20 ms less are worth the 0.02 USD/GB that most clouds take between regions of one continent.
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
}

impl Policy {
    pub fn new(rule_type: RuleType) -> Self {
        Self {
            rule_type,
            price_per_ms: DEFAULT_PRICE_PER_MS,
            price_per_loss_percent: DEFAULT_PRICE_PER_LOSS_PERCENT,
            limits: Limits::default(),
            prefer: None,
        }
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

/// What no path may exceed: rather none than such a one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of measured round trips. The path in use may exceed it by what a round trip varies, so that one at the limit is not
    /// left and taken back all the time.
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
}
