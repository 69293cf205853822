//! What happened, written in the very transaction that made it happen, and forgotten when there is too much of it.

use std::{collections::HashMap, time::Duration};

use cladnet_model::{Event, EventId, HostId, NetworkId};
use cladnet_store::{Store, StoreError, Transaction, Versioned, key};
use jiff::Timestamp;
use tracing::warn;

use crate::Service;

/// Events kept of each network, and of what belongs to none.
const KEPT: usize = 1_000;

/// Mean time between two looks at how many there are. Whoever writes events, replicas and controller, they are forgotten
/// here; replicas that look at the same moment delete the same ones.
const TRIM_EVERY: Duration = Duration::from_secs(600);

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

/// Adds an event to the transaction of the change that it tells of.
pub(crate) fn note(transaction: Transaction, at: Timestamp, note: Note<'_>) -> Transaction {
    let event = Event {
        id: EventId::at(at, rand::random()),
        at,
        kind: note.kind.to_owned(),
        network: note.network.cloned(),
        host: note.host.cloned(),
        actor: note.actor.to_owned(),
        message: note.message,
    };
    transaction.put(&key::event(&event.id), &event)
}

impl Service {
    /// As [`note`], now.
    pub(crate) fn note(&self, transaction: Transaction, text: Note<'_>) -> Transaction {
        note(transaction, self.clock.now(), text)
    }

    /// Every event, newest first; of one network if it is named.
    pub(crate) async fn events(&self, network: Option<&NetworkId>) -> Result<Vec<Event>, StoreError> {
        let listing = self.store.list(&key::events()).await?;
        let of_network = |event: &Event| network.is_none_or(|network| event.network.as_ref() == Some(network));
        Ok(listing.items.into_iter().rev().map(|item| item.value).filter(of_network).collect())
    }
}

/// Forgets old events until the replica stops.
pub(crate) async fn trim_for_ever(store: &Store) {
    loop {
        tokio::time::sleep(TRIM_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
        if let Err(error) = trim(store).await {
            warn!(error = &error as &dyn std::error::Error, "old events not removed");
        }
    }
}

async fn trim(store: &Store) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests {
    use cladnet_store::EmbeddedOptions;

    use super::*;

    #[tokio::test]
    async fn the_newest_events_of_each_network_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
        let event = |network: &str, number: usize| {
            let at = Timestamp::from_microsecond(i64::try_from(number).expect("is small")).expect("in range");
            let event = Event {
                id: EventId::at(at, [0; 10]),
                at,
                kind: "test".to_owned(),
                network: Some(network.parse().expect("an id")),
                host: None,
                actor: "test".to_owned(),
                message: number.to_string(),
            };
            (key::event(&event.id), event)
        };
        for batch in (0..KEPT + 150).collect::<Vec<_>>().chunks(BATCH) {
            let mut transaction = store.transaction();
            for number in batch {
                let (key, event) = event(if *number == 7 { "quiet" } else { "busy" }, *number);
                transaction = transaction.put(&key, &event);
            }
            transaction.commit().await.expect("writes");
        }
        trim(&store).await.expect("trims");
        let left = store.list(&key::events()).await.expect("lists").items;
        assert_eq!(left.len(), KEPT + 1, "what is kept of one network, and the only one of the other");
        assert_eq!((left[0].value.message.as_str(), left[1].value.message.as_str()), ("7", "150"));
    }
}
