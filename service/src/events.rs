//! What happened, written in the very transaction that made it happen, and forgotten when there is too much of it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use cladnet_model::{Event, EventId, HostId, NetworkId};
use cladnet_store::{StoreError, Transaction, Versioned, key};
use tracing::warn;

use crate::Service;

/// Events kept of each network, and of what belongs to none.
const KEPT: usize = 1_000;

/// Events written between two looks at how many there are.
const TRIM_EVERY: u32 = 100;

/// Deletions in one transaction.
const BATCH: usize = 100;

/// An event to be written.
#[derive(Debug, Clone)]
pub(crate) struct Note<'a> {
    /// Dotted: `network.created`.
    pub(crate) kind: &'static str,
    pub(crate) network: Option<&'a NetworkId>,
    pub(crate) host: Option<&'a HostId>,
    /// Id of the API key, host or component that caused it.
    pub(crate) actor: &'a str,
    /// For people.
    pub(crate) message: String,
}

/// How many events this replica has written since it looked.
#[derive(Debug, Default)]
pub(crate) struct EventCounter(AtomicU32);

impl Service {
    /// Adds an event to the transaction of the change that it tells of.
    pub(crate) fn note(&self, transaction: Transaction, note: Note<'_>) -> Transaction {
        let at = self.clock.now();
        let event = Event {
            id: EventId::at(at, rand::random()),
            at,
            kind: note.kind.to_owned(),
            network: note.network.cloned(),
            host: note.host.cloned(),
            actor: note.actor.to_owned(),
            message: note.message,
        };
        if self.events.0.fetch_add(1, Ordering::Relaxed) % TRIM_EVERY == TRIM_EVERY - 1 {
            let store = self.store.clone();
            tokio::spawn(async move {
                if let Err(error) = trim(&store).await {
                    warn!(error = &error as &dyn std::error::Error, "old events not removed");
                }
            });
        }
        transaction.put(&key::event(&event.id), &event)
    }

    /// Every event, newest first; of one network if it is named.
    pub(crate) async fn events(&self, network: Option<&NetworkId>) -> Result<Vec<Event>, StoreError> {
        let listing = self.store.list(&key::events()).await?;
        let of_network = |event: &Event| network.is_none_or(|network| event.network.as_ref() == Some(network));
        Ok(listing.items.into_iter().rev().map(|item| item.value).filter(of_network).collect())
    }
}

async fn trim(store: &cladnet_store::Store) -> Result<(), StoreError> {
    let listing = store.list(&key::events()).await?;
    for batch in surplus(&listing.items).chunks(BATCH) {
        let deletions = batch.iter().fold(store.transaction(), |transaction, event| transaction.delete(&event.key));
        deletions.commit().await?;
    }
    Ok(())
}

/// The oldest events beyond what is kept of their network; `events` are sorted by age, oldest first.
fn surplus(events: &[Versioned<Event>]) -> Vec<&Versioned<Event>> {
    let mut seen: HashMap<Option<&NetworkId>, usize> = HashMap::new();
    let mut surplus = Vec::new();
    for event in events.iter().rev() {
        let seen = seen.entry(event.value.network.as_ref()).or_default();
        *seen += 1;
        if *seen > KEPT {
            surplus.push(event);
        }
    }
    surplus
}
