//! Following a prefix for good: the state first, then every change to it, whatever happens to connections, leaders and
//! history meanwhile.
//!
//! After any trouble, and every few minutes without any, the whole prefix is listed again and only the difference is
//! told. The watch is opened *before* the listing is read: a change after the listing then always comes over a watch
//! that stood already, and never from a history in which etcd 3.4 loses deletions next to a compaction.

use std::{collections::BTreeMap, error::Error, pin::Pin, sync::Arc, task, time::Duration};

use futures_util::Stream;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, warn};

use crate::{
    Batch, Change, Listing, Record, Revision, StoreError,
    engine::{Engine, RawWatch},
    raw::{RawBatch, RawEvent, RawListing, Start},
};

/// Mean time between two listings that nothing asked for.
const ANTI_ENTROPY: Duration = Duration::from_secs(300);

/// First and longest pause before another try.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Updates a follower may be behind before the reading stops to wait for it.
const AHEAD: usize = 16;

/// What a follower gets: first a listing, then only batches, at revisions that never go back while the store's do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update<T> {
    /// Everything there is. Comes once, first.
    Listing(Listing<T>),
    /// What changed at one revision; after a gap, everything that changed in it, as of the revision of the new listing.
    Batch(Batch<T>),
}

/// A stream of [`Update`]s that heals itself. Ends only when the store is closed; dropping it stops it.
pub struct Follow<T> {
    updates: mpsc::Receiver<Update<T>>,
    stale: watch::Receiver<Option<Instant>>,
    _task: AbortOnDropHandle<()>,
}

impl<T: Record> Follow<T> {
    pub(crate) fn start(engine: Arc<Engine>, prefix: String) -> Self {
        let (sender, updates) = mpsc::channel(AHEAD);
        let (stale_sender, stale) = watch::channel(Some(Instant::now()));
        let follower =
            Follower { engine, prefix, updates: sender, stale: stale_sender, known: None, applied: Revision::ZERO };
        Self { updates, stale, _task: AbortOnDropHandle::new(tokio::spawn(follower.run())) }
    }

    /// The next update; `None` when the store was closed. May be dropped and called again without losing anything.
    pub async fn next(&mut self) -> Option<Update<T>> {
        self.updates.recv().await
    }

    /// The next update if it is here already.
    pub fn try_next(&mut self) -> Option<Update<T>> {
        self.updates.try_recv().ok()
    }

    /// Since when the followed state may be out of date; `None` while a watch stands.
    pub fn stale_since(&self) -> watch::Receiver<Option<Instant>> {
        self.stale.clone()
    }
}

impl<T: Record> Stream for Follow<T> {
    type Item = Update<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> task::Poll<Option<Update<T>>> {
        self.updates.poll_recv(context)
    }
}

/// Why following stopped for a moment, or for good.
enum Stop {
    Trouble(StoreError),
    Unwanted,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Trouble(error)
    }
}

struct Follower<T> {
    engine: Arc<Engine>,
    prefix: String,
    updates: mpsc::Sender<Update<T>>,
    stale: watch::Sender<Option<Instant>>,
    /// Last modification of every key, as the follower was told; absent before the first listing.
    known: Option<BTreeMap<String, Revision>>,
    /// Everything up to here was told.
    applied: Revision,
}

impl<T: Record> Follower<T> {
    async fn run(mut self) {
        let mut pause = BACKOFF.0;
        loop {
            let began = Instant::now();
            match self.follow().await {
                Stop::Unwanted | Stop::Trouble(StoreError::Closed) => return,
                Stop::Trouble(StoreError::Compacted) => {
                    debug!(prefix = self.prefix, "watch fell behind the compaction; listing again");
                }
                Stop::Trouble(error) => {
                    warn!(prefix = self.prefix, error = &error as &dyn Error, "watch ended; listing again")
                }
            }
            self.stale.send_if_modified(|since| {
                let fresh = since.is_none();
                since.get_or_insert_with(Instant::now);
                fresh
            });
            if began.elapsed() > BACKOFF.1 {
                pause = BACKOFF.0;
            }
            sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// Follows until something goes wrong.
    async fn follow(&mut self) -> Stop {
        match self.try_follow().await {
            Ok(never) => match never {},
            Err(stop) => stop,
        }
    }

    async fn try_follow(&mut self) -> Result<std::convert::Infallible, Stop> {
        let mut watch = self.engine.watch(&self.prefix, Start::Now).await?;
        self.reconcile().await?;
        self.stale.send_replace(None);
        loop {
            let next_listing = Instant::now() + ANTI_ENTROPY.mul_f64(rand::random_range(0.8..1.2));
            self.read_until(next_listing, &mut watch).await?;
            let missed = self.reconcile().await?;
            if missed > 0 {
                error!(prefix = self.prefix, missed, "the watch had missed changes");
            }
        }
    }

    async fn read_until(&mut self, deadline: Instant, watch: &mut RawWatch) -> Result<(), Stop> {
        let updates = self.updates.clone();
        loop {
            tokio::select! {
                batch = watch.next() => self.apply(batch?).await?,
                () = sleep_until(deadline) => return Ok(()),
                () = updates.closed() => return Err(Stop::Unwanted),
            }
        }
    }

    async fn apply(&mut self, batch: RawBatch) -> Result<(), Stop> {
        if batch.revision <= self.applied {
            return Ok(()); // the listing had it
        }
        self.applied = batch.revision;
        self.tell(batch).await
    }

    /// Lists the prefix and tells how it differs from what was told; says how much of that a watch should have told.
    async fn reconcile(&mut self) -> Result<usize, Stop> {
        let listing = self.engine.list(&self.prefix).await?;
        let Some(known) = &self.known else {
            self.known = Some(listing.entries.iter().map(|entry| (entry.key.clone(), entry.modified)).collect());
            self.applied = listing.revision;
            return self.send(Update::Listing(Listing::from_raw(listing))).await.map(|()| 0);
        };
        if listing.revision < self.applied {
            warn!(prefix = self.prefix, from = %self.applied, to = %listing.revision, "the store went back in time");
        }
        let told = self.applied;
        self.applied = listing.revision;
        let batch = difference(known, listing);
        let missed = batch.events.iter().filter(|event| is_overdue(event, told)).count();
        if !batch.events.is_empty() {
            self.tell(batch).await?;
        }
        Ok(missed)
    }

    async fn tell(&mut self, batch: RawBatch) -> Result<(), Stop> {
        let known = self.known.get_or_insert_default();
        for event in &batch.events {
            match event {
                RawEvent::Put(entry) => known.insert(entry.key.clone(), entry.modified),
                RawEvent::Deleted(key) => known.remove(key),
            };
        }
        self.send(Update::Batch(Batch {
            revision: batch.revision,
            changes: batch.events.into_iter().map(Change::from_raw).collect(),
        }))
        .await
    }

    async fn send(&self, update: Update<T>) -> Result<(), Stop> {
        self.updates.send(update).await.map_err(|_| Stop::Unwanted)
    }
}

/// Whether a change belongs to a revision that was told already.
fn is_overdue(event: &RawEvent, told: Revision) -> bool {
    matches!(event, RawEvent::Put(entry) if entry.modified <= told)
}

/// What must happen to the known keys to make them the listed ones: deletions first, so that whoever applies the changes
/// one by one never holds an old and a new record of the same thing.
fn difference(known: &BTreeMap<String, Revision>, listing: RawListing) -> RawBatch {
    let mut gone = known.clone();
    let mut put = Vec::new();
    for entry in listing.entries {
        if gone.remove(&entry.key) != Some(entry.modified) {
            put.push(RawEvent::Put(entry));
        }
    }
    let events = gone.into_keys().map(RawEvent::Deleted).chain(put).collect();
    RawBatch { revision: listing.revision, events }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::RawEntry;

    fn entry(key: &str, modified: i64) -> RawEntry {
        RawEntry { key: key.to_owned(), value: vec![], created: Revision(1), modified: Revision(modified) }
    }

    #[test]
    fn the_difference_is_what_was_deleted_and_then_what_was_written() {
        let known = [("a", 2), ("b", 3), ("c", 4)].map(|(key, modified)| (key.to_owned(), Revision(modified)));
        let listing = RawListing { entries: vec![entry("a", 2), entry("c", 7), entry("d", 8)], revision: Revision(9) };
        let batch = difference(&known.into(), listing);
        let expected = [RawEvent::Deleted("b".to_owned()), RawEvent::Put(entry("c", 7)), RawEvent::Put(entry("d", 8))];
        assert_eq!((batch.revision, batch.events.as_slice()), (Revision(9), expected.as_slice()));
    }

    #[test]
    fn only_a_change_that_should_have_been_told_was_missed() {
        assert!(is_overdue(&RawEvent::Put(entry("a", 5)), Revision(5)));
        assert!(!is_overdue(&RawEvent::Put(entry("a", 6)), Revision(5)), "the watch may still be about to tell it");
    }
}
