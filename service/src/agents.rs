//! The agents' side of the service: enrolment, sync streams, presence, the live view, commands.
//!
//! [`Agents`] is what the rest of the replica holds. It runs two loops: one keeps the [`view::View`] current and wakes
//! whom a change concerns, the other keeps the presence of this replica's streams in the store.

mod commands;
mod connectivity;
mod enrol;
mod explain;
mod follow;
mod identity;
mod paths;
mod plain;
mod presence;
mod removal;
mod rendezvous;
mod reports;
mod rpc;
mod session;
mod stream;
mod streams;
#[cfg(test)]
mod swarm;
#[cfg(test)]
pub(crate) mod testing;
mod turns;
pub(crate) mod usage;
mod view;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock, RwLock, RwLockReadGuard},
    time::Duration,
};

use cladnet_model::{KeyId, SessionId, TokenId};
use cladnet_pki::Authority;
use cladnet_store::{Revision, Store, Transaction};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    Clock,
    error::CallError,
    events::{self, Note},
    rate::{Limiter, RateLimit},
};
pub(crate) use commands::CommandError;
pub(crate) use connectivity::{ConnectivityPlan, turn, turns};
pub(crate) use paths::RoundTrips;
use streams::Streams;
use turns::Turns;
use view::View;

/// A host's certificate is valid for this long; agents renew it half-way.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Wrong secrets that may be shown for one token before everybody who shows it has to wait.
const WRONG_SECRETS: RateLimit = RateLimit { burst: 5, every: Duration::from_secs(12) };

/// Wrong tokens that one network of addresses may show; whoever shows a right one is welcome meanwhile.
const WRONG_TOKENS: RateLimit = RateLimit { burst: 30, every: Duration::from_secs(2) };

/// A replica whose view is further behind the store than this has lost it: the caller should try another one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The agents' side of one replica. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Agents {
    shared: Arc<Shared>,
}

/// What the agents' side needs of its replica.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    pub(crate) epoch: String,
    pub(crate) replica: String,
    pub(crate) clock: Clock,
    /// Ends every stream.
    pub(crate) shutdown: CancellationToken,
}

struct Shared {
    parts: Parts,
    view: RwLock<View>,
    /// Revision of the view; [`i64::MIN`] before it has seen the store.
    revision: watch::Sender<i64>,
    /// Since when the view may be out of date; absent before it is followed.
    stale: OnceLock<watch::Receiver<Option<Instant>>>,
    /// The store answered just before.
    made_at: Instant,
    streams: Streams,
    answers: commands::Answers,
    turns: Turns<TokenId>,
    wrong_secrets: Limiter<TokenId>,
    wrong_tokens: Limiter<IpAddr>,
}

impl Agents {
    /// Nothing runs before [`Agents::run`].
    pub(crate) fn new(parts: Parts) -> Self {
        let shared = Shared {
            parts,
            view: RwLock::default(),
            revision: watch::Sender::new(i64::MIN),
            stale: OnceLock::new(),
            made_at: Instant::now(),
            streams: Streams::default(),
            answers: commands::Answers::default(),
            turns: Turns::default(),
            wrong_secrets: WRONG_SECRETS.limiter(),
            wrong_tokens: WRONG_TOKENS.limiter(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Follows the store and keeps presence until the replica stops. Ends early, and every stream with it, if the store
    /// cannot be followed any more: agents must not stay with a replica that learns nothing.
    pub(crate) async fn run(&self) {
        tokio::select! {
            () = follow::run(&self.shared) => {}
            () = presence::run(&self.shared) => {}
        }
        self.shared.streams.end_all(&Status::unavailable("the service is stopping; try another replica"));
    }

    /// Whether this replica hears of the store, or did a moment ago: costs no read.
    pub(crate) fn is_current(&self) -> bool {
        let stale = self.shared.stale.get().map_or(Some(self.shared.made_at), |stale| *stale.borrow());
        stale.is_none_or(|since| since.elapsed() < PATIENCE)
    }

    /// Whether the view has seen the store.
    #[cfg(test)]
    pub(crate) fn has_view(&self) -> bool {
        self.shared.view().revision().is_some()
    }

    /// Whether an API key and a session that were there at `since` still are, by what this replica has heard of the store:
    /// costs no read.
    pub(crate) fn admits(&self, key: &KeyId, session: Option<&SessionId>, since: Revision) -> bool {
        let (view, now) = (self.shared.view(), self.shared.parts.clock.now());
        let in_session = || session.is_none_or(|session| view.in_session(session, now));
        view.revision() < Some(since.get()) || (view.admits(key, now) && in_session())
    }
}

impl Shared {
    /// The view; held for moments only, never across an `await`.
    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().expect("no holder of this lock panics")
    }

    /// Waits until the view shows `revision`.
    async fn reached(&self, revision: i64) -> Result<(), CallError> {
        let mut revisions = self.revision.subscribe();
        match timeout(PATIENCE, revisions.wait_for(|shown| *shown >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(CallError::Unavailable("this replica is behind the store; try another one".to_owned())),
        }
    }

    /// Adds an event to the transaction of the change that it tells of.
    fn note(&self, transaction: Transaction, note: Note<'_>) -> Transaction {
        events::note(transaction, self.parts.clock.now(), note)
    }
}
