//! The embedded engine: one file in a data directory, one process.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Revision, SealingKey, StoreError,
    engine::RawWatch,
    raw::{LeaseId, Outcome, RawEntry, RawListing, RawTransaction, Start},
};

/// Where the embedded store is.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Made, with mode 0700, when it does not exist.
    pub directory: PathBuf,
    /// `secret.key` in the directory unless given.
    pub sealing_key_file: Option<PathBuf>,
}

impl EmbeddedOptions {
    /// Everything in one directory.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_owned(), sealing_key_file: None }
    }
}

pub(crate) struct Embedded {}

const NOT_YET: StoreError = StoreError::Closed;

impl Embedded {
    pub(crate) async fn open(_options: EmbeddedOptions) -> Result<(Self, SealingKey), StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn get(&self, _key: &str) -> Result<Option<RawEntry>, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn list(&self, _prefix: &str) -> Result<RawListing, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn commit(&self, _transaction: &RawTransaction) -> Result<Outcome, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn watch(&self, _prefix: &str, _start: Start) -> Result<RawWatch, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn grant(&self, _ttl: Duration) -> Result<LeaseId, StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn renew(&self, _lease: LeaseId) -> Result<(), StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn revoke(&self, _lease: LeaseId) -> Result<(), StoreError> {
        Err(NOT_YET)
    }
    pub(crate) async fn compact(&self, _revision: Revision) -> Result<(), StoreError> {
        Err(NOT_YET)
    }
}
