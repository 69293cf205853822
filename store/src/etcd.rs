//! The etcd engine. `pool` chooses the member and keeps the time, `fault` says what an error means, `transaction` finds
//! out what became of a write whose answer was lost, `watch` is exact or over.
//!
//! Every read is linearizable. Nothing here retries what it cannot prove to be safe to send twice.

mod fault;
mod options;
mod pool;
mod transaction;
mod version;
mod watch;

use std::{error::Error, time::Duration};

use etcd_client::{CompactionOptions, GetOptions, KeyValue};
use tracing::warn;

pub use options::{EtcdOptions, EtcdTls, Password};

use crate::{
    Revision, StoreError,
    engine::RawWatch,
    key::ROOT,
    raw::{LeaseId, Outcome, RawEntry, RawListing, RawTransaction, Start},
};
use fault::Fault;
use pool::{Member, Pool};

pub(crate) struct Etcd {
    pool: Pool,
}

/// Keys read at a time; a listing's pages are all of one revision.
const PAGE: i64 = 500;

/// Listings that may be begun anew because a compaction overtook them.
const LISTINGS: usize = 3;

impl Etcd {
    pub(crate) async fn connect(options: EtcdOptions) -> Result<Self, StoreError> {
        let etcd = Self { pool: Pool::new(options)? };
        // Proves the address, the certificate, the password and the right to read, while a person is looking.
        etcd.get(ROOT).await?;
        match etcd.pool.call("read the version", |member| async move { Ok(member.maintenance().status().await?) }).await
        {
            Ok(status) => version::warn_about(status.version()),
            Err(error) => warn!(error = &error as &dyn Error, "version of etcd unknown"),
        }
        Ok(etcd)
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<RawEntry>, StoreError> {
        let response = self.pool.call("read", |member| async move { Ok(member.kv().get(key, None).await?) }).await?;
        self.pool.saw(response.header());
        Ok(response.kvs().first().map(entry))
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<RawListing, StoreError> {
        let mut outcome = self.list_once(prefix).await;
        for _ in 1..LISTINGS {
            if !matches!(outcome, Err(StoreError::Compacted)) {
                break;
            }
            outcome = self.list_once(prefix).await;
        }
        outcome
    }

    async fn list_once(&self, prefix: &str) -> Result<RawListing, StoreError> {
        let (mut from, end) = (prefix.as_bytes().to_vec(), prefix_end(prefix));
        let mut listing = RawListing { entries: Vec::new(), revision: Revision::ZERO };
        loop {
            let pinned = listing.revision.get();
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(pinned);
            let page = |member: Member| {
                let (from, options) = (from.clone(), options.clone());
                async move { Ok(member.kv().get(from, Some(options)).await?) }
            };
            let page = self.pool.call("list", page).await?;
            self.pool.saw(page.header());
            if listing.revision == Revision::ZERO {
                listing.revision = revision_of(page.header());
            }
            listing.entries.extend(page.kvs().iter().map(entry));
            match page.kvs().last() {
                Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
                _ => return Ok(listing),
            }
        }
    }

    pub(crate) async fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        let options = GetOptions::new().with_range(prefix_end(prefix)).with_count_only();
        let count = |member: Member| {
            let (from, options) = (prefix.as_bytes().to_vec(), options.clone());
            async move { Ok(member.kv().get(from, Some(options)).await?) }
        };
        let response = self.pool.call("count", count).await?;
        self.pool.saw(response.header());
        Ok(usize::try_from(response.count()).unwrap_or_default())
    }

    pub(crate) async fn commit(&self, transaction: &RawTransaction) -> Result<Outcome, StoreError> {
        transaction::commit(&self.pool, transaction).await
    }

    pub(crate) async fn watch(&self, prefix: &str, start: Start) -> Result<RawWatch, StoreError> {
        watch::open(&self.pool, prefix, start).await
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
        // A grant whose answer is lost leaves a lease without keys, which ends by itself.
        let granted =
            self.pool.call("grant a lease", |member| async move { Ok(member.lease().grant(seconds, None).await?) });
        Ok(LeaseId(granted.await?.id()))
    }

    pub(crate) async fn renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        let renew = |member: Member| async move {
            match member.lease().keep_alive(lease.0).await {
                Ok(_) => Ok(()),
                Err(etcd_client::Error::LeaseKeepAliveError(_)) => Err(Fault::Final(StoreError::LeaseEnded)),
                Err(error) => Err(error.into()),
            }
        };
        self.pool.call("renew a lease", renew).await
    }

    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.pool.call("end a lease", |member| async move { Ok(member.lease().revoke(lease.0).await?) }).await {
            Ok(_) | Err(StoreError::LeaseEnded) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let compact = |member: Member| async move {
            let physical = CompactionOptions::new().with_physical();
            Ok(member.kv().compact(revision.get(), Some(physical)).await?)
        };
        match self.pool.call("compact", compact).await {
            Ok(_) | Err(StoreError::Compacted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.pool.close();
        Ok(())
    }
}

/// The first key after all that begin with `prefix`. Ours end in ASCII, whose last byte can always be counted up.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn entry(found: &KeyValue) -> RawEntry {
    RawEntry {
        // A foreign key that is no text becomes some other text: unknown either way.
        key: String::from_utf8_lossy(found.key()).into_owned(),
        value: found.value().to_vec(),
        created: Revision(found.create_revision()),
        modified: Revision(found.mod_revision()),
    }
}

fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, etcd_client::ResponseHeader::revision))
}
