//! What reads give: records with their revisions.

use std::fmt;

use crate::{DecodeError, Key, StoreError};

/// A moment in the history of the whole store: every transaction that changes something has the next one.
/// Never compare it with a network's generation or a release's version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub(crate) i64);

impl Revision {
    /// Before everything: no record has it.
    pub const ZERO: Self = Self(0);

    /// The revision as a number, for the wire.
    pub fn get(self) -> i64 {
        self.0
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl From<i64> for Revision {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    pub key: Key<T>,
    pub value: T,
    /// Revision that created the key; another one after a deletion.
    pub created: Revision,
    /// Revision that wrote this value: what a compare-and-swap expects.
    pub modified: Revision,
}

/// All records under a prefix at one revision, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    pub items: Vec<Versioned<T>>,
    /// Revision of the whole store at which this was true.
    pub revision: Revision,
    /// Records that are there but could not be read; their absence from `items` is not a removal.
    pub undecodable: Vec<Undecodable>,
}

impl<T> Listing<T> {
    /// The items, for decisions that a record nobody could read might overturn: [`StoreError::Decode`] names the first such.
    pub fn complete(self) -> Result<Vec<Versioned<T>>, StoreError> {
        match self.undecodable.into_iter().next() {
            None => Ok(self.items),
            Some(Undecodable { key, error }) => Err(StoreError::Decode { key, source: error }),
        }
    }
}

/// A record that is there but cannot be read: damaged, foreign, or written by a newer release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode {key}")]
pub struct Undecodable {
    pub key: String,
    #[source]
    pub error: DecodeError,
}
