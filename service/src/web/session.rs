//! Sessions in the store: begun with an API key, resumed with a cookie, ended by their owner, by time or with the key.

use std::{cmp::Reverse, time::Duration};

use cladnet_model::{ApiKey, Secret, Session, SessionId, SessionSecret};
use cladnet_store::{Store, StoreError, Transaction, Versioned, key};
use tracing::{info, warn};

use crate::{
    Clock, Service, auth,
    error::CallError,
    events::{self, Note},
    networks::TRIES,
};

/// Sessions of one API key at a time: more than a person has browsers, or a team that shares a key has heads. One more ends
/// the oldest, so that nobody fills the store and nobody is kept out.
const MOST_OF_A_KEY: usize = 20;

/// Mean time between two looks for sessions that are over. Replicas that look at the same moment delete the same ones.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Deletions in one transaction.
const BATCH: usize = 100;

/// A session with the key that stands behind it, as both are now.
pub(crate) struct Resumed {
    pub(crate) id: SessionId,
    pub(crate) session: Session,
    pub(crate) key: ApiKey,
}

impl Service {
    /// Begins a session for whoever shows an API key, under a fresh secret; `old` ends, if its owner had one.
    pub(super) async fn sign_in(
        &self,
        shown: &str,
        old: Option<SessionId>,
    ) -> Result<(SessionSecret, Resumed), CallError> {
        let api_key = auth::key_of(self, shown).await?;
        auth::sign_in_counted(self, &api_key.id)?;
        let secret = SessionSecret::new(Secret::new(rand::random()));
        let (id, session) = (secret.id(), Session::begun(api_key.id.clone(), self.clock.now()));
        let place = key::session(&id);
        let transaction = self.store.transaction().exists(&key::api_key(&api_key.id)).absent(&place);
        let transaction = old
            .iter()
            .fold(transaction.put(&place, &session), |transaction, old| transaction.delete(&key::session(old)));
        let (actor, message) =
            (api_key.id.as_str(), format!("{} of {} signed in to the page", api_key.id, api_key.name));
        let note = Note { kind: "session.begun", network: None, host: None, actor, message };
        match self.note(transaction, note).commit().await {
            Ok(_) => {
                if let Err(error) = self.end_surplus(&api_key).await {
                    // The next sign-in with this key ends them.
                    let error = &error as &dyn std::error::Error;
                    warn!(key = %api_key.id, error, "sessions beyond those of a key not ended");
                }
                Ok((secret, Resumed { id, session, key: api_key }))
            }
            Err(StoreError::Conflict { .. }) => {
                Err(CallError::Unauthenticated("the API key was revoked this very moment".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the oldest sessions of a key that has too many. Whoever begins one looks afterwards, so that of several who do at
    /// the same moment the last one sees them all.
    async fn end_surplus(&self, api_key: &ApiKey) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let now = self.clock.now();
            let mut sessions = self.store.list(&key::sessions()).await?.items;
            sessions.retain(|session| session.value.key == api_key.id && !session.value.is_over(now));
            sessions.sort_by_key(|session| Reverse(session.value.created_at));
            let surplus = sessions.get(MOST_OF_A_KEY..).unwrap_or_default();
            let Some(batch) = surplus.chunks(BATCH / 2).next() else { return Ok(()) };
            let end = |transaction: Transaction, session: &Versioned<Session>| {
                let message =
                    format!("the oldest session of {} ended: a key has {MOST_OF_A_KEY} at a time", api_key.name);
                let actor = api_key.id.as_str();
                let note = Note { kind: "session.ended", network: None, host: None, actor, message };
                events::note(transaction.exists(&session.key).delete(&session.key), now, note)
            };
            match batch.iter().fold(self.store.transaction(), end).commit().await {
                Ok(_) => info!(key = %api_key.id, ended = batch.len(), "oldest sessions ended: too many of one key"),
                // Its owner has signed out, or another sign-in has ended it.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The session of a secret and its key, if neither is over; the request is noted.
    pub(crate) async fn resume(&self, secret: &SessionSecret) -> Result<Option<Resumed>, CallError> {
        let (id, now) = (secret.id(), self.clock.now());
        let place = key::session(&id);
        let Some(found) = self.store.get(&place).await?.filter(|found| !found.value.is_over(now)) else {
            return Ok(None);
        };
        let api_key = self.store.get(&key::api_key(&found.value.key)).await?;
        let Some(api_key) = api_key.map(|found| found.value).filter(|key| key.is_valid(now)) else { return Ok(None) };
        let session = match found.value.seen(now) {
            None => found.value,
            Some(seen) => {
                match self.store.replace(&place, &seen, found.modified).await {
                    // Somebody else noted it, or ended the session: the next request will see.
                    Ok(_) | Err(StoreError::Conflict { .. }) => {}
                    Err(error) => warn!(error = &error as &dyn std::error::Error, "request of a session not noted"),
                }
                seen
            }
        };
        Ok(Some(Resumed { id, session, key: api_key }))
    }

    /// Ends a session; one that is not there is fine.
    pub(super) async fn sign_out(&self, secret: &SessionSecret) -> Result<(), CallError> {
        let place = key::session(&secret.id());
        if self.store.get(&place).await?.is_some() {
            self.store.transaction().delete(&place).commit().await?;
        }
        Ok(())
    }
}

/// Deletes sessions that are over until the replica stops.
pub(crate) async fn sweep_for_ever(store: &Store, clock: &Clock) {
    loop {
        tokio::time::sleep(SWEEP_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
        if let Err(error) = sweep(store, clock).await {
            warn!(error = &error as &dyn std::error::Error, "old sessions not removed");
        }
    }
}

pub(super) async fn sweep(store: &Store, clock: &Clock) -> Result<(), StoreError> {
    let now = clock.now();
    let mut sessions = store.list(&key::sessions()).await?.items;
    sessions.retain(|session| session.value.is_over(now));
    for batch in sessions.chunks(BATCH) {
        let delete = |transaction: Transaction, session: &Versioned<Session>| {
            transaction.unchanged(&session.key, session.modified).delete(&session.key)
        };
        match batch.iter().fold(store.transaction(), delete).commit().await {
            // By another replica's clock one of them was not over, and it was used; or it is swept already.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
