//! One round of changes inside one write transaction of the file: the rules of the store, the same as etcd's.

use redb::{ReadableTable as _, Table, WriteTransaction};

use super::{
    leases::Leases,
    tables::{FLOOR, LEASED, LOG, NUMBERS, RECORDS, REVISION},
};
use crate::{
    Revision, StoreError,
    raw::{Expectation, LeaseId, Outcome, RawOperation, RawTransaction},
};

/// History is cut when so much more than wanted is there, so that not every round has to.
const SLACK: i64 = 500;

/// The open tables, and where the round has got to.
pub(super) struct Round<'txn> {
    records: Table<'txn, &'static str, (i64, i64, i64, &'static [u8])>,
    log: Table<'txn, (i64, u32), (&'static str, i64, &'static [u8])>,
    leased: Table<'txn, (i64, &'static str), ()>,
    numbers: Table<'txn, &'static str, i64>,
    revision: Revision,
    floor: Revision,
    /// Changes so far in the next revision.
    changes: u32,
    began: (Revision, Revision),
}

impl<'txn> Round<'txn> {
    pub(super) fn begin(transaction: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        let numbers = transaction.open_table(NUMBERS)?;
        let number = |name| -> Result<_, redb::Error> { Ok(Revision(numbers.get(name)?.map_or(0, |n| n.value()))) };
        let (revision, floor) = (number(REVISION)?, number(FLOOR)?);
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            log: transaction.open_table(LOG)?,
            leased: transaction.open_table(LEASED)?,
            numbers,
            revision,
            floor,
            changes: 0,
            began: (revision, floor),
        })
    }

    /// Cuts history that nobody wants, and says at which revision the round ends; `None` when it changed nothing.
    pub(super) fn finish(mut self, history: i64) -> Result<Option<Revision>, redb::Error> {
        let wanted = Revision(self.revision.0 - history);
        if wanted.0 - self.floor.0 > SLACK {
            self.cut(wanted)?;
        }
        if self.began == (self.revision, self.floor) {
            return Ok(None);
        }
        self.numbers.insert(REVISION, self.revision.0)?;
        self.numbers.insert(FLOOR, self.floor.0)?;
        Ok(Some(self.revision))
    }

    /// All compares, then all changes at the next revision. The outer error is the file's, the inner the caller's.
    pub(super) fn commit(
        &mut self,
        transaction: &RawTransaction,
        leases: &Leases,
    ) -> Result<Result<Outcome, StoreError>, redb::Error> {
        for (index, compare) in transaction.compares.iter().enumerate() {
            let found = match compare.expectation {
                Expectation::NoneAfter(_) => self.newest(&compare.key)?,
                _ => self.find(&compare.key)?,
            };
            let found = found.map(|(created, modified, _)| (Revision(created), Revision(modified)));
            if !compare.expectation.holds(found) {
                return Ok(Ok(Outcome::Failed(index)));
            }
        }
        let lost = |operation: &RawOperation| matches!(operation, RawOperation::Put { lease: Some(lease), .. } if !leases.is_living(*lease));
        if transaction.operations.iter().any(lost) {
            return Ok(Err(StoreError::LeaseEnded));
        }
        for operation in &transaction.operations {
            match operation {
                RawOperation::Put { key, value, lease } => self.put(key, value, *lease)?,
                RawOperation::Delete { key } => self.delete(key)?,
            }
        }
        Ok(Ok(Outcome::Committed(self.seal_revision())))
    }

    /// Deletes what hangs on a lease, at one revision; says how many keys that were.
    pub(super) fn end_lease(&mut self, lease: LeaseId) -> Result<usize, redb::Error> {
        let mut keys = Vec::new();
        for row in self.leased.range((lease.0, "")..(lease.0 + 1, ""))? {
            keys.push(row?.0.value().1.to_owned());
        }
        for key in &keys {
            self.delete(key)?;
        }
        self.seal_revision();
        Ok(keys.len())
    }

    /// Ends the leases of processes that are gone; says how many keys went with them.
    pub(super) fn end_every_lease(&mut self) -> Result<usize, redb::Error> {
        let mut keys = 0;
        loop {
            let first = self.leased.first()?.map(|(row, _)| LeaseId(row.value().0));
            let Some(lease) = first else { return Ok(keys) };
            keys += self.end_lease(lease)?;
        }
    }

    pub(super) fn compact(&mut self, revision: Revision) -> Result<Result<Outcome, StoreError>, redb::Error> {
        if revision > self.revision {
            let reason = format!("compaction at revision {revision}, the store is at {}", self.revision);
            return Ok(Err(StoreError::Refused { reason }));
        }
        self.cut(revision)?;
        Ok(Ok(Outcome::Committed(self.revision)))
    }

    fn cut(&mut self, floor: Revision) -> Result<(), redb::Error> {
        if floor > self.floor {
            self.log.retain_in(..(floor.next().0, 0), |_, _| false)?;
            self.floor = floor;
        }
        Ok(())
    }

    fn put(&mut self, key: &str, value: &[u8], lease: Option<LeaseId>) -> Result<(), redb::Error> {
        let revision = self.revision.next().0;
        let before = self.find(key)?;
        let created = before.map_or(revision, |(created, ..)| created);
        self.detach(key, before)?;
        if let Some(lease) = lease {
            self.leased.insert((lease.0, key), ())?;
        }
        self.records.insert(key, (created, revision, lease.map_or(0, |lease| lease.0), value))?;
        self.note(key, created, value)
    }

    fn delete(&mut self, key: &str) -> Result<(), redb::Error> {
        let before = self.find(key)?;
        if before.is_none() {
            return Ok(());
        }
        self.detach(key, before)?;
        self.records.remove(key)?;
        self.note(key, 0, &[])
    }

    fn detach(&mut self, key: &str, before: Option<(i64, i64, i64)>) -> Result<(), redb::Error> {
        if let Some((_, _, lease)) = before
            && lease != 0
        {
            self.leased.remove((lease, key))?;
        }
        Ok(())
    }

    fn note(&mut self, key: &str, created: i64, value: &[u8]) -> Result<(), redb::Error> {
        self.log.insert((self.revision.next().0, self.changes), (key, created, value))?;
        self.changes += 1;
        Ok(())
    }

    /// Gives the changes since the last call their revision; without any, the revision stays.
    fn seal_revision(&mut self) -> Revision {
        if std::mem::take(&mut self.changes) > 0 {
            self.revision = self.revision.next();
        }
        self.revision
    }

    /// Created, modified and lease of the key under a prefix that was modified last.
    fn newest(&self, prefix: &str) -> Result<Option<(i64, i64, i64)>, redb::Error> {
        let mut newest = None;
        for row in self.records.range(prefix..)? {
            let (key, value) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (created, modified, lease, _) = value.value();
            newest = newest.max(Some((modified, created, lease)));
        }
        Ok(newest.map(|(modified, created, lease)| (created, modified, lease)))
    }

    /// Created, modified and lease of a key.
    fn find(&self, key: &str) -> Result<Option<(i64, i64, i64)>, redb::Error> {
        let found = self.records.get(key)?;
        Ok(found.map(|row| {
            let (created, modified, lease, _) = row.value();
            (created, modified, lease)
        }))
    }
}
