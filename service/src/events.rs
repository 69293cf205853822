//! What happened, written in the very transaction that made it happen, and forgotten when there is too much of it.

use std::{collections::HashMap, time::Duration};

use cladnet_model::{Event, EventId, HostId, NetworkId};
use cladnet_store::{Store, StoreError, Transaction, Versioned, key};
use jiff::Timestamp;
use tracing::warn;

use crate::Service;

/// Events kept of each network, and of what belongs to none.
const KEPT: usize = 1_000;

/// Events kept of the page's sessions. They have a quota of their own: anybody with a key can begin sessions as often as they
/// like, and must not push out by that what else happened.
const KEPT_OF_SESSIONS: usize = 200;

/// What the kinds of the sessions' events begin with.
const OF_SESSIONS: &str = "session.";

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

/// The oldest events beyond what is kept of their kin; `events` are sorted by age, oldest first.
fn surplus(events: &[Versioned<Event>]) -> Vec<&Versioned<Event>> {
    let mut seen: HashMap<Kin<'_>, usize> = HashMap::new();
    let mut surplus = Vec::new();
    for event in events.iter().rev() {
        let kin = Kin::of(&event.value);
        let kept = kin.kept();
        let seen = seen.entry(kin).or_default();
        *seen += 1;
        if *seen > kept {
            surplus.push(event);
        }
    }
    surplus
}

/// Events that share a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kin<'a> {
    /// Of one network, or of none.
    Network(Option<&'a NetworkId>),
    Sessions,
}

impl<'a> Kin<'a> {
    fn of(event: &'a Event) -> Self {
        if event.kind.starts_with(OF_SESSIONS) { Self::Sessions } else { Self::Network(event.network.as_ref()) }
    }

    fn kept(self) -> usize {
        match self {
            Self::Network(_) => KEPT,
            Self::Sessions => KEPT_OF_SESSIONS,
        }
    }
}

#[cfg(test)]
mod tests {
    use cladnet_store::EmbeddedOptions;

    use super::*;

    fn event(kind: &str, network: Option<&str>, number: usize) -> Event {
        let at = Timestamp::from_microsecond(i64::try_from(number).expect("is small")).expect("in range");
        Event {
            id: EventId::at(at, [0; 10]),
            at,
            kind: kind.to_owned(),
            network: network.map(|network| network.parse().expect("an id")),
            host: None,
            actor: "test".to_owned(),
            message: number.to_string(),
        }
    }

    /// What is left of these, oldest first.
    async fn left_of(events: impl Iterator<Item = Event>) -> Vec<Event> {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
        for batch in events.collect::<Vec<_>>().chunks(BATCH) {
            let put = |transaction: Transaction, event: &Event| transaction.put(&key::event(&event.id), event);
            batch.iter().fold(store.transaction(), put).commit().await.expect("writes");
        }
        trim(&store).await.expect("trims");
        store.list(&key::events()).await.expect("lists").items.into_iter().map(|event| event.value).collect()
    }

    #[tokio::test]
    async fn the_newest_events_of_each_network_are_kept() {
        let network = |number| if number == 7 { "quiet" } else { "busy" };
        let left = left_of((0..KEPT + 150).map(|number| event("test", Some(network(number)), number))).await;
        assert_eq!(left.len(), KEPT + 1, "what is kept of one network, and the only one of the other");
        assert_eq!((left[0].message.as_str(), left[1].message.as_str()), ("7", "150"));
    }

    #[tokio::test]
    async fn whoever_signs_in_again_and_again_pushes_no_other_event_out() {
        let kind = |number| match number {
            0 => "key.created",
            number if number % 2 == 0 => "session.ended",
            _ => "session.begun",
        };
        let left = left_of((0..KEPT + 150).map(|number| event(kind(number), None, number))).await;
        assert_eq!(left[0].kind, "key.created", "what else happened is kept");
        assert!(left.len() < KEPT, "{} sessions are told", left.len());
        assert_eq!(left.last().expect("the newest").message, (KEPT + 149).to_string());
    }
}
