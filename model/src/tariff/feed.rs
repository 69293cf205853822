//! Providers' public price lists, read into documents: AWS' offer file `AWSDataTransfer` as CSV, Azure's retail prices as
//! JSON pages. Whoever wants them fetches them; nothing here asks a site.
//!
//! A list that is not whole is refused as a whole, so that what was known before stays. What a list holds beside the
//! classes of this book is left out, and counted by the reason.

mod aws;
mod azure;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

pub use aws::aws;
pub use azure::azure;

use super::{
    Book, Class, Confidence, Document, Figure, FigureError, Per, Place, Provider, Rate, RuleEntry, Source, Tier, Tiers,
    Unit,
};

/// What became of a price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    pub document: Document,
    /// Lines that say nothing of this book's classes, by the reason.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Why a price list is not taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("file {file} is no price list of {provider}'s: {reason}")]
    Foreign { provider: &'static str, file: usize, reason: String },
    #[error("the price list is not whole: {0}")]
    NotWhole(String),
    #[error("line {line}: {column} {problem}")]
    Figure { line: u64, column: &'static str, problem: FigureError },
    #[error("{0} is priced twice, and differently")]
    Contradiction(String),
}

/// Tiers of the sender's price by where they begin.
type Steps = BTreeMap<u64, Figure>;

/// The rate of steps of which the first begins at nothing; each ends where the next one begins.
fn tiered(steps: &Steps, per: Per) -> Rate {
    let mut steps = steps.iter().peekable();
    let mut tiers: Vec<Tier> = Vec::new();
    while let Some((_, price)) = steps.next() {
        let up_to = steps.peek().map(|(begin, _)| **begin);
        match tiers.last_mut() {
            Some(last) if last.price == *price => last.up_to = up_to,
            _ => tiers.push(Tier { up_to, price: *price }),
        }
    }
    match tiers.as_slice() {
        [Tier { up_to: None, price }] => Rate::Flat(*price),
        _ => Rate::Tiered(Tiers { per, tiers }),
    }
}

/// Regions of a list that cost the same become one rule.
fn by_rate<K: Ord>(regions: impl IntoIterator<Item = (String, K)>) -> BTreeMap<K, Vec<Place>> {
    let mut by_rate: BTreeMap<K, Vec<Place>> = BTreeMap::new();
    for (region, rate) in regions {
        by_rate.entry(rate).or_default().push(Place::Region(region));
    }
    by_rate
}

/// A rule of a list.
fn rule(class: Class, from: Vec<Place>, sender: Option<Rate>, source: &str) -> RuleEntry {
    RuleEntry {
        id: None,
        class,
        from,
        to: Vec::new(),
        sender,
        receiver: None,
        valid_from: None,
        valid_to: None,
        confidence: Confidence::High,
        sources: vec![source.to_owned()],
        note: String::new(),
    }
}

fn document(name: &str, unit: Unit, provider: Provider, source: (&str, Source), today: Date) -> Document {
    let provider = Provider { currency: Some("USD".to_owned()), unit: Some(unit), ..provider };
    Document {
        compiled: Some(today),
        sources: [(source.0.to_owned(), source.1)].into(),
        providers: [(name.to_owned(), provider)].into(),
        ..Document::default()
    }
}

/// A region that the shipped book knows a price of and the list does not: it was cut off.
fn refuse_gaps(provider: &str, class: Class, found: &BTreeSet<&String>) -> Result<(), FeedError> {
    let book = Book::shipped();
    let known = book.rules(provider).filter(|(_, entry)| entry.class == class && entry.sender.is_some());
    let regions = known.flat_map(|(_, entry)| &entry.from).filter_map(|place| match place {
        Place::Region(region) => Some(region),
        _ => None,
    });
    match regions.into_iter().find(|region| !found.contains(region)) {
        Some(region) => Err(FeedError::NotWhole(format!("it has no {class} of {region}"))),
        None => Ok(()),
    }
}
