//! The book of prices in force: documents laid over each other, ready to be looked up in.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use data_encoding::HEXLOWER;
use jiff::civil::Date;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::document::{
    Confidence, Document, ExchangeRate, Interconnect, Pool, Provider, RuleEntry, Source, Surcharge, USD,
};
use super::{Class, Figure, Place, Unit};
use crate::{
    region::{doubt_region, knows_provider},
    validate::InvalidInput,
    word::words,
};

/// Whose figure it is. Ordered: an operator's goes before an imported one, which goes before a shipped one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Shipped,
    /// Taken from a provider's own price list.
    Imported,
    Operator,
}

words!(Origin {
    Shipped = "shipped",
    Imported = "imported",
    Operator = "operator",
});

/// One document in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub origin: Origin,
    pub document: Document,
}

/// What a price comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its own, or its place in its document: `shipped/aws/internet-egress/7`.
    pub id: String,
    pub origin: Origin,
    pub confidence: Confidence,
    pub sources: Vec<Source>,
    pub currency: String,
    pub unit: Unit,
    pub valid_from: Option<Date>,
    pub valid_to: Option<Date>,
    pub note: String,
}

/// A rule as it is looked up.
#[derive(Debug, Clone)]
pub(super) struct Filed {
    pub(super) rule: Arc<Rule>,
    pub(super) entry: RuleEntry,
    /// Of all rules of the book, in the order in which they are written.
    pub(super) position: usize,
}

/// All that is known of one provider.
#[derive(Debug, Clone, Default)]
pub(super) struct Tariff {
    pub(super) rules: BTreeMap<Class, Vec<Filed>>,
    pub(super) groups: BTreeMap<String, Vec<Place>>,
    /// Each with the unit that its document counts in.
    pub(super) pools: Vec<(Unit, Pool)>,
}

impl Tariff {
    fn names_exactly(&self, region: &str) -> bool {
        let rules = self.rules.values().flatten().flat_map(|filed| [&filed.entry.from, &filed.entry.to]);
        let mut places = rules.chain(self.groups.values()).flatten();
        places.any(|place| matches!(place, Place::Region(named) if named == region))
    }
}

/// The prices in force. Made once and shared; nothing in it changes.
#[derive(Debug, Clone)]
pub struct Book {
    layers: Vec<Layer>,
    version: String,
    pub(super) suggested_defaults: bool,
    pub(super) exchange_rates: BTreeMap<String, ExchangeRate>,
    pub(super) tariffs: BTreeMap<String, Tariff>,
    pub(super) surcharges: Vec<(Arc<Rule>, Surcharge)>,
    pub(super) interconnects: Vec<(Arc<Rule>, Interconnect)>,
}

impl PartialEq for Book {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for Book {}

static SHIPPED: LazyLock<Arc<Book>> = LazyLock::new(|| {
    let (document, _) =
        Document::parse(include_str!("../../data/tariffs.toml")).expect("the shipped book is checked by test");
    Arc::new(Book::new(vec![Layer { origin: Origin::Shipped, document }]))
});

impl Book {
    /// What this version of the program knows by itself.
    pub fn shipped() -> Arc<Self> {
        SHIPPED.clone()
    }

    /// The shipped book under what was imported and what the operator states.
    pub fn effective(imported: Option<&Document>, operator: Option<&Document>) -> Self {
        let layer = |origin, document: Option<&Document>| {
            let document = document.filter(|document| **document != Document::default())?.clone();
            Some(Layer { origin, document })
        };
        let mut layers = Self::shipped().layers.clone();
        layers.extend([layer(Origin::Imported, imported), layer(Origin::Operator, operator)].into_iter().flatten());
        Self::new(layers)
    }

    /// Lays documents over each other; which goes before which, their origins say.
    pub fn new(mut layers: Vec<Layer>) -> Self {
        layers.sort_by_key(|layer| layer.origin);
        let mut book = Self {
            version: version(&layers),
            suggested_defaults: layers
                .iter()
                .rev()
                .find_map(|layer| layer.document.suggested_defaults)
                .unwrap_or(false),
            exchange_rates: BTreeMap::new(),
            tariffs: BTreeMap::new(),
            surcharges: Vec::new(),
            interconnects: Vec::new(),
            layers: Vec::new(),
        };
        for layer in &layers {
            book.lay(layer, &layers);
        }
        Self { layers, ..book }
    }

    /// Names exactly these prices: equal documents have it equal, on every machine.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// When the youngest of its figures were gathered.
    pub fn compiled(&self) -> Option<Date> {
        self.layers.iter().filter_map(|layer| layer.document.compiled).max()
    }

    /// The documents it consists of, the least binding first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The providers that it has anything to say of.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        self.tariffs.keys().map(String::as_str)
    }

    /// What is odd about a place: a provider of which neither prices nor regions are known, or a region that its provider is
    /// not known to have and that no price names. An empty region is none.
    pub fn doubt(&self, provider: &str, region: &str) -> Option<String> {
        let tariff = self.tariffs.get(provider);
        if tariff.is_none() && !knows_provider(provider) {
            return Some(format!("{provider:?} is no provider that is known"));
        }
        let is_priced = tariff.is_some_and(|tariff| tariff.names_exactly(region));
        if region.is_empty() || is_priced { None } else { doubt_region(provider, region) }
    }

    /// The rules of a provider with what they state, by class, in the order in which they are written.
    pub fn rules(&self, provider: &str) -> impl Iterator<Item = (&Arc<Rule>, &RuleEntry)> {
        let tariff = self.tariffs.get(provider).into_iter();
        tariff.flat_map(|tariff| tariff.rules.values().flatten()).map(|filed| (&filed.rule, &filed.entry))
    }

    /// Dollars for one unit of a currency.
    pub(super) fn exchange_rate(&self, currency: &str) -> Option<Figure> {
        if currency == USD { Some(Figure::ONE) } else { Some(self.exchange_rates.get(currency)?.usd) }
    }

    fn lay(&mut self, layer: &Layer, layers: &[Layer]) {
        let Layer { origin, document } = layer;
        self.exchange_rates.extend(document.exchange_rates.clone());
        for (name, provider) in &document.providers {
            self.lay_provider(name, provider, *origin, layers);
        }
        self.surcharges.extend(document.surcharges.iter().map(|surcharge| {
            let Surcharge { name, currency, unit, valid_from, valid_to, .. } = surcharge;
            let rule = stated(*origin, "surcharge", name, (currency, *unit), (*valid_from, *valid_to));
            (rule, surcharge.clone())
        }));
        self.interconnects.extend(document.interconnects.iter().map(|line| {
            let Interconnect { name, currency, unit, valid_from, valid_to, .. } = line;
            let rule = stated(*origin, "interconnect", name, (currency, *unit), (*valid_from, *valid_to));
            (rule, line.clone())
        }));
    }

    fn lay_provider(&mut self, name: &str, provider: &Provider, origin: Origin, layers: &[Layer]) {
        let beneath = layers.iter().rev().filter(|layer| layer.origin <= origin);
        let mut same = beneath.filter_map(|layer| layer.document.providers.get(name));
        let currency = same.clone().find_map(|provider| provider.currency.clone()).unwrap_or_else(|| USD.to_owned());
        let unit = same.find_map(|provider| provider.unit).unwrap_or_default();
        let tariff = self.tariffs.entry(name.to_owned()).or_default();
        tariff.groups.extend(provider.groups.clone());
        tariff.pools.retain(|(_, pool)| provider.pools.iter().all(|ours| ours.id != pool.id));
        tariff.pools.extend(provider.pools.iter().map(|pool| (unit, pool.clone())));
        for (position, entry) in provider.rules.iter().enumerate() {
            let place = || format!("{origin}/{name}/{}/{}", entry.class, position + 1);
            let rule = Rule {
                id: entry.id.clone().unwrap_or_else(place),
                origin,
                confidence: entry.confidence,
                sources: sources(&entry.sources, layers),
                currency: currency.clone(),
                unit,
                valid_from: entry.valid_from,
                valid_to: entry.valid_to,
                note: entry.note.clone(),
            };
            let filed = Filed { rule: Arc::new(rule), entry: entry.clone(), position };
            tariff.rules.entry(entry.class).or_default().push(filed);
        }
    }
}

/// What an operator's surcharge or line is answered by.
fn stated(
    origin: Origin,
    kind: &str,
    name: &str,
    (currency, unit): (&str, Unit),
    (valid_from, valid_to): (Option<Date>, Option<Date>),
) -> Arc<Rule> {
    Arc::new(Rule {
        id: format!("{origin}/{kind}/{name}"),
        origin,
        confidence: Confidence::High,
        sources: Vec::new(),
        currency: currency.to_owned(),
        unit,
        valid_from,
        valid_to,
        note: String::new(),
    })
}

/// The shipped book.
impl Default for Book {
    fn default() -> Self {
        Self::clone(&SHIPPED)
    }
}

/// Reads the documents of a book, as one version of the program hands them to another: what is not known is passed over.
impl TryFrom<Vec<(Origin, String)>> for Book {
    type Error = InvalidInput;

    fn try_from(texts: Vec<(Origin, String)>) -> Result<Self, InvalidInput> {
        let layer = |(origin, text): (Origin, String)| Ok(Layer { origin, document: Document::parse(&text)?.0 });
        Ok(Self::new(texts.into_iter().map(layer).collect::<Result<_, _>>()?))
    }
}

/// The sources of a rule; a name that no document explains stands for itself.
fn sources(names: &[String], layers: &[Layer]) -> Vec<Source> {
    let find = |name: &String| layers.iter().rev().find_map(|layer| layer.document.sources.get(name)).cloned();
    let bare = |name: &String| Source { document: name.clone(), ..Source::default() };
    names.iter().map(|name| find(name).unwrap_or_else(|| bare(name))).collect()
}

/// Bytes of the digest that a version shows.
const VERSION_BYTES: usize = 8;

fn version(layers: &[Layer]) -> String {
    let texts: Vec<String> =
        layers.iter().map(|layer| format!("{}\n{}", layer.origin, layer.document.to_text())).collect();
    let digest = digest(&SHA256, texts.join("\0").as_bytes());
    HEXLOWER.encode(&digest.as_ref()[..VERSION_BYTES])
}
