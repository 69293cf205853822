//! The store as everybody holds it: cheap to clone, one per process.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    EmbeddedOptions, EtcdOptions, Follow, Key, Leadership, Lease, Listing, Prefix, Record, Revision, Sealed,
    SealingKey, StoreError, Transaction, Versioned, Watch,
    embedded::Embedded,
    engine::Engine,
    etcd::Etcd,
    raw::{RawListing, Start},
    seal,
};

/// A handle on the store.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    sealing_key: Option<Arc<SealingKey>>,
}

impl Store {
    /// Opens, or makes, the store of a data directory. Every lease of an earlier process ends here, its keys deleted.
    pub async fn open_embedded(options: EmbeddedOptions) -> Result<Self, StoreError> {
        let (engine, sealing_key) = Embedded::open(options).await?;
        Ok(Self { engine: Arc::new(Engine::Embedded(engine)), sealing_key: Some(Arc::new(sealing_key)) })
    }

    /// Connects to an etcd cluster; fails when no endpoint answers in time.
    pub async fn connect_etcd(mut options: EtcdOptions) -> Result<Self, StoreError> {
        let sealing_key = options.sealing_key.take().map(Arc::new);
        Ok(Self { engine: Arc::new(Engine::Etcd(Box::new(Etcd::connect(options).await?))), sealing_key })
    }

    /// The same store, but secrets are sealed and opened with another key.
    pub fn sealing_with(&self, key: SealingKey) -> Self {
        Self { engine: self.engine.clone(), sealing_key: Some(Arc::new(key)) }
    }

    /// Reads one record; never a stale one.
    pub async fn get<T: Record>(&self, key: &Key<T>) -> Result<Option<Versioned<T>>, StoreError> {
        let Some(entry) = self.engine.get(key.path()).await? else { return Ok(None) };
        let record = Versioned::decode(entry).map_err(|bad| StoreError::Decode { key: bad.key, source: bad.error })?;
        Ok(Some(record))
    }

    /// Reads all records under a prefix at one revision.
    pub async fn list<T: Record>(&self, prefix: &Prefix<T>) -> Result<Listing<T>, StoreError> {
        self.engine.list(prefix.path()).await.map(Listing::from_raw)
    }

    /// How many records there are under a prefix, readable or not.
    pub async fn count<T>(&self, prefix: &Prefix<T>) -> Result<usize, StoreError> {
        self.engine.count(prefix.path()).await
    }

    /// Writes a record that must not be there yet; [`StoreError::Conflict`] when it is.
    pub async fn create<T: Serialize>(&self, key: &Key<T>, value: &T) -> Result<Revision, StoreError> {
        self.transaction().absent(key).put(key, value).commit().await
    }

    /// Writes a record whatever is there: only where nobody else decides by it.
    pub async fn put<T: Serialize>(&self, key: &Key<T>, value: &T) -> Result<Revision, StoreError> {
        self.transaction().put(key, value).commit().await
    }

    /// Writes a record over the one last modified at `expected`; [`StoreError::Conflict`] when that is not there.
    pub async fn replace<T: Serialize>(
        &self,
        key: &Key<T>,
        value: &T,
        expected: Revision,
    ) -> Result<Revision, StoreError> {
        self.transaction().unchanged(key, expected).put(key, value).commit().await
    }

    /// Deletes the record last modified at `expected`; [`StoreError::Conflict`] when that is not there.
    pub async fn delete<T>(&self, key: &Key<T>, expected: Revision) -> Result<Revision, StoreError> {
        self.transaction().unchanged(key, expected).delete(key).commit().await
    }

    /// Several compares and changes at one revision, all or nothing.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.engine.clone(), self.sealing_key.clone())
    }

    /// Changes after a revision, exactly once each. Ends at the first trouble; see [`Store::follow`] for one that heals.
    pub async fn watch<T: Record>(&self, prefix: &Prefix<T>, after: Revision) -> Result<Watch<T>, StoreError> {
        // Every store begins at revision 1, with nothing: there is no history before it that could be compacted.
        self.engine.watch(prefix.path(), Start::After(after.max(Revision(1)))).await.map(Watch::new)
    }

    /// The state under a prefix and then every change to it, whatever happens to the connection meanwhile.
    pub fn follow<T: Record>(&self, prefix: &Prefix<T>) -> Follow<T> {
        Follow::start(self.engine.clone(), prefix.path().to_owned())
    }

    /// A lease that is kept alive until dropped. Etcd rounds `ttl` up to whole seconds, two at least. Every lease costs
    /// a call each quarter of its time: use one per process, not one per key.
    pub async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        Lease::grant(self.engine.clone(), ttl).await
    }

    /// Waits until `candidate` leads the election `name` (`[a-z0-9-]`), through any trouble; fails only with
    /// [`StoreError::Closed`].
    pub async fn campaign(&self, name: &str, candidate: &str) -> Result<Leadership, StoreError> {
        Leadership::campaign(self, name, candidate).await
    }

    /// Seals a secret under a key that must not be there yet.
    pub async fn create_sealed(&self, key: &Key<Sealed>, secret: &[u8]) -> Result<Revision, StoreError> {
        self.transaction().absent(key).put_sealed(key, secret).commit().await
    }

    /// Seals a secret, whatever is there.
    pub async fn put_sealed(&self, key: &Key<Sealed>, secret: &[u8]) -> Result<Revision, StoreError> {
        self.transaction().put_sealed(key, secret).commit().await
    }

    /// Opens a secret.
    pub async fn get_sealed(&self, key: &Key<Sealed>) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let Some(found) = self.get(key).await? else { return Ok(None) };
        seal::open(self.sealing_key.as_deref(), key, &found.value).map(Some)
    }

    /// Drops the history up to and including `revision`; records stay, watches from before it end. The embedded engine
    /// does this by itself, etcd by its `--auto-compaction-retention`.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.engine.compact(revision).await
    }

    /// Finishes what was asked and frees the data directory, for a clean end of the process. Every other handle and
    /// every follower ends with it.
    pub async fn close(self) -> Result<(), StoreError> {
        self.engine.close().await
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

impl<T: Record> Listing<T> {
    pub(crate) fn from_raw(raw: RawListing) -> Self {
        let mut listing = Self { items: Vec::new(), revision: raw.revision, undecodable: Vec::new() };
        for entry in raw.entries {
            match Versioned::decode(entry) {
                Ok(item) => listing.items.push(item),
                Err(bad) => listing.undecodable.push(bad),
            }
        }
        listing
    }
}
