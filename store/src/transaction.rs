//! Transactions: conditions and changes that happen together or not at all.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use crate::{
    Fence, Key, Lease, Prefix, Revision, Sealed, SealingKey, StoreError,
    codec::{self, WriteId},
    engine::Engine,
    raw::{Expectation, Outcome, RawCompare, RawOperation, RawTransaction},
    seal,
};

/// Compares, or changes, in one transaction: etcd's default `--max-txn-ops`, and the embedded engine keeps to it.
pub(crate) const MAX_PARTS: usize = 128;

/// Bytes of keys and values in one transaction: what etcd takes by default (1.5 MiB), less its envelope.
pub(crate) const MAX_BYTES: usize = 1_400_000;

/// A transaction being written down. A mistake made on the way is told by [`Transaction::commit`].
#[must_use = "nothing happens before `commit`"]
pub struct Transaction {
    engine: Arc<Engine>,
    sealing_key: Option<Arc<SealingKey>>,
    write: WriteId,
    raw: RawTransaction,
    fences: Vec<(usize, Fence)>,
    mistake: Option<StoreError>,
}

impl Transaction {
    pub(crate) fn new(engine: Arc<Engine>, sealing_key: Option<Arc<SealingKey>>) -> Self {
        Self {
            engine,
            sealing_key,
            write: WriteId::random(),
            raw: RawTransaction::default(),
            fences: Vec::new(),
            mistake: None,
        }
    }

    /// Only if there is no such record.
    pub fn absent<T>(self, key: &Key<T>) -> Self {
        self.expect(key.path(), Expectation::Absent)
    }

    /// Only if there is such a record.
    pub fn exists<T>(self, key: &Key<T>) -> Self {
        self.expect(key.path(), Expectation::Present)
    }

    /// Only if the record was last modified at `revision`.
    pub fn unchanged<T>(self, key: &Key<T>, revision: Revision) -> Self {
        self.expect(key.path(), Expectation::Modified(revision))
    }

    /// Only if it is still the record that was created at `revision`, changed since or not: one that was deleted and made
    /// anew is another.
    pub fn same<T>(self, key: &Key<T>, revision: Revision) -> Self {
        self.expect(key.path(), Expectation::Created(revision))
    }

    /// Only if no record under the prefix was made or changed after `revision`, that of the listing that was decided by.
    /// Deletions do not count.
    pub fn none_after<T>(self, prefix: &Prefix<T>, revision: Revision) -> Self {
        self.expect(prefix.path(), Expectation::NoneAfter(revision))
    }

    /// Only while the leadership lasts that the fence stands for.
    pub fn fence(mut self, fence: &Fence) -> Self {
        self.fences.push((self.raw.compares.len(), fence.clone()));
        self.expect(fence.path(), Expectation::Created(fence.created()))
    }

    /// Writes a record.
    pub fn put<T: Serialize>(self, key: &Key<T>, value: &T) -> Self {
        self.put_with(key, value, None)
    }

    /// Writes a record that is deleted when the lease ends.
    pub fn put_leased<T: Serialize>(self, key: &Key<T>, value: &T, lease: &Lease) -> Self {
        self.put_with(key, value, Some(lease))
    }

    /// Writes a secret, sealed.
    pub fn put_sealed(mut self, key: &Key<Sealed>, secret: &[u8]) -> Self {
        match seal::seal(self.sealing_key.as_deref(), key, secret) {
            Ok(sealed) => self.put_with(key, &sealed, None),
            Err(error) => {
                self.mistake.get_or_insert(error);
                self
            }
        }
    }

    /// Deletes a record; one that is not there is fine.
    pub fn delete<T>(mut self, key: &Key<T>) -> Self {
        self.raw.operations.push(RawOperation::Delete { key: key.path().to_owned() });
        self
    }

    /// Whether anything would be written.
    pub fn is_empty(&self) -> bool {
        self.raw.operations.is_empty()
    }

    /// Carries it out, and says at which revision. [`StoreError::Conflict`] names the first compare that did not hold,
    /// [`StoreError::NotLeader`] a fence that did not. When the answer to the write was lost, this finds out what
    /// happened; only if that is impossible the error is [`StoreError::OutcomeUnknown`].
    pub async fn commit(mut self) -> Result<Revision, StoreError> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake);
        }
        check(&self.raw)?;
        if let Some((_, fence)) = self.fences.iter().find(|(_, fence)| !fence.is_held()) {
            return Err(StoreError::NotLeader { election: fence.election().to_owned() });
        }
        match self.engine.commit(&self.raw).await? {
            Outcome::Committed(revision) => Ok(revision),
            Outcome::Failed(index) => Err(self.failed(index)),
        }
    }

    fn failed(&self, index: usize) -> StoreError {
        match self.fences.iter().find(|(at, _)| *at == index) {
            Some((_, fence)) => StoreError::NotLeader { election: fence.election().to_owned() },
            None => StoreError::Conflict { key: self.raw.compares[index].key.clone() },
        }
    }

    fn expect(mut self, path: &str, expectation: Expectation) -> Self {
        self.raw.compares.push(RawCompare { key: path.to_owned(), expectation });
        self
    }

    fn put_with<T: Serialize>(mut self, key: &Key<T>, value: &T, lease: Option<&Lease>) -> Self {
        match codec::encode(value, &self.write) {
            Ok(value) => {
                let lease = lease.map(Lease::id);
                self.raw.operations.push(RawOperation::Put { key: key.path().to_owned(), value, lease });
            }
            Err(reason) => {
                self.mistake.get_or_insert(StoreError::Encode { key: key.path().to_owned(), reason });
            }
        }
        self
    }
}

/// Refuses what one engine would take and the other not.
fn check(raw: &RawTransaction) -> Result<(), StoreError> {
    let refused = |reason: String| Err(StoreError::Refused { reason });
    for (what, count) in [("compares", raw.compares.len()), ("changes", raw.operations.len())] {
        if count > MAX_PARTS {
            return refused(format!("{count} {what}; at most {MAX_PARTS}"));
        }
    }
    let mut keys = BTreeSet::new();
    if let Some(twice) = raw.operations.iter().find(|operation| !keys.insert(operation.key())) {
        return refused(format!("{} is changed twice", twice.key()));
    }
    let bytes: usize = raw.operations.iter().map(size).sum();
    if bytes > MAX_BYTES {
        return refused(format!("{bytes} bytes; at most {MAX_BYTES}"));
    }
    Ok(())
}

fn size(operation: &RawOperation) -> usize {
    match operation {
        RawOperation::Put { key, value, .. } => key.len() + value.len(),
        RawOperation::Delete { key } => key.len(),
    }
}
