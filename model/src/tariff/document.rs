//! The form that prices are written in: the shipped book, what an import made of a provider's price list, and what an
//! operator states are documents of one kind. `docs/tariffs.md` describes it for those who write one.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{
    Class, Side,
    check::told,
    money::{Figure, Unit},
    place::{Place, Site},
};
use crate::{HostId, Scope, validate::InvalidInput, word::words};

/// A document as it is written. Every part of it may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// When its figures were gathered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compiled: Option<Date>,
    /// Whether figures that are assumed, not read anywhere, count where there is nothing better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_defaults: Option<bool>,
    /// Where figures were read, by the names that rules give them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, Source>,
    /// By currency.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exchange_rates: BTreeMap<String, ExchangeRate>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, Provider>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub surcharges: Vec<Surcharge>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interconnects: Vec<Interconnect>,
}

impl Document {
    /// Reads a document, and tells the paths of fields that it has and this version does not know.
    pub fn parse(text: &str) -> Result<(Self, Vec<String>), InvalidInput> {
        let deserializer =
            toml::Deserializer::parse(text).map_err(|error| InvalidInput(vec![told("document", &one_line(&error))]))?;
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        let parsed = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
        match parsed {
            Ok(document) => Ok((document, unknown)),
            Err(error) => {
                let path = track.path().to_string();
                let field = if path == "." { "document" } else { &path };
                Err(InvalidInput(vec![told(field, error.message())]))
            }
        }
    }

    /// The document as text that [`Document::parse`] reads.
    pub fn to_text(&self) -> String {
        toml::to_string(self)
            .expect("every document can be written: its keys are strings and its values come before tables")
    }
}

/// An error of the parser without its picture of the line.
fn one_line(error: &toml::de::Error) -> String {
    error.to_string().lines().filter(|line| !line.contains('|')).collect::<Vec<_>>().join("; ")
}

/// Where figures were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// What it is called.
    pub document: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The date that it bears, as exact as it is known: a year, a month or a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// What a currency is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRate {
    /// Dollars for one.
    pub usd: Figure,
    /// When it was so.
    pub date: Date,
}

/// What one provider charges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// Of its figures; if absent, that of the document below, and at last `USD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Of its figures; if absent, that of the document below, and at last GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleEntry>,
    /// Regions by the name of their group; a group counts as a whole, from the uppermost document that has it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<Place>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
}

/// What one class of traffic costs between some places, for its sender, its receiver or both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleEntry {
    /// Its name in answers; one is made if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub class: Class,
    /// Where the sender stands; anywhere if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Place>,
    /// Where the receiver stands; anywhere if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Place>,
    /// What the sender pays; if absent, the rule says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Rate>,
    /// What the receiver pays; if absent, the rule says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Rate>,
    /// First day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Date>,
    /// Last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Date>,
    #[serde(default)]
    pub confidence: Confidence,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl RuleEntry {
    /// What a side pays, if the rule says anything of it.
    pub(super) fn rate(&self, side: Side) -> Option<&Rate> {
        match side {
            Side::Sender => self.sender.as_ref(),
            Side::Receiver => self.receiver.as_ref(),
        }
    }

    /// Whether it counts on a day.
    pub fn is_valid(&self, at: Date) -> bool {
        self.valid_from.is_none_or(|from| from <= at) && self.valid_to.is_none_or(|to| at <= to)
    }
}

/// How sure a figure is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Assumed, not read anywhere: counts only where an operator has asked for it.
    Suggested,
    Low,
    Medium,
    #[default]
    High,
}

words!(Confidence {
    Suggested = "suggested",
    Low = "low",
    Medium = "medium",
    High = "high",
});

impl Confidence {
    /// Whether somebody has read the figure somewhere.
    pub fn is_read(self) -> bool {
        self != Self::Suggested
    }
}

/// What one side pays for a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rate {
    /// Always the same.
    Flat(Figure),
    /// By what went before in the month.
    Tiered(Tiers),
    /// What it pays for another class, between the same places.
    SameAs(Class),
    /// Billed by something else than bytes; `not-per-gb`.
    NotPerGb,
    /// Nobody knows, whatever a less binding rule says; `unknown`.
    Unknown,
}

/// Prices by how much went before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tiers {
    /// What is counted together.
    pub per: Per,
    /// In rising order; above the last one that ends, the price is unknown.
    pub tiers: Vec<Tier>,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Units of the month up to which it goes; without end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
    pub price: Figure,
}

/// What is counted together within an account and a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    Account,
    /// Each region of the sender by itself.
    Region,
    /// All regions that the rule's place names.
    Group,
}

words!(Per {
    Account = "account",
    Region = "region",
    Group = "group",
});

/// Traffic of a month that is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    pub id: String,
    /// Units.
    pub free: u64,
    pub per: Per,
    /// What is counted in it.
    pub classes: Vec<Class>,
    /// Where the sender stands; anywhere if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Place>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What some hosts pay beside the tariff: for a NAT gateway, a transit gateway, a VPN, a peering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surcharge {
    /// Its name in answers.
    pub name: String,
    /// Who pays it.
    pub on: Bearer,
    /// Where the other end must stand; anywhere if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Site>,
    /// The addresses that it is paid for; all if empty.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<Scope>,
    /// For what the bearer sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sends: Option<Figure>,
    /// For what it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receives: Option<Figure>,
    #[serde(default = "usd", skip_serializing_if = "is_usd")]
    pub currency: String,
    #[serde(default)]
    pub unit: Unit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Date>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Date>,
}

/// Who pays a surcharge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bearer {
    Host(HostId),
    /// Every host of a VPC, a region or a provider.
    Vpc(Site),
    /// Whoever is reached at such an address, or sends from it.
    Endpoint(IpNet),
}

/// A line of the operator's own between two sites: private addresses reach through it, at its own price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interconnect {
    /// Its name in answers.
    pub name: String,
    pub from: Site,
    pub to: Site,
    /// What the sender pays; nothing if absent.
    #[serde(default)]
    pub sender: Figure,
    /// What the receiver pays; nothing if absent.
    #[serde(default)]
    pub receiver: Figure,
    #[serde(default = "usd", skip_serializing_if = "is_usd")]
    pub currency: String,
    #[serde(default)]
    pub unit: Unit,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Date>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Date>,
}

/// The currency that everything is answered in.
pub(super) const USD: &str = "USD";

fn usd() -> String {
    USD.to_owned()
}

fn is_usd(currency: &str) -> bool {
    currency == USD
}

const NOT_PER_GB: &str = "not-per-gb";
const UNKNOWN: &str = "unknown";

/// The forms of a rate that are tables.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SameAs {
    same_as: Class,
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Flat(figure) => figure.serialize(serializer),
            Self::Tiered(tiers) => tiers.serialize(serializer),
            Self::SameAs(class) => SameAs { same_as: *class }.serialize(serializer),
            Self::NotPerGb => serializer.serialize_str(NOT_PER_GB),
            Self::Unknown => serializer.serialize_str(UNKNOWN),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

struct RateVisitor;

impl<'de> serde::de::Visitor<'de> for RateVisitor {
    type Value = Rate;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a price, {{ per, tiers }}, {{ same_as }}, \"{NOT_PER_GB}\" or \"{UNKNOWN}\"")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Rate, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Rate, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Rate, E> {
        Figure::from_decimal(number).map(Rate::Flat).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Rate, E> {
        match word {
            NOT_PER_GB => Ok(Rate::NotPerGb),
            UNKNOWN => Ok(Rate::Unknown),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Rate, A::Error> {
        let table = toml::Table::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
        let rate = if table.contains_key("same_as") {
            table.try_into().map(|SameAs { same_as }| Rate::SameAs(same_as))
        } else {
            table.try_into().map(Rate::Tiered)
        };
        rate.map_err(|error| A::Error::custom(error.message()))
    }
}
