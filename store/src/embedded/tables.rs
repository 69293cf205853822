//! What is in the file, and how it is read: the records, the log of what happened to them, who hangs on which lease.

use redb::{Database, ReadTransaction, ReadableDatabase as _, TableDefinition, TableError};

use crate::{
    Revision, StoreError,
    raw::{RawBatch, RawEntry, RawEvent, RawListing},
};

/// key → created, modified, lease (0: none), value
pub(super) const RECORDS: TableDefinition<'_, &str, (i64, i64, i64, &[u8])> = TableDefinition::new("kv");

/// revision, position in it → key, created (0: the key was deleted), value
pub(super) const LOG: TableDefinition<'_, (i64, u32), (&str, i64, &[u8])> = TableDefinition::new("log");

/// lease, key that ends with it
pub(super) const LEASED: TableDefinition<'_, (i64, &str), ()> = TableDefinition::new("leased");

/// The store's own numbers, by the names below.
pub(super) const NUMBERS: TableDefinition<'_, &str, i64> = TableDefinition::new("numbers");

/// Last revision given.
pub(super) const REVISION: &str = "revision";

/// The log is complete after this revision.
pub(super) const FLOOR: &str = "floor";

/// Layout of these tables.
const FORMAT: &str = "cladnet-store-format";
const FORMAT_NOW: i64 = 1;

/// Log rows read at a time.
const PAGE_ROWS: usize = 4096;

/// Puts the empty tables into a new file.
pub(super) fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(RECORDS)?;
        transaction.open_table(LOG)?;
        transaction.open_table(LEASED)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(FORMAT, FORMAT_NOW)?;
        // Etcd, too, is at 1 before its first change; 0 means "nothing".
        numbers.insert(REVISION, 1)?;
        numbers.insert(FLOOR, 0)?;
    }
    Ok(transaction.commit()?)
}

/// Says why a sound database is not one of our stores, if so.
pub(super) fn check(database: &Database) -> Result<(), String> {
    let snapshot = database.begin_read().map_err(|error| error.to_string())?;
    let foreign = |error: TableError| format!("a database of something else: {error}");
    let numbers = snapshot.open_table(NUMBERS).map_err(foreign)?;
    snapshot.open_table(RECORDS).map_err(foreign)?;
    snapshot.open_table(LOG).map_err(foreign)?;
    snapshot.open_table(LEASED).map_err(foreign)?;
    match numbers.get(FORMAT).map_err(|error| error.to_string())?.map(|format| format.value()) {
        Some(FORMAT_NOW) => Ok(()),
        Some(other) => Err(format!("its layout is {other}, this release knows {FORMAT_NOW}: run the newer release")),
        None => Err("a database of something else: it has no format".to_owned()),
    }
}

/// The last revision of a database nobody is writing to.
pub(super) fn revision(database: &Database) -> Result<Revision, redb::Error> {
    number(&database.begin_read()?, REVISION)
}

fn number(snapshot: &ReadTransaction, name: &str) -> Result<Revision, redb::Error> {
    Ok(Revision(snapshot.open_table(NUMBERS)?.get(name)?.map_or(0, |number| number.value())))
}

pub(super) fn get(snapshot: &ReadTransaction, key: &str) -> Result<Option<RawEntry>, redb::Error> {
    let found = snapshot.open_table(RECORDS)?.get(key)?;
    Ok(found.map(|row| entry(key, row.value())))
}

pub(super) fn list(snapshot: &ReadTransaction, prefix: &str) -> Result<RawListing, redb::Error> {
    let mut entries = Vec::new();
    for row in snapshot.open_table(RECORDS)?.range(prefix..)? {
        let (key, value) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        entries.push(entry(key.value(), value.value()));
    }
    Ok(RawListing { entries, revision: number(snapshot, REVISION)? })
}

pub(super) fn count(snapshot: &ReadTransaction, prefix: &str) -> Result<usize, redb::Error> {
    let mut count = 0;
    for row in snapshot.open_table(RECORDS)?.range(prefix..)? {
        if !row?.0.value().starts_with(prefix) {
            break;
        }
        count += 1;
    }
    Ok(count)
}

fn entry(key: &str, (created, modified, _, value): (i64, i64, i64, &[u8])) -> RawEntry {
    RawEntry { key: key.to_owned(), value: value.to_owned(), created: Revision(created), modified: Revision(modified) }
}

/// Some of the history, whole revisions only.
pub(super) struct Page {
    pub(super) batches: Vec<RawBatch>,
    /// Nothing up to here is missing.
    pub(super) read_to: Revision,
}

/// Whether the history after a revision is complete.
pub(super) fn check_history(
    snapshot: &ReadTransaction,
    after: Revision,
) -> Result<Result<(), StoreError>, redb::Error> {
    let floor = number(snapshot, FLOOR)?;
    Ok(if after < floor { Err(StoreError::Compacted) } else { Ok(()) })
}

/// Reads what happened under a prefix after a revision.
pub(super) fn history(
    snapshot: &ReadTransaction,
    prefix: &str,
    after: Revision,
) -> Result<Result<Page, StoreError>, redb::Error> {
    if let Err(compacted) = check_history(snapshot, after)? {
        return Ok(Err(compacted));
    }
    let mut page = Page { batches: Vec::new(), read_to: number(snapshot, REVISION)? };
    for (rows, row) in snapshot.open_table(LOG)?.range((after.next().0, 0)..)?.enumerate() {
        let (position, change) = row?;
        let (revision, place) = position.value();
        if rows >= PAGE_ROWS && place == 0 {
            page.read_to = Revision(revision - 1);
            break;
        }
        let (key, created, value) = change.value();
        if key.starts_with(prefix) {
            page.add(Revision(revision), event(key, created, revision, value));
        }
    }
    Ok(Ok(page))
}

fn event(key: &str, created: i64, revision: i64, value: &[u8]) -> RawEvent {
    match created {
        0 => RawEvent::Deleted(key.to_owned()),
        created => RawEvent::Put(entry(key, (created, revision, 0, value))),
    }
}

impl Page {
    fn add(&mut self, revision: Revision, event: RawEvent) {
        match self.batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.events.push(event),
            _ => self.batches.push(RawBatch { revision, events: vec![event] }),
        }
    }
}
