//! A follower whose picture of the store is compared with the store itself, and which checks every update on the way.

use std::{collections::BTreeMap, sync::Arc};

use cladnet_store::{AnyRecord, Change, Key, Revision, Store, Update, key};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::eventually;

#[derive(Default)]
struct Picture {
    revision: Revision,
    records: BTreeMap<Key<AnyRecord>, (AnyRecord, Revision)>,
}

pub(crate) struct Replica {
    picture: Arc<Mutex<Picture>>,
    task: AbortOnDropHandle<()>,
}

impl Replica {
    pub(crate) fn start(store: &Store) -> Self {
        let picture = Arc::<Mutex<Picture>>::default();
        let (mut follow, shared) = (store.follow(&key::everything()), picture.clone());
        let task = tokio::spawn(async move {
            while let Some(update) = follow.next().await {
                shared.lock().await.apply(update);
            }
        });
        Self { picture, task: AbortOnDropHandle::new(task) }
    }

    /// Waits until it shows exactly what the store holds.
    pub(crate) async fn agrees_with(&self, store: &Store) {
        let truth = store.list(&key::everything()).await.unwrap();
        let truth: BTreeMap<_, _> =
            truth.items.into_iter().map(|item| (item.key, (item.value, item.modified))).collect();
        eventually("the replica to agree with the store", async || {
            assert!(!self.task.is_finished(), "the follower must not end, nor find a fault");
            self.picture.lock().await.records == truth
        })
        .await;
    }
}

impl Picture {
    fn apply(&mut self, update: Update<AnyRecord>) {
        let batch = match update {
            Update::Listing(listing) => {
                assert_eq!(self.revision, Revision::ZERO, "only one listing");
                self.revision = listing.revision;
                self.records = listing.items.into_iter().map(|item| (item.key, (item.value, item.modified))).collect();
                return;
            }
            Update::Batch(batch) => batch,
        };
        assert!(batch.revision >= self.revision, "revisions never go back");
        self.revision = batch.revision;
        for change in batch.changes {
            match change {
                Change::Put(item) => {
                    assert!(item.modified <= self.revision);
                    let before = self.records.insert(item.key.clone(), (item.value, item.modified));
                    assert_ne!(
                        before.map(|(_, modified)| modified),
                        Some(item.modified),
                        "{} was told twice",
                        item.key
                    );
                }
                Change::Deleted(key) => assert!(self.records.remove(&key).is_some(), "{key} was told as deleted twice"),
                Change::Undecodable(bad) => panic!("{bad}"),
            }
        }
    }
}
