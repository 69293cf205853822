//! Watches on etcd: exact, or over.
//!
//! Etcd 3.4 accepts a watch that begins *at* the compacted revision and then silently leaves out the deletions made
//! there. So the history a watch begins with is proved: the revision before its first must still be readable, after the
//! watch stands, and again before anything of that history is handed on.

use etcd_client::{Event, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use super::{
    entry,
    fault::Fault,
    pool::{Member, Pool},
    prefix_end, revision_of,
};
use crate::{
    Revision, StoreError,
    engine::RawWatch,
    raw::{RawBatch, RawEvent, Start},
};

pub(super) async fn open(pool: &Pool, prefix: &str, start: Start) -> Result<RawWatch, StoreError> {
    let opened = pool.call("watch", |member| Opened::at(member, prefix, start)).await?;
    let closed = pool.closed().clone();
    Ok(RawWatch::spawn(|batches| opened.run(batches, closed)))
}

/// A watch that stands, and the member it stands at.
struct Opened {
    stream: WatchStream,
    member: Member,
    prefix: String,
    /// Everything up to here was told, or not asked for.
    told: Revision,
    /// What happened up to here is history that the server reads back; later changes it tells as they happen.
    history_to: Revision,
}

impl Opened {
    async fn at(member: Member, prefix: &str, start: Start) -> Result<Self, Fault> {
        let from = match start {
            Start::Now => 0,
            Start::After(revision) => revision.next().get(),
        };
        let options =
            WatchOptions::new().with_range(prefix_end(prefix)).with_start_revision(from).with_progress_notify();
        let mut stream = member.watch().watch(prefix, Some(options)).await?;
        let created = next(&mut stream).await?;
        let stands_at = revision_of(created.header());
        let mut opened =
            Self { stream, member, prefix: prefix.to_owned(), told: stands_at, history_to: Revision::ZERO };
        if let Start::After(revision) = start {
            (opened.told, opened.history_to) = (revision, stands_at);
            opened.prove_history().await?;
        }
        Ok(opened)
    }

    /// Fails with [`StoreError::Compacted`] unless everything after `told` is still there.
    async fn prove_history(&self) -> Result<(), Fault> {
        let options = GetOptions::new().with_revision(self.told.get()).with_count_only();
        match self.member.kv().get(self.prefix.as_str(), Some(options)).await.map_err(Fault::from) {
            Err(Fault::Final(StoreError::Refused { .. })) | Ok(_) => Ok(()), // a future revision has all its history
            Err(fault) => Err(fault),
        }
    }

    async fn run(mut self, batches: Sender<Result<RawBatch, StoreError>>, closed: CancellationToken) {
        let error = tokio::select! {
            error = self.tell(&batches) => error,
            () = closed.cancelled() => StoreError::Closed,
            () = batches.closed() => return,
        };
        let _ = batches.send(Err(error)).await;
    }

    async fn tell(&mut self, batches: &Sender<Result<RawBatch, StoreError>>) -> StoreError {
        loop {
            match self.next_batches().await {
                Ok(news) => {
                    for batch in news {
                        self.told = batch.revision;
                        if batches.send(Ok(batch)).await.is_err() {
                            return StoreError::Closed;
                        }
                    }
                }
                Err(Fault::Final(error)) => return error,
                Err(Fault::Passing(reason)) => return StoreError::Unavailable { operation: "watch", reason },
            }
        }
    }

    async fn next_batches(&mut self) -> Result<Vec<RawBatch>, Fault> {
        let response = next(&mut self.stream).await?;
        let mut news = by_revision(response.events());
        news.retain(|batch| batch.revision > self.told);
        if news.first().is_some_and(|first| first.revision <= self.history_to) {
            self.prove_history().await?;
        }
        Ok(news)
    }
}

/// The next message, or why there will be none.
async fn next(stream: &mut WatchStream) -> Result<WatchResponse, Fault> {
    let response = stream.message().await?.ok_or_else(|| Fault::Passing("the server ended the watch".to_owned()))?;
    if response.compact_revision() != 0 {
        return Err(Fault::Final(StoreError::Compacted));
    }
    if response.canceled() {
        let reason = response.cancel_reason();
        let denied = reason.contains("permission denied");
        return Err(if denied {
            Fault::Final(StoreError::Denied { reason: reason.to_owned() })
        } else {
            Fault::Passing(format!("the server ended the watch: {reason}"))
        });
    }
    Ok(response)
}

fn by_revision(events: &[Event]) -> Vec<RawBatch> {
    let mut batches: Vec<RawBatch> = Vec::new();
    for event in events {
        let Some(found) = event.kv() else { continue };
        let told = match event.event_type() {
            EventType::Put => RawEvent::Put(entry(found)),
            EventType::Delete => RawEvent::Deleted(entry(found).key),
        };
        let revision = Revision(found.mod_revision());
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.events.push(told),
            _ => batches.push(RawBatch { revision, events: vec![told] }),
        }
    }
    batches
}
