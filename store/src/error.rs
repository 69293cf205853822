//! What can go wrong at the store, sorted by what the caller does next.

use std::{io, path::PathBuf};

use crate::{DecodeError, seal::SealError};

/// Why an operation on the store failed. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A compare did not hold: read again and decide again.
    #[error("{key} is not as expected: somebody else changed it")]
    Conflict { key: String },
    /// The transaction was fenced by a leadership that has ended: stop writing.
    #[error("no longer the leader of {election}")]
    NotLeader { election: String },
    /// The lease has ended, and its keys with it: grant another.
    #[error("the lease has ended")]
    LeaseEnded,
    /// The wanted part of the history is gone: list and start from there.
    #[error("the wanted history is compacted")]
    Compacted,
    /// The record asked for is there but cannot be read.
    #[error("cannot decode {key}")]
    Decode {
        key: String,
        #[source]
        source: DecodeError,
    },
    /// The record cannot be stored as it is; our bug.
    #[error("cannot encode {key}: {reason}")]
    Encode { key: String, reason: String },
    /// The transaction names a key twice, or has more parts or bytes than any engine takes.
    #[error("transaction refused: {reason}")]
    Refused { reason: String },
    /// No answer in time from any endpoint. A read, or a write that surely did not happen.
    #[error("store unavailable: {operation}: {reason}")]
    Unavailable { operation: &'static str, reason: String },
    /// No answer to a write, and re-reading could not tell whether it happened: read before you write again.
    #[error("outcome of the write is unknown: {reason}")]
    OutcomeUnknown { reason: String },
    /// The store refused our credentials or our rights.
    #[error("store denied access: {reason}")]
    Denied { reason: String },
    /// Etcd refuses writes or the disk below the data directory has no room.
    #[error("store is full: {reason}")]
    Full { reason: String },
    /// Options that cannot work; names what to give instead.
    #[error("{option}: {reason}")]
    Options { option: &'static str, reason: String },
    /// Another process has the data directory open.
    #[error("data directory {} in use by pid {pid}", directory.display())]
    InUse { directory: PathBuf, pid: String },
    /// The file is not ours, or damaged; it was left as it is.
    #[error("{} is not a usable cladnet store ({reason}); move it away or restore a backup", path.display())]
    Unusable { path: PathBuf, reason: String },
    /// An operation on a file failed.
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Sealing or opening a secret failed.
    #[error("secret {key}")]
    Seal {
        key: String,
        #[source]
        source: SealError,
    },
    /// The store was closed, or its writer stopped.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later without anybody deciding anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown { .. } | Self::Full { .. })
    }
}
