//! What the engines speak: bytes under string keys, with no notion of records.

use crate::Revision;

/// A lease as its engine names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LeaseId(pub(crate) i64);

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawEntry {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
}

/// Everything under a prefix, sorted by key, at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawListing {
    pub(crate) entries: Vec<RawEntry>,
    pub(crate) revision: Revision,
}

/// What a compare asks of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expectation {
    Absent,
    Present,
    Modified(Revision),
    Created(Revision),
    /// The key is a prefix, and nothing under it was modified after this revision.
    NoneAfter(Revision),
}

impl Expectation {
    /// Whether a key that was created and modified so, or is absent, is as expected. Of a prefix it is the key that was
    /// modified last.
    pub(crate) fn holds(self, found: Option<(Revision, Revision)>) -> bool {
        match (self, found) {
            (Self::Absent, found) => found.is_none(),
            (Self::Present, found) => found.is_some(),
            (Self::Modified(expected), Some((_, modified))) => modified == expected,
            (Self::Created(expected), Some((created, _))) => created == expected,
            (Self::NoneAfter(expected), Some((_, modified))) => modified <= expected,
            (Self::NoneAfter(_), None) => true,
            (Self::Modified(_) | Self::Created(_), None) => false,
        }
    }
}

/// One condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawCompare {
    pub(crate) key: String,
    pub(crate) expectation: Expectation,
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawOperation {
    Put { key: String, value: Vec<u8>, lease: Option<LeaseId> },
    Delete { key: String },
}

impl RawOperation {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// All changes happen at one revision if all compares hold, else nothing does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RawTransaction {
    pub(crate) compares: Vec<RawCompare>,
    pub(crate) operations: Vec<RawOperation>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done; the store's revision after it, unchanged when there was nothing to do.
    Committed(Revision),
    /// The compare at this index did not hold.
    Failed(usize),
}

/// One change as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RawEvent {
    Put(RawEntry),
    Deleted(String),
}

/// All changes of one revision under the watched prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawBatch {
    pub(crate) revision: Revision,
    pub(crate) events: Vec<RawEvent>,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the first change after the call.
    Now,
    /// With the first change after this revision; refused once that is below the compaction.
    After(Revision),
}
