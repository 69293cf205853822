//! Finds what each side of a path pays: the rule that binds, its rate, and the price of the next byte by it.

use std::{cmp::Reverse, sync::Arc};

use jiff::civil::Date;

use super::{
    AttoUsd, Book, Class, End, Figure, Meter, Origin, Part, Place, PoolUsage, Price, Rate, Rule, RuleEntry, Side, Trip,
    Unit, Unpriced,
    book::{Filed, Tariff},
    classify::{Assumed, classify},
    document::{Bearer, Per, Pool, Surcharge, Tier},
};
use crate::Scope;

impl Book {
    /// Whether a rule of a provider names a region, or no region at all.
    pub fn names(&self, provider: &str, entry: &RuleEntry, region: &str) -> bool {
        let Some(tariff) = self.tariffs.get(provider) else { return false };
        let mut named = [&entry.from, &entry.to].into_iter().filter(|places| !places.is_empty()).peekable();
        named.peek().is_none() || named.any(|places| holds(tariff, places, Some(region)).is_some())
    }
}

/// All that is paid for on a path.
pub(super) struct Crossed<'b> {
    pub(super) class: Class,
    pub(super) items: Vec<Item<'b>>,
    pub(super) assumed: Vec<Assumed>,
}

/// One thing that one side pays.
pub(super) struct Item<'b> {
    side: Side,
    class: Class,
    found: Result<Found<'b>, Unpriced>,
}

/// What it is paid by.
struct Found<'b> {
    rule: &'b Arc<Rule>,
    rate: RateOf<'b>,
    /// Dollars for one of the rule's currency.
    exchange_rate: Option<Figure>,
    /// What is counted for it; nothing for what has neither tiers nor free traffic.
    counted: Option<Counted<'b>>,
}

enum RateOf<'b> {
    Rule(&'b Rate),
    Stated(Figure),
}

/// Whose traffic counts.
struct Counted<'b> {
    tariff: &'b Tariff,
    class: Class,
    provider: &'b str,
    account: Option<&'b str>,
    region: Option<&'b str>,
    /// The place by which the rule was found.
    place: Option<&'b Place>,
}

pub(super) fn items<'b>(book: &'b Book, trip: &Trip<'b>) -> Crossed<'b> {
    let mut crossed = match interconnect(book, trip) {
        Some(items) => Crossed { class: Class::Interconnect, items, assumed: Vec::new() },
        None => {
            let classes = classify(trip);
            let sides = [(Side::Sender, classes.sender), (Side::Receiver, classes.receiver)];
            let items = sides.map(|(side, class)| Item { side, class, found: find(book, trip, side, class) });
            Crossed { class: classes.sender, items: items.into(), assumed: classes.assumed }
        }
    };
    crossed.items.extend(surcharges(book, trip));
    crossed
}

fn interconnect<'b>(book: &'b Book, trip: &Trip<'_>) -> Option<Vec<Item<'b>>> {
    if trip.scope != Scope::Private {
        return None;
    }
    let reaches =
        |from: &super::Site, to: &super::Site| from.holds(trip.source.location) && to.holds(trip.destination.location);
    let mut lines = book.interconnects.iter().rev();
    let (rule, line) = lines.find(|(rule, line)| is_valid(rule, trip) && reaches(&line.from, &line.to))?;
    let item = |side, figure| Item { side, class: Class::Interconnect, found: Ok(stated(book, rule, figure)) };
    Some(vec![item(Side::Sender, line.sender), item(Side::Receiver, line.receiver)])
}

fn surcharges<'b>(book: &'b Book, trip: &Trip<'_>) -> Vec<Item<'b>> {
    let ends = [(Side::Sender, trip.source, trip.destination), (Side::Receiver, trip.destination, trip.source)];
    let sides = |charge: &'b (Arc<Rule>, Surcharge)| ends.map(|(side, own, other)| (charge, side, own, other));
    let items = book.surcharges.iter().flat_map(sides).filter_map(|((rule, surcharge), side, own, other)| {
        let Surcharge { on, peer, scopes, sends, receives, .. } = surcharge;
        let figure = if side == Side::Sender { *sends } else { *receives };
        let is_due = is_valid(rule, trip)
            && bears(on, own)
            && peer.as_ref().is_none_or(|peer| peer.holds(other.location))
            && (scopes.is_empty() || scopes.contains(&trip.scope));
        let found = Ok(stated(book, rule, figure.filter(|_| is_due)?));
        Some(Item { side, class: Class::Surcharge, found })
    });
    items.collect()
}

fn bears(bearer: &Bearer, end: End<'_>) -> bool {
    match bearer {
        Bearer::Host(host) => end.host == Some(host),
        Bearer::Vpc(site) => site.holds(end.location),
        Bearer::Endpoint(addresses) => end.address.is_some_and(|address| addresses.contains(&address)),
    }
}

fn is_valid(rule: &Rule, trip: &Trip<'_>) -> bool {
    rule.valid_from.is_none_or(|from| from <= trip.at) && rule.valid_to.is_none_or(|to| trip.at <= to)
}

fn stated<'b>(book: &'b Book, rule: &'b Arc<Rule>, figure: Figure) -> Found<'b> {
    let exchange_rate = book.exchange_rate(&rule.currency);
    Found { rule, rate: RateOf::Stated(figure), exchange_rate, counted: None }
}

/// How often a rate may refer to that of another class.
const MAX_REFERENCES: usize = 4;

/// The rule that binds a side, and its rate.
fn find<'b>(book: &'b Book, trip: &Trip<'b>, side: Side, class: Class) -> Result<Found<'b>, Unpriced> {
    let (own, other) = match side {
        Side::Sender => (trip.source.location, trip.destination.location),
        Side::Receiver => (trip.destination.location, trip.source.location),
    };
    let provider = own.provider.as_ref().ok_or(Unpriced::ProviderUnknown(side))?.value.as_str();
    let missing = |class| Unpriced::NoRule { provider: provider.to_owned(), side, class };
    let tariff = book.tariffs.get(provider).ok_or_else(|| missing(class))?;
    let region = own.region.as_ref().map(|region| region.value.as_str());
    let is_one_provider = other.provider.as_ref().is_some_and(|other| other.value == provider);
    let other_region = other.region.as_ref().filter(|_| is_one_provider).map(|region| region.value.as_str());
    let ends = Ends { side, own: region, other: other_region };
    let mut asked = class;
    for _ in 0..MAX_REFERENCES {
        let Some((filed, place)) = binding(book, tariff, asked, &ends, trip.at) else { break };
        match filed.entry.rate(side) {
            Some(Rate::SameAs(class)) => asked = *class,
            Some(rate) => {
                let account = own.account.as_ref().map(|account| account.value.as_str());
                let counted = Counted { tariff, class: asked, provider, account, region, place };
                return Ok(Found {
                    rule: &filed.rule,
                    rate: RateOf::Rule(rate),
                    exchange_rate: book.exchange_rate(&filed.rule.currency),
                    // Pools and tiers count what is sent.
                    counted: (side == Side::Sender).then_some(counted),
                });
            }
            None => break,
        }
    }
    Err(missing(asked))
}

/// The classes that a rule refers to, one after the other, where that ends at no rate: they come back to one of them, or are
/// more than lookups follow. `at` is a day on which the rule counts.
pub(super) fn endless(book: &Book, provider: &str, rule: &RuleEntry, side: Side, at: Date) -> Option<Vec<Class>> {
    let tariff = book.tariffs.get(provider)?;
    let (own, other) = match side {
        Side::Sender => (&rule.from, &rule.to),
        Side::Receiver => (&rule.to, &rule.from),
    };
    let (own, other) = (samples(tariff, own), samples(tariff, other));
    let mut pairs = own.iter().flat_map(|own| other.iter().map(move |other| (*own, *other)));
    pairs.find_map(|(own, other)| {
        let ends = Ends { side, own, other };
        let mut met = vec![rule.class];
        loop {
            let (filed, _) = binding(book, tariff, *met.last()?, &ends, at)?;
            let Some(Rate::SameAs(class)) = filed.entry.rate(side) else { return None };
            let is_endless = met.contains(class) || met.len() == MAX_REFERENCES;
            met.push(*class);
            if is_endless {
                return Some(met);
            }
        }
    })
}

/// A region for each of these places; none where they are all places. A beginning stands for what begins so.
fn samples<'b>(tariff: &'b Tariff, places: &'b [Place]) -> Vec<Option<&'b str>> {
    let name = |place: &'b Place| match place {
        Place::Region(name) | Place::Prefix(name) => Some(name.as_str()),
        Place::Group(_) => None,
    };
    let regions = places.iter().flat_map(|place| match place {
        Place::Group(group) => tariff.groups.get(group).map_or(&[][..], Vec::as_slice),
        _ => std::slice::from_ref(place),
    });
    if places.is_empty() { vec![None] } else { regions.map(name).filter(Option::is_some).collect() }
}

/// The regions of both ends, as one side sees them; those of another provider are none.
struct Ends<'b> {
    side: Side,
    own: Option<&'b str>,
    other: Option<&'b str>,
}

/// How exactly a rule names a region: a region itself, some regions, all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    Anywhere,
    Regions,
    Region,
}

/// What makes one rule bind before another; the greatest does.
type Weight = (bool, Origin, bool, Exactness, Exactness, Option<Date>, Reverse<usize>);

/// The rule that says most exactly what a side pays, and the place in it that names the side's region.
fn binding<'b>(
    book: &Book,
    tariff: &'b Tariff,
    class: Class,
    ends: &Ends<'_>,
    at: Date,
) -> Option<(&'b Filed, Option<&'b Place>)> {
    let weigh = |filed: &'b Filed| -> Option<(Weight, &'b Filed, Option<&'b Place>)> {
        let entry = &filed.entry;
        let (own, other, speaks) = match ends.side {
            Side::Sender => (&entry.from, &entry.to, entry.sender.is_some()),
            Side::Receiver => (&entry.to, &entry.from, entry.receiver.is_some()),
        };
        let is_read = entry.confidence.is_read();
        if !speaks || !entry.is_valid(at) || !(is_read || book.suggested_defaults) {
            return None;
        }
        let (own, place) = holds(tariff, own, ends.own)?;
        let (other, _) = holds(tariff, other, ends.other)?;
        let names_both = own > Exactness::Anywhere && other > Exactness::Anywhere;
        let weight = (is_read, filed.rule.origin, names_both, own, other, entry.valid_from, Reverse(filed.position));
        Some((weight, filed, place))
    };
    let rules = tariff.rules.get(&class)?;
    rules.iter().filter_map(weigh).max_by_key(|(weight, ..)| *weight).map(|(_, filed, place)| (filed, place))
}

/// How exactly places name a region, and which of them does; none if none of them does.
fn holds<'b>(tariff: &Tariff, places: &'b [Place], region: Option<&str>) -> Option<(Exactness, Option<&'b Place>)> {
    if places.is_empty() {
        return Some((Exactness::Anywhere, None));
    }
    let region = region?;
    let exactness = |place: &Place| match place {
        Place::Region(name) => (name == region).then_some(Exactness::Region),
        _ => is_in(tariff, place, region).then_some(Exactness::Regions),
    };
    places.iter().filter_map(|place| Some((exactness(place)?, Some(place)))).max_by_key(|(exactness, _)| *exactness)
}

fn is_in(tariff: &Tariff, place: &Place, region: &str) -> bool {
    match place {
        Place::Region(name) => name == region,
        Place::Prefix(prefix) => region.starts_with(prefix.as_str()),
        // Groups hold no groups: one that names another holds nothing by it.
        Place::Group(name) => tariff.groups.get(name).into_iter().flatten().any(|place| match place {
            Place::Region(name) => name == region,
            Place::Prefix(prefix) => region.starts_with(prefix.as_str()),
            Place::Group(_) => false,
        }),
    }
}

/// The price of the next byte, and after how many it may change.
struct Step {
    figure: Option<Figure>,
    price: Result<Price, Unpriced>,
    bytes: Option<u64>,
}

impl Item<'_> {
    /// The part as it is after what went before.
    pub(super) fn part(&self, usage: &PoolUsage) -> Part {
        let (listed, price, rule) = match &self.found {
            Ok(found) => {
                let step = found.step(usage, 0);
                (step.figure, step.price, Some(found.rule.clone()))
            }
            Err(unpriced) => (None, Err(unpriced.clone()), None),
        };
        Part { side: self.side, class: self.class, price, listed, rule }
    }

    /// What so many bytes cost, tier by tier.
    pub(super) fn amount(&self, usage: &PoolUsage, bytes: u64) -> Result<AttoUsd, Unpriced> {
        let found = self.found.as_ref().map_err(Clone::clone)?;
        let (mut amount, mut done) = (AttoUsd::default(), 0);
        while done < bytes {
            let step = found.step(usage, done);
            let some = step.bytes.map_or(bytes - done, |left| left.clamp(1, bytes - done));
            step.price?;
            amount += found.amount(step.figure.unwrap_or_default(), some);
            done += some;
        }
        Ok(amount)
    }

    /// Counts bytes that were sent.
    pub(super) fn count(&self, usage: &mut PoolUsage, bytes: u64) {
        let Ok(Found { counted: Some(counted), rate, .. }) = &self.found else { return };
        for (_, pool) in counted.pools() {
            usage.add(|| counted.pool(pool), bytes);
        }
        if let RateOf::Rule(Rate::Tiered(tiers)) = rate {
            usage.add(|| counted.tiers(tiers.per), bytes);
        }
    }
}

impl Found<'_> {
    /// The price after what went before and `more` bytes.
    fn step(&self, usage: &PoolUsage, more: u64) -> Step {
        if let Some(left) = self.free(usage, more) {
            return Step { figure: Some(Figure::default()), price: Ok(Price::default()), bytes: Some(left) };
        }
        let rule = || self.rule.id.clone();
        let unknown = |unpriced| Step { figure: None, price: Err(unpriced), bytes: None };
        let (figure, bytes) = match &self.rate {
            RateOf::Stated(figure) => (*figure, None),
            RateOf::Rule(Rate::Flat(figure)) => (*figure, None),
            RateOf::Rule(Rate::Tiered(tiers)) => {
                let counted = self.counted.as_ref();
                let before = counted.and_then(|counted| usage.of(|| counted.tiers(tiers.per)));
                match tier(&tiers.tiers, self.rule.unit, before.map(|before| before.saturating_add(more))) {
                    Some(found) => found,
                    None => return unknown(Unpriced::TierUnknown(rule())),
                }
            }
            RateOf::Rule(Rate::NotPerGb) => return unknown(Unpriced::NotPerGb(rule())),
            RateOf::Rule(Rate::Unknown | Rate::SameAs(_)) => return unknown(Unpriced::Unknown(rule())),
        };
        let currency = || self.rule.currency.clone();
        let price = match self.exchange_rate {
            Some(rate) => Ok(figure.in_usd(rate, self.rule.unit)),
            // Nothing is nothing in every currency.
            None if figure == Figure::default() => Ok(Price::default()),
            None => Err(Unpriced::NoExchangeRate { rule: rule(), currency: currency() }),
        };
        Step { figure: Some(figure), price, bytes }
    }

    /// Made of the figure itself: a price per 10^9 bytes may have been rounded.
    fn amount(&self, figure: Figure, bytes: u64) -> AttoUsd {
        figure.amount(self.exchange_rate.unwrap_or_default(), self.rule.unit, bytes)
    }

    /// How many bytes are still free.
    fn free(&self, usage: &PoolUsage, more: u64) -> Option<u64> {
        let counted = self.counted.as_ref()?;
        let left = |(unit, pool): &(Unit, Pool)| {
            let before = usage.of(|| counted.pool(pool))?;
            pool.free.saturating_mul(unit.bytes()).checked_sub(before.saturating_add(more))
        };
        counted.pools().filter_map(left).filter(|left| *left > 0).max()
    }
}

/// The tier after so many bytes of the month, and how many bytes are left of it. Without a count it is the first one that
/// costs something: a tier that is free ends.
fn tier(tiers: &[Tier], unit: Unit, before: Option<u64>) -> Option<(Figure, Option<u64>)> {
    let Some(before) = before else {
        let paid = tiers.iter().find(|tier| tier.price > Figure::default() || tier.up_to.is_none())?;
        return Some((paid.price, None));
    };
    let left = |up_to: u64| up_to.saturating_mul(unit.bytes()).checked_sub(before).filter(|left| *left > 0);
    tiers.iter().find_map(|tier| match tier.up_to {
        Some(up_to) => Some((tier.price, Some(left(up_to)?))),
        None => Some((tier.price, None)),
    })
}

impl<'b> Counted<'b> {
    /// The free pools that the traffic counts in.
    fn pools(&self) -> impl Iterator<Item = &'b (Unit, Pool)> {
        let is_in = |(_, pool): &&(Unit, Pool)| {
            pool.classes.contains(&self.class) && holds(self.tariff, &pool.from, self.region).is_some()
        };
        self.tariff.pools.iter().filter(is_in)
    }

    fn tiers(&self, per: Per) -> Meter {
        self.meter(format!("tiers/{}", self.class), per, self.place)
    }

    fn pool(&self, pool: &Pool) -> Meter {
        let place = holds(self.tariff, &pool.from, self.region).and_then(|(_, place)| place);
        self.meter(format!("free/{}", pool.id), pool.per, place)
    }

    fn meter(&self, name: String, per: Per, place: Option<&Place>) -> Meter {
        let place = match per {
            Per::Account => None,
            Per::Region => self.region.map(str::to_owned),
            Per::Group => place.map(Place::to_string),
        };
        Meter { provider: self.provider.to_owned(), account: self.account.map(str::to_owned), name, place }
    }
}
