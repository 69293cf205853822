//! Whether a document makes sense: what is wrong is refused with the path of its field, what is only strange is told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::{
    Bearer, Book, Class, Document, Figure, Layer, Origin, Place, Rate, RuleEntry, Side, Site, Tiers,
    document::{Interconnect, Provider, Surcharge, USD},
    find,
};
use crate::{
    marks::is_mark,
    region::doubt_region,
    validate::{Invalid, InvalidInput, check_name, check_text},
};

/// Longest note, in characters.
const MAX_NOTE: usize = 300;
/// More rules than any price list has for bytes, few enough to look through for every pair of hosts.
pub const MAX_RULES: usize = 4000;
/// More lines and surcharges than anyone states by hand.
const MAX_STATED: usize = 1000;

/// Checks a document that is to lie over `beneath`. What it answers is only strange: unknown providers, figures that do
/// not count on `today`.
pub fn check(document: &Document, beneath: &Book, today: Date) -> Result<Vec<Invalid>, InvalidInput> {
    let mut report = Report { document, beneath, today, ids: BTreeSet::new(), wrong: Vec::new(), strange: Vec::new() };
    report.exchange_rates();
    for (name, provider) in &document.providers {
        report.provider(name, provider);
    }
    report.stated();
    if report.wrong.is_empty() {
        report.references();
    }
    if report.wrong.is_empty() { Ok(report.strange) } else { Err(InvalidInput(report.wrong)) }
}

/// Refuses fields that nothing knows; see [`Document::parse`].
pub fn refuse_unknown_fields(paths: Vec<String>) -> Result<(), InvalidInput> {
    let unknown = |field: &String| told(field, "is not known here; see the form of tariff documents");
    let wrong: Vec<_> = paths.iter().map(unknown).collect();
    if wrong.is_empty() { Ok(()) } else { Err(InvalidInput(wrong)) }
}

/// A fault, spelt so that no terminal obeys what a document holds, and shortened.
pub(super) fn told(field: &str, problem: &str) -> Invalid {
    const SHOWN: usize = 300;
    let plain = |c: char| if is_mark(c) { c.escape_default().to_string() } else { c.to_string() };
    let spelt = |text: &str| text.chars().take(SHOWN).map(plain).collect();
    Invalid { field: spelt(field), problem: spelt(problem) }
}

struct Report<'a> {
    document: &'a Document,
    beneath: &'a Book,
    today: Date,
    /// Ids of rules that were met.
    ids: BTreeSet<String>,
    wrong: Vec<Invalid>,
    strange: Vec<Invalid>,
}

impl Report<'_> {
    fn refuse(&mut self, field: impl Into<String>, problem: impl ToString) {
        self.wrong.push(told(&field.into(), &problem.to_string()));
    }

    fn warn(&mut self, field: impl Into<String>, problem: impl ToString) {
        self.strange.push(told(&field.into(), &problem.to_string()));
    }

    fn text<E: ToString>(&mut self, field: String, checked: Result<(), E>) {
        if let Err(problem) = checked {
            self.refuse(field, problem);
        }
    }

    fn exchange_rates(&mut self) {
        for (currency, rate) in &self.document.exchange_rates {
            let path = format!("exchange_rates.{currency}");
            match currency.as_str() {
                USD => self.refuse(&path, "is the currency that all others are given in; remove it"),
                _ if rate.usd == Figure::default() => self.refuse(format!("{path}.usd"), "is 0; use more than 0"),
                _ => self.currency(&path, currency),
            }
        }
    }

    fn currency(&mut self, path: &str, currency: &str) {
        if currency.len() != 3 || !currency.chars().all(|c| c.is_ascii_uppercase()) {
            self.refuse(path, "is no currency; use three capital letters, such as EUR");
        }
    }

    fn known_currency(&mut self, path: &str, currency: &str) {
        self.currency(path, currency);
        let has_rate =
            self.document.exchange_rates.contains_key(currency) || self.beneath.exchange_rate(currency).is_some();
        if !has_rate {
            self.warn(path, format!("is {currency}, which has no exchange rate: its prices stay unknown"));
        }
    }

    fn provider(&mut self, name: &str, provider: &Provider) {
        let path = format!("providers.{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            self.refuse(&path, "is no name of a provider; use [a-z0-9-]");
        } else if !self.beneath.tariffs.contains_key(name) {
            self.warn(&path, "is a provider that is not known; its hosts must give the same name");
        }
        if let Some(currency) = &provider.currency {
            self.known_currency(&format!("{path}.currency"), currency);
        }
        if provider.rules.len() > MAX_RULES {
            let found = provider.rules.len();
            self.refuse(format!("{path}.rules"), format!("has {found} rules; at most {MAX_RULES} are allowed"));
        }
        for (position, rule) in provider.rules.iter().enumerate().take(MAX_RULES) {
            self.rule(&format!("{path}.rules[{position}]"), name, rule);
        }
        self.overlaps(&path, &provider.rules);
        for (group, places) in &provider.groups {
            if places.iter().any(|place| matches!(place, Place::Group(_))) {
                self.refuse(format!("{path}.groups.{group}"), "names a group; use regions");
            }
        }
        let mut ids = BTreeSet::new();
        for (position, pool) in provider.pools.iter().enumerate() {
            let path = format!("{path}.pools[{position}]");
            self.text(format!("{path}.id"), check_name(&pool.id));
            if !ids.insert(&pool.id) {
                self.refuse(format!("{path}.id"), "is the id of another pool too");
            }
            if pool.classes.is_empty() {
                self.refuse(format!("{path}.classes"), "is empty; name what counts in the pool");
            }
            self.places(&format!("{path}.from"), name, &pool.from);
        }
    }

    fn rule(&mut self, path: &str, provider: &str, rule: &RuleEntry) {
        if let Some(id) = &rule.id {
            self.text(format!("{path}.id"), check_name(id));
            if !self.ids.insert(id.clone()) {
                self.refuse(format!("{path}.id"), format!("is {id:?}, as another rule's"));
            }
        }
        self.text(format!("{path}.note"), check_text(&rule.note, MAX_NOTE));
        if matches!(rule.class, Class::Interconnect | Class::Surcharge) {
            let problem = format!("is {}, which has a list of its own: {0}s", rule.class);
            self.refuse(format!("{path}.class"), problem);
        }
        if rule.sender.is_none() && rule.receiver.is_none() {
            self.refuse(format!("{path}.sender"), "is absent, and receiver too; say what one of them pays");
        }
        for (side, rate) in [("sender", &rule.sender), ("receiver", &rule.receiver)] {
            self.rate(&format!("{path}.{side}"), rule.class, rate.as_ref());
        }
        if matches!(rule.receiver, Some(Rate::Tiered(_))) {
            self.refuse(
                format!("{path}.receiver"),
                "has tiers, and only what is sent is counted for them; give a price",
            );
        }
        self.places(&format!("{path}.from"), provider, &rule.from);
        self.places(&format!("{path}.to"), provider, &rule.to);
        self.validity(path, rule.valid_from, rule.valid_to);
        for source in &rule.sources {
            let is_explained = self.document.sources.contains_key(source)
                || self.beneath.layers().iter().any(|layer| layer.document.sources.contains_key(source));
            if !is_explained {
                self.warn(format!("{path}.sources"), format!("names {source:?}, which no document explains"));
            }
        }
    }

    fn rate(&mut self, path: &str, class: Class, rate: Option<&Rate>) {
        match rate {
            Some(Rate::SameAs(other)) if *other == class => self.refuse(path, "refers to its own class"),
            Some(Rate::Tiered(Tiers { tiers, .. })) => {
                let ends: Vec<u64> = tiers.iter().map(|tier| tier.up_to.unwrap_or(u64::MAX)).collect();
                if tiers.is_empty() || !ends.is_sorted_by(|one, next| one < next) {
                    self.refuse(path, "has tiers that do not rise; give each a greater up_to than the one before");
                }
            }
            _ => {}
        }
    }

    /// Rates that refer to each other have no price. What lies beneath counts too: a rule may refer to one that refers back.
    fn references(&mut self) {
        let document = self.document;
        let refers = |rule: &RuleEntry, side| matches!(rule.rate(side), Some(Rate::SameAs(_)));
        let with = |rule: &RuleEntry| refers(rule, Side::Sender) || refers(rule, Side::Receiver);
        if !document.providers.values().flat_map(|provider| &provider.rules).any(with) {
            return;
        }
        let ours = Layer { origin: Origin::Operator, document: document.clone() };
        let book = Book::new(self.beneath.layers().iter().cloned().chain([ours]).collect());
        for (name, provider) in &document.providers {
            for side in [Side::Sender, Side::Receiver] {
                let mut rules = provider.rules.iter().enumerate().filter(|(_, rule)| refers(rule, side));
                // One is enough: the others of the same circle say the same.
                let endless = rules.find_map(|(position, rule)| {
                    let at = rule.valid_from.map_or(self.today, |from| from.max(self.today));
                    Some((position, find::endless(&book, name, rule, side, at)?))
                });
                if let Some((position, classes)) = endless {
                    let classes = classes.iter().map(|class| class.as_str()).collect::<Vec<_>>().join(", ");
                    let problem = format!("refers to no price: {classes}, and so on; state one of them");
                    self.refuse(format!("providers.{name}.rules[{position}].{side}"), problem);
                }
            }
        }
    }

    fn places(&mut self, path: &str, provider: &str, places: &[Place]) {
        for place in places {
            let group = match place {
                Place::Group(group) => group,
                Place::Region(region) => {
                    if let Some(doubt) = doubt_region(provider, region) {
                        self.warn(path, format!("names a region that is not known: {doubt}"));
                    }
                    continue;
                }
                Place::Prefix(_) => continue,
            };
            let is_ours = self.document.providers.get(provider).is_some_and(|own| own.groups.contains_key(group));
            let is_beneath =
                || self.beneath.tariffs.get(provider).is_some_and(|known| known.groups.contains_key(group));
            if !is_ours && !is_beneath() {
                self.refuse(path, format!("names the group {group:?}, which {provider} does not have"));
            }
        }
    }

    fn validity(&mut self, path: &str, from: Option<Date>, to: Option<Date>) {
        match (from, to) {
            (Some(from), Some(to)) if to < from => {
                self.refuse(format!("{path}.valid_to"), format!("is before valid_from, {from}"))
            }
            (_, Some(to)) if to < self.today => {
                self.warn(format!("{path}.valid_to"), format!("is {to}: it counts no more"))
            }
            _ => {}
        }
    }

    /// Two rules that say the same thing of the same days: nobody could tell which one counts.
    fn overlaps(&mut self, path: &str, rules: &[RuleEntry]) {
        let mut alike: BTreeMap<_, Vec<(usize, &RuleEntry)>> = BTreeMap::new();
        for (position, rule) in rules.iter().enumerate().take(MAX_RULES) {
            let places = |places: &[Place]| places.iter().cloned().collect::<BTreeSet<_>>();
            // What is only suggested gives way to what was read.
            let subject = (rule.class, places(&rule.from), places(&rule.to), rule.confidence.is_read());
            let before = alike.entry(subject).or_default();
            let double = before.iter().find(|(_, other)| is_double(rule, other)).map(|(other, _)| *other);
            before.push((position, rule));
            if let Some(other) = double {
                let problem = format!(
                    "speaks of the same traffic and days as rules[{other}]; bound both by valid_from and valid_to"
                );
                self.refuse(format!("{path}.rules[{position}]"), problem);
            }
        }
    }

    fn stated(&mut self) {
        for (list, count) in
            [("surcharges", self.document.surcharges.len()), ("interconnects", self.document.interconnects.len())]
        {
            if count > MAX_STATED {
                self.refuse(list, format!("has {count} entries; at most {MAX_STATED} are allowed"));
            }
        }
        let document = self.document;
        for (position, surcharge) in document.surcharges.iter().enumerate().take(MAX_STATED) {
            let Surcharge { name, on, peer, sends, receives, currency, valid_from, valid_to, .. } = surcharge;
            let path = format!("surcharges[{position}]");
            self.text(format!("{path}.name"), check_name(name));
            if sends.is_none() && receives.is_none() {
                self.refuse(format!("{path}.sends"), "is absent, and receives too; say what one of them costs");
            }
            if let Bearer::Vpc(site) = on {
                self.site(&format!("{path}.on"), site);
            }
            peer.iter().for_each(|site| self.site(&format!("{path}.peer"), site));
            self.known_currency(&format!("{path}.currency"), currency);
            self.validity(&path, *valid_from, *valid_to);
        }
        for (position, line) in document.interconnects.iter().enumerate().take(MAX_STATED) {
            let Interconnect { name, from, to, currency, valid_from, valid_to, .. } = line;
            let path = format!("interconnects[{position}]");
            self.text(format!("{path}.name"), check_name(name));
            self.site(&format!("{path}.from"), from);
            self.site(&format!("{path}.to"), to);
            self.known_currency(&format!("{path}.currency"), currency);
            self.validity(&path, *valid_from, *valid_to);
            let is_double = |other: &Interconnect| {
                (from, to) == (&other.from, &other.to)
                    && share_days((*valid_from, *valid_to), (other.valid_from, other.valid_to))
            };
            if let Some(other) = document.interconnects[..position].iter().position(is_double) {
                let problem = format!(
                    "joins the same sites on the same days as interconnects[{other}]; bound both by valid_from and valid_to"
                );
                self.refuse(path, problem);
            }
        }
    }

    fn site(&mut self, path: &str, site: &Site) {
        let is_known =
            self.beneath.tariffs.contains_key(&site.provider) || self.document.providers.contains_key(&site.provider);
        if !is_known {
            self.warn(path, format!("names the provider {:?}, which is not known", site.provider));
        }
        if let Some(doubt) = site.region.as_ref().and_then(|region| doubt_region(&site.provider, region)) {
            self.warn(path, format!("names a region that is not known: {doubt}"));
        }
    }
}

/// Of two rules of the same class and places.
fn is_double(one: &RuleEntry, other: &RuleEntry) -> bool {
    (one.sender.is_some() && other.sender.is_some() || one.receiver.is_some() && other.receiver.is_some())
        && share_days((one.valid_from, one.valid_to), (other.valid_from, other.valid_to))
}

/// First and last days, both included; without one it is open.
fn share_days(one: (Option<Date>, Option<Date>), other: (Option<Date>, Option<Date>)) -> bool {
    let begins = |(from, _): (Option<Date>, _)| from.unwrap_or(Date::MIN);
    let ends = |(_, to): (_, Option<Date>)| to.unwrap_or(Date::MAX);
    begins(one) <= ends(other) && begins(other) <= ends(one)
}
