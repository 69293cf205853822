//! The two engines as one. Everything above speaks to this; nothing above knows which engine it has.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Revision, StoreError,
    embedded::Embedded,
    etcd::Etcd,
    raw::{LeaseId, Outcome, RawBatch, RawEntry, RawListing, RawTransaction, Start},
};

pub(crate) enum Engine {
    Embedded(Embedded),
    Etcd(Box<Etcd>),
}

macro_rules! either {
    ($self:ident, $engine:ident => $call:expr) => {
        match $self {
            Engine::Embedded($engine) => $call,
            Engine::Etcd($engine) => $call,
        }
    };
}

impl Engine {
    /// One key, as of now: never a stale answer.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<RawEntry>, StoreError> {
        either!(self, engine => engine.get(key).await)
    }

    /// Everything under a prefix at one revision.
    pub(crate) async fn list(&self, prefix: &str) -> Result<RawListing, StoreError> {
        either!(self, engine => engine.list(prefix).await)
    }

    /// How many keys are under a prefix; their values are not read.
    pub(crate) async fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        either!(self, engine => engine.count(prefix).await)
    }

    pub(crate) async fn commit(&self, transaction: &RawTransaction) -> Result<Outcome, StoreError> {
        either!(self, engine => engine.commit(transaction).await)
    }

    /// Returns when the watch stands: every change after that, or after the given revision, is told.
    pub(crate) async fn watch(&self, prefix: &str, start: Start) -> Result<RawWatch, StoreError> {
        either!(self, engine => engine.watch(prefix, start).await)
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        either!(self, engine => engine.grant(ttl).await)
    }

    /// Renews a lease; [`StoreError::LeaseEnded`] when it is no more.
    pub(crate) async fn renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        either!(self, engine => engine.renew(lease).await)
    }

    /// Ends a lease and deletes its keys; one that has ended already is fine.
    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        either!(self, engine => engine.revoke(lease).await)
    }

    /// Drops the history up to and including `revision`; the records stay.
    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        either!(self, engine => engine.compact(revision).await)
    }

    /// Lets go of files and connections; everything fails with [`StoreError::Closed`] from now on.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        either!(self, engine => engine.close().await)
    }
}

/// A watch of either engine: a task that reads, and its bounded channel. A slow reader slows the task, not the store.
pub(crate) struct RawWatch {
    batches: mpsc::Receiver<Result<RawBatch, StoreError>>,
    _task: AbortOnDropHandle<()>,
}

impl RawWatch {
    /// Batches a watch may be ahead of its reader.
    const AHEAD: usize = 64;

    pub(crate) fn spawn<F, R>(run: F) -> Self
    where
        F: FnOnce(mpsc::Sender<Result<RawBatch, StoreError>>) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        let (sender, batches) = mpsc::channel(Self::AHEAD);
        Self { batches, _task: AbortOnDropHandle::new(tokio::spawn(run(sender))) }
    }

    /// The next change. After an error there is none. May be dropped and called again without losing anything.
    pub(crate) async fn next(&mut self) -> Result<RawBatch, StoreError> {
        self.batches.recv().await.unwrap_or(Err(StoreError::Closed))
    }
}
