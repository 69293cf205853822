//! Tariffs: the operator's document and what was imported, over what is shipped. A document that is wrong changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use cladnet_model::{
    HostId,
    tariff::{Bearer, Book, Document, Origin, Provider, TariffRecord, check, refuse_unknown_fields},
    validate::{Invalid, InvalidInput},
};
use cladnet_store::{StoreError, Versioned, key};

use crate::{Service, error::CallError, events::Note, networks::TRIES};

/// Longest document, in bytes: as a record it still fits into one transaction.
const MAX_DOCUMENT: usize = 512 * 1024;

/// A document that was set, and what is only strange of it.
pub(crate) type Stated = (Option<TariffRecord>, Vec<Invalid>);

impl Service {
    /// The prices in force, as the store has them now.
    pub(crate) async fn tariff_book(&self) -> Result<Book, CallError> {
        let [imported, operator] = [self.tariff(Origin::Imported).await?, self.tariff(Origin::Operator).await?];
        let document = |record: &Option<Versioned<TariffRecord>>| Some(record.as_ref()?.value.document.clone());
        Ok(Book::effective(document(&imported).as_ref(), document(&operator).as_ref()))
    }

    /// One of the documents that are kept.
    pub(crate) async fn tariff(&self, origin: Origin) -> Result<Option<Versioned<TariffRecord>>, CallError> {
        Ok(self.store.get(&key::tariff(origin)).await?)
    }

    /// Reads an operator's document and checks it over what lies beneath it.
    pub(crate) async fn check_tariff(&self, text: &str) -> Result<(Document, Vec<Invalid>), CallError> {
        let document = parse(text)?;
        let imported = self.tariff(Origin::Imported).await?.map(|record| record.value.document);
        let mut warnings = check(&document, &Book::effective(imported.as_ref(), None), self.today())?;
        warnings.extend(self.surcharges_of_nobody(&document).await?);
        Ok((document, warnings))
    }

    /// A host may be priced before it enrols; more often its id is mistyped.
    async fn surcharges_of_nobody(&self, document: &Document) -> Result<Vec<Invalid>, CallError> {
        let bearers = document.surcharges.iter().enumerate().filter_map(|(position, surcharge)| match &surcharge.on {
            Bearer::Host(host) => Some((position, host)),
            _ => None,
        });
        let bearers: Vec<_> = bearers.collect();
        let hosts = if bearers.is_empty() { BTreeMap::new() } else { self.host_names().await? };
        let unknown = bearers.into_iter().filter(|(_, host)| !hosts.contains_key(*host));
        let warning = |(position, host): (usize, &HostId)| Invalid {
            field: format!("surcharges[{position}].on"),
            problem: format!("names host {host}, which is not known; `cladnet host list` shows ids"),
        };
        Ok(unknown.map(warning).collect())
    }

    /// Replaces the operator's document; with `expected_version` only if nobody else did meanwhile.
    pub(crate) async fn set_tariff(
        &self,
        text: &str,
        expected_version: Option<u64>,
        actor: &str,
    ) -> Result<Stated, CallError> {
        for _ in 0..TRIES {
            let (document, warnings) = self.check_tariff(text).await?;
            let current = self.tariff(Origin::Operator).await?;
            let version = current.as_ref().map_or(0, |record| record.value.version);
            if let Some(expected) = expected_version.filter(|expected| *expected != version) {
                return Err(CallError::Conflict(format!(
                    "the tariff overrides have version {version}, not {expected}; look again and repeat"
                )));
            }
            if version == 0 && document == Document::default() {
                return Ok((None, warnings));
            }
            let rules: usize = document.providers.values().map(|provider| provider.rules.len()).sum();
            let message = format!(
                "tariff overrides set to version {}: {rules} rules, {} surcharges, {} interconnects, {} exchange rates",
                version + 1,
                document.surcharges.len(),
                document.interconnects.len(),
                document.exchange_rates.len()
            );
            let note = Note { kind: "tariff.overridden", network: None, host: None, actor, message };
            if let Some(record) = self.put_tariff(Origin::Operator, current, document, note).await? {
                return Ok((Some(record), warnings));
            }
        }
        Err(busy())
    }

    /// Replaces what was imported of one provider.
    pub(crate) async fn import_tariff(&self, provider: &str, text: &str, actor: &str) -> Result<Stated, CallError> {
        let document = parse(text)?;
        only_of(provider, &document)?;
        let warnings = check(&document, &Book::shipped(), self.today())?;
        for _ in 0..TRIES {
            let current = self.tariff(Origin::Imported).await?;
            let before = current.as_ref().map(|record| record.value.document.clone()).unwrap_or_default();
            let merged = with_import(before.clone(), provider, document.clone());
            if merged == before {
                return Ok((current.map(|record| record.value), warnings));
            }
            let rules = document.providers.get(provider).map_or(0, |imported| imported.rules.len());
            let message = match rules {
                0 => format!("imported tariff of {provider} taken back"),
                _ => format!("tariff of {provider} imported: {rules} rules"),
            };
            let note = Note { kind: "tariff.imported", network: None, host: None, actor, message };
            if let Some(record) = self.put_tariff(Origin::Imported, current, merged, note).await? {
                return Ok((Some(record), warnings));
            }
        }
        Err(busy())
    }

    /// Writes a document in place of the one that was seen; nothing if somebody else was faster.
    async fn put_tariff(
        &self,
        origin: Origin,
        seen: Option<Versioned<TariffRecord>>,
        document: Document,
        note: Note<'_>,
    ) -> Result<Option<TariffRecord>, CallError> {
        let key = key::tariff(origin);
        let transaction = match &seen {
            Some(seen) => self.store.transaction().unchanged(&key, seen.modified),
            None => self.store.transaction().absent(&key),
        };
        let record = TariffRecord {
            version: seen.map_or(0, |seen| seen.value.version) + 1,
            document,
            changed_at: self.clock.now(),
            changed_by: note.actor.to_owned(),
        };
        match self.note(transaction.put(&key, &record), note).commit().await {
            Ok(_) => Ok(Some(record)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn parse(text: &str) -> Result<Document, CallError> {
    if text.len() > MAX_DOCUMENT {
        let found = text.len();
        return Err(CallError::invalid("document", format!("has {found} bytes; at most {MAX_DOCUMENT} are allowed")));
    }
    let (document, unknown) = Document::parse(text)?;
    refuse_unknown_fields(unknown)?;
    Ok(document)
}

/// An import speaks of its provider's figures and of nothing else.
fn only_of(provider: &str, document: &Document) -> Result<(), InvalidInput> {
    let Document { compiled: _, suggested_defaults, sources: _, exchange_rates, providers, surcharges, interconnects } =
        document;
    let others = providers.keys().find(|name| *name != provider).map(|name| format!("providers.{name}"));
    let field = match () {
        () if suggested_defaults.is_some() => Some("suggested_defaults".to_owned()),
        () if !exchange_rates.is_empty() => Some("exchange_rates".to_owned()),
        () if !surcharges.is_empty() => Some("surcharges".to_owned()),
        () if !interconnects.is_empty() => Some("interconnects".to_owned()),
        () => others,
    };
    match field {
        Some(field) => Err(InvalidInput::new(&field, format!("is not part of {provider}'s price list; remove it"))),
        None => Ok(()),
    }
}

/// What is imported once a provider's figures are replaced; sources that no rule names any more go.
fn with_import(mut all: Document, name: &str, import: Document) -> Document {
    match import.providers.get(name) {
        Some(provider) if *provider != Provider::default() => {
            drop(all.providers.insert(name.to_owned(), provider.clone()))
        }
        _ => drop(all.providers.remove(name)),
    }
    all.sources.extend(import.sources);
    let rules = all.providers.values().flat_map(|provider| &provider.rules).flat_map(|rule| &rule.sources);
    let pools = all.providers.values().flat_map(|provider| &provider.pools).flat_map(|pool| &pool.sources);
    let named: BTreeSet<&String> = rules.chain(pools).collect();
    all.sources.retain(|source, _| named.contains(source));
    all.compiled = if all.providers.is_empty() { None } else { all.compiled.max(import.compiled) };
    all
}

fn busy() -> CallError {
    CallError::Conflict("others keep changing tariffs at the same time; repeat the call".to_owned())
}
