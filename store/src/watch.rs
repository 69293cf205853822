//! A watch from a revision: exact, and over as soon as it cannot be. For a reader that wants to be healed, see
//! [`crate::Follow`].

use crate::{
    Key, Record, Revision, StoreError, Undecodable, Versioned,
    engine::RawWatch,
    raw::{RawBatch, RawEntry, RawEvent},
};

/// All changes that one transaction made under the watched prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<T> {
    pub revision: Revision,
    /// Sorted as the transaction made them.
    pub changes: Vec<Change<T>>,
}

/// What happened to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    Put(Versioned<T>),
    Deleted(Key<T>),
    /// A value was written that cannot be read; the key is not gone.
    Undecodable(Undecodable),
}

/// Changes under a prefix, each revision once, in order. Ends with its first error.
pub struct Watch<T> {
    raw: RawWatch,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T: Record> Watch<T> {
    pub(crate) fn new(raw: RawWatch) -> Self {
        Self { raw, record: std::marker::PhantomData }
    }

    /// Waits for the next change. [`StoreError::Compacted`] when history was dropped before it was read. May be dropped
    /// and called again (`select!`) without losing anything.
    pub async fn next(&mut self) -> Result<Batch<T>, StoreError> {
        self.raw.next().await.map(Batch::from_raw)
    }
}

impl<T: Record> Batch<T> {
    pub(crate) fn from_raw(raw: RawBatch) -> Self {
        Self { revision: raw.revision, changes: raw.events.into_iter().map(Change::from_raw).collect() }
    }
}

impl<T: Record> Change<T> {
    pub(crate) fn from_raw(raw: RawEvent) -> Self {
        match raw {
            RawEvent::Put(entry) => Versioned::decode(entry).map_or_else(Self::Undecodable, Self::Put),
            RawEvent::Deleted(key) => Self::Deleted(Key::at(key)),
        }
    }
}

impl<T: Record> Versioned<T> {
    pub(crate) fn decode(entry: RawEntry) -> Result<Self, Undecodable> {
        match T::decode(&entry.key, &entry.value) {
            Ok(value) => Ok(Self { key: Key::at(entry.key), value, created: entry.created, modified: entry.modified }),
            Err(error) => Err(Undecodable { key: entry.key, error }),
        }
    }
}
