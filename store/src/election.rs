//! Elections: of several candidates one leads, and what it writes carries a fence that holds only while it does.
//!
//! The leader is whoever created `election/<name>` under a lease of its own. Times: the lease lives 4 s, is renewed each
//! second, and its holder stops acting after 2.5 s without a renewal, so that an old leader is silent before a new one
//! can be. A pause of the whole process that outlasts even this is caught by the fence, which the store itself checks.

use std::{error::Error, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::{interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::{
    Key, Lease, Revision, Store, StoreError,
    engine::Engine,
    key,
    lease::LeaseState,
    raw::{RawEvent, Start},
};

/// How long a silent leader stays in office.
const LEASE: Duration = Duration::from_secs(4);

/// Candidates look again so often even if no watch tells them that the office is free.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What stands under the election's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    candidate: String,
}

/// Being the leader. Dropping it, or [`Leadership::resign`], lets another follow at once.
pub struct Leadership {
    lease: Lease,
    fence: Fence,
    _guard: AbortOnDropHandle<()>,
}

/// Stands for one term of one leader in every transaction it makes: see [`crate::Transaction::fence`].
#[derive(Clone)]
pub struct Fence {
    election: String,
    key: Key<Candidate>,
    created: Revision,
    lease: Arc<LeaseState>,
}

impl Leadership {
    pub(crate) async fn campaign(store: &Store, name: &str, candidate: &str) -> Result<Self, StoreError> {
        loop {
            match attempt(store, name, candidate).await {
                Ok(leadership) => {
                    info!(election = name, candidate, term = %leadership.fence.created, "elected");
                    return Ok(leadership);
                }
                Err(StoreError::Conflict { .. }) => debug!(election = name, candidate, "another one leads"),
                Err(StoreError::Closed) => return Err(StoreError::Closed),
                Err(error) => warn!(election = name, error = &error as &dyn Error, "campaign failed; will try again"),
            }
            let key = key::election(name);
            if !matches!(timeout(LOOK_AGAIN, vacated(store.engine(), &key)).await, Ok(Ok(()))) {
                sleep(LOOK_AGAIN.mul_f64(rand::random_range(0.1..0.3))).await;
            }
        }
    }

    /// What every write of this leader must carry.
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Whether it may still act.
    pub fn is_held(&self) -> bool {
        self.fence.is_held()
    }

    /// Resolves when it may no longer act.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Steps down; another candidate may lead when this returns.
    pub async fn resign(self) -> Result<(), StoreError> {
        self.lease.revoke().await
    }
}

impl Fence {
    /// The election's name.
    pub fn election(&self) -> &str {
        &self.election
    }

    /// Revision at which this leader came into office; grows from leader to leader.
    pub fn created(&self) -> Revision {
        self.created
    }

    pub(crate) fn path(&self) -> &str {
        self.key.path()
    }

    /// Whether the holder may still act, by its own clock.
    pub fn is_held(&self) -> bool {
        self.lease.is_alive()
    }
}

async fn attempt(store: &Store, name: &str, candidate: &str) -> Result<Leadership, StoreError> {
    let key = key::election(name);
    if store.get(&key).await?.is_some() {
        return Err(StoreError::Conflict { key: key.path().to_owned() });
    }
    let lease = store.grant(LEASE).await?;
    let record = Candidate { candidate: candidate.to_owned() };
    let created = store.transaction().absent(&key).put_leased(&key, &record, &lease).commit().await?;
    let fence = Fence { election: name.to_owned(), key, created, lease: lease.state().clone() };
    let guard = tokio::spawn(guard(store.engine().clone(), fence.clone()));
    Ok(Leadership { lease, fence, _guard: AbortOnDropHandle::new(guard) })
}

/// Looks after the key itself: old etcd servers renew leases they have already revoked.
async fn guard(engine: Arc<Engine>, fence: Fence) {
    let mut ticks = interval(fence.lease.interval());
    while fence.is_held() {
        ticks.tick().await;
        match engine.get(fence.path()).await {
            Ok(Some(entry)) if entry.created == fence.created => {}
            Ok(_) => {
                warn!(election = fence.election, "the leader's key is gone");
                fence.lease.end();
            }
            Err(error) => debug!(election = fence.election, error = &error as &dyn Error, "leader's key not read"),
        }
    }
}

/// Returns when the office is free, or might be.
async fn vacated(engine: &Engine, key: &Key<Candidate>) -> Result<(), StoreError> {
    let mut watch = engine.watch(key.path(), Start::Now).await?;
    if engine.get(key.path()).await?.is_none() {
        return Ok(());
    }
    loop {
        let batch = watch.next().await?;
        if batch.events.iter().any(|event| matches!(event, RawEvent::Deleted(path) if path == key.path())) {
            return Ok(());
        }
    }
}
