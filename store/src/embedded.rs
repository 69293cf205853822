//! The embedded engine: one file in a data directory, one process. `directory` guards it, `probe` proves the file before
//! it is touched, `tables` says what is in it, `writer` is the one thread that changes it, `leases` its clocks.
//!
//! Reads are redb's own snapshots. A watch reads the log table; all it is told from outside is that there is more.

mod directory;
mod leases;
mod probe;
mod round;
mod tables;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, mpsc},
    time::Duration,
};

use redb::{Database, ReadTransaction, ReadableDatabase as _};
use tokio::sync::{mpsc as channel, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    Revision, SealingKey, StoreError,
    engine::RawWatch,
    raw::{LeaseId, Outcome, RawBatch, RawEntry, RawListing, RawTransaction, Start},
    seal::FirstStart,
};
use directory::Directory;
use writer::{Change, Command, Writer};

/// Where the embedded store is.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Made, with mode 0700, when it does not exist.
    pub directory: PathBuf,
    /// `secret.key` in the directory unless given.
    pub sealing_key_file: Option<PathBuf>,
    /// Revisions of history kept for watches; older ones are compacted by and by.
    pub history: u32,
}

impl EmbeddedOptions {
    /// Some minutes of the busiest installation, and a few MB.
    const HISTORY: u32 = 10_000;

    /// Everything in one directory.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self { directory: directory.as_ref().to_owned(), sealing_key_file: None, history: Self::HISTORY }
    }
}

pub(crate) struct Embedded {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What the readers and the writer have in common.
struct Shared {
    /// Absent after [`Embedded::close`], and while the file is opened again after an I/O error.
    database: RwLock<Option<Database>>,
    /// The last revision that is durable.
    revision: watch::Sender<Revision>,
    closed: CancellationToken,
    /// Held as long as anybody may touch the file.
    directory: Directory,
}

impl Embedded {
    pub(crate) async fn open(options: EmbeddedOptions) -> Result<(Self, SealingKey), StoreError> {
        blocking(move || Self::open_now(&options)).await
    }

    fn open_now(options: &EmbeddedOptions) -> Result<(Self, SealingKey), StoreError> {
        let directory = Directory::lock(&options.directory)?;
        let key_file = options.sealing_key_file.clone().unwrap_or_else(|| directory.default_key_file());
        let first = if directory.database_file().exists() { FirstStart::No } else { FirstStart::Yes };
        let sealing_key = SealingKey::load_or_create(&key_file, first)?;
        let database = directory.open_database()?;
        let revision = tables::revision(&database).map_err(|error| directory.explain(error))?;
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            revision: watch::Sender::new(revision),
            closed: CancellationToken::new(),
            directory,
        });
        let (commands, queue) = mpsc::channel();
        Writer::start(shared.clone(), queue, options.history)?;
        Ok((Self { shared, commands }, sealing_key))
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<RawEntry>, StoreError> {
        let key = key.to_owned();
        self.read(move |snapshot| tables::get(snapshot, &key)).await
    }

    pub(crate) async fn list(&self, prefix: &str) -> Result<RawListing, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |snapshot| tables::list(snapshot, &prefix)).await
    }

    pub(crate) async fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |snapshot| tables::count(snapshot, &prefix)).await
    }

    pub(crate) async fn commit(&self, transaction: &RawTransaction) -> Result<Outcome, StoreError> {
        let transaction = transaction.clone();
        self.write(Change::Commit(transaction)).await
    }

    pub(crate) async fn watch(&self, prefix: &str, start: Start) -> Result<RawWatch, StoreError> {
        let revisions = self.shared.revision.subscribe();
        let after = match start {
            Start::Now => *revisions.borrow(),
            Start::After(revision) => revision,
        };
        self.read(move |snapshot| tables::check_history(snapshot, after)).await??;
        let (shared, prefix) = (self.shared.clone(), prefix.to_owned());
        Ok(RawWatch::spawn(|batches| tell(shared, prefix, after, revisions, batches)))
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.ask(|reply| Command::Grant { ttl, reply }).await
    }

    pub(crate) async fn renew(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(|reply| Command::Renew { lease, reply }).await
    }

    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.write(Change::EndLease(lease)).await.map(drop)
    }

    pub(crate) async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.write(Change::Compact(revision)).await.map(drop)
    }

    /// Finishes what was asked, closes the file and frees the directory.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.ask(|reply| Command::Close { reply }).await
    }

    async fn write(&self, change: Change) -> Result<Outcome, StoreError> {
        self.ask(|reply| Command::Write { change, reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or_else(|_| Err(self.shared.silence()))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        blocking(move || shared.read(read)).await
    }
}

impl Shared {
    fn read<T>(&self, read: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        // Whoever was told that the store is closed must not find it open.
        let database = guard.as_ref().filter(|_| !self.closed.is_cancelled()).ok_or_else(|| self.absence())?;
        let snapshot = database.begin_read().map_err(|error| self.directory.explain(error.into()))?;
        read(&snapshot).map_err(|error| self.directory.explain(error))
    }

    /// Closes the file for good and frees the directory.
    fn shut(&self) {
        self.closed.cancel();
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.directory.unlock();
    }

    /// Why there is no database.
    fn absence(&self) -> StoreError {
        match self.closed.is_cancelled() {
            true => StoreError::Closed,
            false => self.directory.explain(redb::Error::PreviousIo),
        }
    }

    /// Why the writer did not answer.
    fn silence(&self) -> StoreError {
        match self.closed.is_cancelled() {
            true => StoreError::Closed,
            false => StoreError::OutcomeUnknown { reason: "the writer failed; see its log".to_owned() },
        }
    }
}

/// Feeds one watch from the log until nobody reads it.
async fn tell(
    shared: Arc<Shared>,
    prefix: String,
    mut after: Revision,
    mut revisions: watch::Receiver<Revision>,
    batches: channel::Sender<Result<RawBatch, StoreError>>,
) {
    loop {
        let newest = *revisions.borrow_and_update();
        while after < newest {
            let (reader, wanted) = (shared.clone(), prefix.clone());
            let page = blocking(move || reader.read(|snapshot| tables::history(snapshot, &wanted, after))).await;
            let page = match page.and_then(|page| page) {
                Ok(page) => page,
                Err(error) => return drop(batches.send(Err(error)).await),
            };
            for batch in page.batches {
                if batches.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
            after = after.max(page.read_to);
        }
        tokio::select! {
            more = revisions.changed() => if more.is_err() { return },
            () = shared.closed.cancelled() => return drop(batches.send(Err(StoreError::Closed)).await),
            () = batches.closed() => return,
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        // The database may panic over a page that went bad since it was proved; nobody else should.
        Err(failure) if failure.is_panic() => {
            error!("the database panicked");
            Err(StoreError::Unavailable { operation: "read", reason: "the database panicked; see the log".to_owned() })
        }
        Err(_) => Err(StoreError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_writer_that_ends_closes_the_store_for_its_readers_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let options = EmbeddedOptions::new(directory.path());
        let (Embedded { shared, commands }, _) = Embedded::open(options).await.expect("a store");
        let (unheard, _) = mpsc::channel();
        let store = Embedded { shared, commands: unheard };
        let mut watch = store.watch("/", Start::Now).await.expect("a watch");
        drop(commands); // the thread's one reason to return untold
        let end = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("the watch goes on");
        assert!(matches!(end, Err(StoreError::Closed)), "{end:?}");
        assert!(matches!(store.get("/").await, Err(StoreError::Closed)));
    }
}
