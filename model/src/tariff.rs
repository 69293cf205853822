//! What moving bytes costs. A [`Book`] of prices is laid together from what is shipped, what was imported from
//! providers' price lists and what an operator states; [`cost`] quotes a path by it, [`charge`] bills bytes by it.
//!
//! Both ends may pay, each by its own provider's tariff, so every price has a side. Quotes are in USD per 10^9 bytes,
//! whatever a provider counts in. What is not known is not known, and never nothing: see [`Unpriced`].

mod book;
mod check;
mod classify;
mod document;
pub mod feed;
mod find;
mod money;
mod place;
mod record;
#[cfg(test)]
mod tests;
mod usage;

use std::{net::IpAddr, sync::Arc};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use book::{Book, Layer, Origin, Rule};
pub use check::{MAX_RULES, check, refuse_unknown_fields};
pub use classify::Assumed;
pub use document::{
    Bearer, Confidence, Document, ExchangeRate, Interconnect, Per, Pool, Provider, Rate, RuleEntry, Source, Surcharge,
    Tier, Tiers,
};
pub use money::{AttoUsd, Figure, FigureError, GB, NanoUsd, Price, PriceError, Unit};
pub use place::{Place, PlaceError, Site, SiteError};
pub use record::TariffRecord;
pub use usage::{Meter, PoolUsage};

use crate::{CloudLocation, HostId, Scope, word::words};

/// What a packet crosses, as providers tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    SameZonePrivate,
    SameZonePublic,
    CrossZonePrivate,
    CrossZonePublic,
    /// Private addresses of two VPCs in one zone.
    PeeredSameZone,
    PeeredCrossZone,
    CrossRegionPrivate,
    CrossRegionPublic,
    /// To another provider or an unknown place.
    InternetEgress,
    /// From another provider or an unknown place.
    InternetIngress,
    /// A line of the operator's own.
    Interconnect,
    /// What is paid beside the tariff.
    Surcharge,
}

words!(Class {
    SameZonePrivate = "same-zone-private",
    SameZonePublic = "same-zone-public",
    CrossZonePrivate = "cross-zone-private",
    CrossZonePublic = "cross-zone-public",
    PeeredSameZone = "peered-same-zone",
    PeeredCrossZone = "peered-cross-zone",
    CrossRegionPrivate = "cross-region-private",
    CrossRegionPublic = "cross-region-public",
    InternetEgress = "internet-egress",
    InternetIngress = "internet-ingress",
    Interconnect = "interconnect",
    Surcharge = "surcharge",
});

/// Who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    Sender,
    Receiver,
}

words!(Side {
    Sender = "sender",
    Receiver = "receiver",
});

/// One end of a path. Host and address matter to surcharges only.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    pub location: &'a CloudLocation,
    pub host: Option<&'a HostId>,
    /// The address that packets of this end bear outside.
    pub address: Option<IpAddr>,
}

impl<'a> From<&'a CloudLocation> for End<'a> {
    fn from(location: &'a CloudLocation) -> Self {
        Self { location, host: None, address: None }
    }
}

/// Why a part has no price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    #[error("the provider of the {0} is not known")]
    ProviderUnknown(Side),
    #[error("the book has no price of {class} for the {side}, {provider}")]
    NoRule { provider: String, side: Side, class: Class },
    #[error("rule {0} says that the price is not known")]
    Unknown(String),
    #[error("rule {0} knows no price for so much traffic")]
    TierUnknown(String),
    #[error("rule {0} bills by something else than bytes")]
    NotPerGb(String),
    #[error("rule {rule} is in {currency}, which has no exchange rate")]
    NoExchangeRate { rule: String, currency: String },
}

/// What one side pays for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub side: Side,
    pub class: Class,
    /// Of the next byte, in nano-USD per 10^9 bytes.
    pub price: Result<Price, Unpriced>,
    /// The figure as its rule states it, in the rule's currency and unit.
    pub listed: Option<Figure>,
    /// What the price comes from; also where it gives none.
    pub rule: Option<Arc<Rule>>,
}

/// What a path costs in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Of the whole path; none as long as one part of it is not known.
    pub per_gb: Option<Price>,
    /// What the sender's side crosses.
    pub class: Class,
    pub parts: Vec<Part>,
    /// Whether something was assumed of where the ends stand; `assumed` tells what.
    pub estimated: bool,
    pub assumed: Vec<Assumed>,
}

/// What so many bytes cost in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Of the whole path; none as long as one part of it is not known.
    pub total: Option<AttoUsd>,
    /// Each part with what it costs, over all tiers that the bytes went through.
    pub amounts: Vec<(Part, Result<AttoUsd, Unpriced>)>,
    pub class: Class,
    pub estimated: bool,
}

/// What the next byte costs from `source` to an address of `destination` with this scope, on a day, after so much traffic
/// of the month. Paths are compared with [`PoolUsage::FirstPaid`], so that none of them looks free at the month's start.
pub fn cost<'a>(
    book: &Book,
    source: impl Into<End<'a>>,
    destination: impl Into<End<'a>>,
    scope: Scope,
    at: Date,
    usage: &PoolUsage,
) -> Quote {
    let trip = Trip { source: source.into(), destination: destination.into(), scope, at };
    let crossed = find::items(book, &trip);
    let parts: Vec<Part> = crossed.items.iter().map(|item| item.part(usage)).collect();
    let prices = parts.iter().map(|part| part.price.as_ref().ok().copied());
    Quote {
        per_gb: prices.sum_known(Price::default(), Price::plus),
        class: crossed.class,
        parts,
        estimated: !crossed.assumed.is_empty(),
        assumed: crossed.assumed,
    }
}

/// What so many bytes cost, and counts them: `usage` grows by them, as far as tiers and free pools count.
pub fn charge<'a>(
    book: &Book,
    source: impl Into<End<'a>>,
    destination: impl Into<End<'a>>,
    scope: Scope,
    at: Date,
    usage: &mut PoolUsage,
    bytes: u64,
) -> Charge {
    let trip = Trip { source: source.into(), destination: destination.into(), scope, at };
    let crossed = find::items(book, &trip);
    let amounts: Vec<_> = crossed.items.iter().map(|item| (item.part(usage), item.amount(usage, bytes))).collect();
    crossed.items.iter().for_each(|item| item.count(usage, bytes));
    Charge {
        total: amounts.iter().map(|(_, amount)| amount.as_ref().ok().copied()).sum_known(AttoUsd(0), |a, b| a + b),
        amounts,
        class: crossed.class,
        estimated: !crossed.assumed.is_empty(),
    }
}

/// A path in one direction on one day.
struct Trip<'a> {
    source: End<'a>,
    destination: End<'a>,
    scope: Scope,
    at: Date,
}

/// A sum that is not known where one of its terms is not.
trait SumKnown<T>: Iterator<Item = Option<T>> + Sized {
    fn sum_known(mut self, zero: T, add: impl Fn(T, T) -> T) -> Option<T> {
        self.try_fold(zero, |sum, term| Some(add(sum, term?)))
    }
}

impl<T, I: Iterator<Item = Option<T>>> SumKnown<T> for I {}
