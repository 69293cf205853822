//! The book of prices on the wire (`tariff.proto`).

use cladnet_model::{
    tariff::{Book, Figure, Origin, Part, Quote, Rate, Rule, RuleEntry, Source, TariffRecord, Tiers},
    validate::Invalid,
};
use jiff::civil::Date;

use super::{FieldError, required, timestamp};
use crate::cladnet::v1;

/// The book with the documents it consists of.
pub fn tariff_book(book: &Book) -> v1::TariffBook {
    let document = |layer: &cladnet_model::tariff::Layer| v1::TariffDocument {
        origin: layer.origin.to_string(),
        text: layer.document.to_text(),
    };
    v1::TariffBook {
        version: book.version().to_owned(),
        compiled_on: day(book.compiled()),
        documents: book.layers().iter().map(document).collect(),
    }
}

/// Reads a book as a service sent it.
pub fn book(wire: v1::TariffBook) -> Result<Book, FieldError> {
    let document = |(index, document): (usize, v1::TariffDocument)| {
        let origin = required::<Origin>(&format!("documents[{index}].origin"), &document.origin)?;
        Ok((origin, document.text))
    };
    let documents: Vec<_> = wire.documents.into_iter().enumerate().map(document).collect::<Result<_, FieldError>>()?;
    Book::try_from(documents).map_err(|error| FieldError::new("documents", error))
}

/// A rule of the book.
pub fn tariff_rule(provider: &str, rule: &Rule, entry: &RuleEntry) -> v1::TariffRule {
    let texts = |places: &[cladnet_model::tariff::Place]| places.iter().map(ToString::to_string).collect();
    v1::TariffRule {
        id: rule.id.clone(),
        provider: provider.to_owned(),
        class: entry.class.to_string(),
        origin: rule.origin.to_string(),
        from: texts(&entry.from),
        to: texts(&entry.to),
        sender: entry.sender.as_ref().map(rate),
        receiver: entry.receiver.as_ref().map(rate),
        currency: rule.currency.clone(),
        unit: rule.unit.to_string(),
        valid_from: day(rule.valid_from),
        valid_to: day(rule.valid_to),
        confidence: rule.confidence.to_string(),
        sources: rule.sources.iter().map(source).collect(),
        note: rule.note.clone(),
    }
}

fn rate(rate: &Rate) -> v1::TariffRate {
    let mut wire = v1::TariffRate::default();
    match rate {
        Rate::Flat(Figure(nano)) => wire.price_nano = Some(*nano),
        Rate::Tiered(Tiers { per, tiers }) => {
            wire.per = per.to_string();
            let tier =
                |tier: &cladnet_model::tariff::Tier| v1::TariffTier { up_to: tier.up_to, price_nano: tier.price.0 };
            wire.tiers = tiers.iter().map(tier).collect();
        }
        Rate::SameAs(class) => wire.same_as = class.to_string(),
        Rate::NotPerGb => wire.unpriced = "not-per-gb".to_owned(),
        Rate::Unknown => wire.unpriced = "unknown".to_owned(),
    }
    wire
}

fn source(source: &Source) -> v1::TariffSource {
    v1::TariffSource {
        document: source.document.clone(),
        url: source.url.clone().unwrap_or_default(),
        date: source.date.clone().unwrap_or_default(),
    }
}

/// What a path costs by a book.
pub fn tariff_quote(quote: &Quote, book: &Book) -> v1::TariffQuote {
    v1::TariffQuote {
        per_gb_nano_usd: quote.per_gb.map(|price| price.0),
        usd_per_gb: quote.per_gb.map(|price| price.to_string()).unwrap_or_default(),
        class: quote.class.to_string(),
        parts: quote.parts.iter().map(part).collect(),
        estimated: quote.estimated,
        assumed: quote.assumed.iter().map(ToString::to_string).collect(),
        book_version: book.version().to_owned(),
        book_compiled_on: day(book.compiled()),
        warnings: Vec::new(),
    }
}

fn part(part: &Part) -> v1::TariffQuotePart {
    let rule = part.rule.as_deref();
    let told = |text: fn(&Rule) -> String| rule.map(text).unwrap_or_default();
    v1::TariffQuotePart {
        side: part.side.to_string(),
        class: part.class.to_string(),
        per_gb_nano_usd: part.price.as_ref().ok().map(|price| price.0),
        unpriced: part.price.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        rule_id: told(|rule| rule.id.clone()),
        origin: told(|rule| rule.origin.to_string()),
        confidence: told(|rule| rule.confidence.to_string()),
        sources: rule.map(|rule| rule.sources.iter().map(source).collect()).unwrap_or_default(),
        listed_nano: part.listed.map(|figure| figure.0),
        currency: told(|rule| rule.currency.clone()),
        unit: told(|rule| rule.unit.to_string()),
        note: told(|rule| rule.note.clone()),
    }
}

/// A document that lies over the shipped one; nothing was stated yet if there is no record.
pub fn tariff_overrides(record: Option<&TariffRecord>, warnings: &[Invalid]) -> v1::TariffOverrides {
    v1::TariffOverrides {
        version: record.map(|record| record.version).unwrap_or_default(),
        document: record.map(|record| record.document.to_text()).unwrap_or_default(),
        changed_at: record.map(|record| timestamp(record.changed_at)),
        changed_by: record.map(|record| record.changed_by.clone()).unwrap_or_default(),
        warnings: tariff_warnings(warnings),
    }
}

/// What is only strange of a document.
pub fn tariff_warnings(warnings: &[Invalid]) -> Vec<v1::TariffWarning> {
    let wire = |warning: &Invalid| v1::TariffWarning { field: warning.field.clone(), problem: warning.problem.clone() };
    warnings.iter().map(wire).collect()
}

fn day(date: Option<Date>) -> String {
    date.map(|date| date.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_arrives_as_it_was_sent() {
        let (sent, arrived) = (Book::shipped(), book(tariff_book(&Book::shipped())).unwrap());
        assert_eq!(arrived, *sent);
        assert_eq!(arrived.layers(), sent.layers());
    }

    #[test]
    fn a_book_that_cannot_be_read_is_refused_with_its_field() {
        let document = |origin: &str, text: &str| v1::TariffBook {
            documents: vec![v1::TariffDocument { origin: origin.into(), text: text.into() }],
            ..v1::TariffBook::default()
        };
        assert_eq!(book(document("hearsay", "")).unwrap_err().field, "documents[0].origin");
        assert_eq!(book(document("operator", "providers = 3")).unwrap_err().field, "documents");
    }
}
