//! Leases: keys that live as long as their writer renews them. One implementation over both engines.
//!
//! The holder stops believing in its lease well before the store ends it: after 5/8 of the time to live without a
//! renewal, counted on this process's own monotonic clock from the moment the last good renewal was *sent*.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::{StoreError, engine::Engine, raw::LeaseId};

/// A lease, renewed by a task until it is dropped; dropping revokes it in the background.
pub struct Lease {
    state: Arc<LeaseState>,
    _renewal: AbortOnDropHandle<()>,
}

/// What fences and guards know of a lease.
pub(crate) struct LeaseState {
    id: LeaseId,
    engine: Arc<Engine>,
    ttl: Duration,
    /// When the last renewal that succeeded was sent.
    renewed: watch::Sender<Instant>,
    ended: AtomicBool,
}

impl Lease {
    pub(crate) async fn grant(engine: Arc<Engine>, ttl: Duration) -> Result<Self, StoreError> {
        let sent = Instant::now();
        let id = engine.grant(ttl).await?;
        let state =
            Arc::new(LeaseState { id, engine, ttl, renewed: watch::Sender::new(sent), ended: AtomicBool::new(false) });
        let renewal = tokio::spawn(state.clone().keep_alive());
        Ok(Self { state, _renewal: AbortOnDropHandle::new(renewal) })
    }

    pub(crate) fn id(&self) -> LeaseId {
        self.state.id
    }

    pub(crate) fn state(&self) -> &Arc<LeaseState> {
        &self.state
    }

    /// Whether its keys may still be relied on. True now says nothing of later: fence what must not be late.
    pub fn is_alive(&self) -> bool {
        self.state.is_alive()
    }

    /// Resolves when the lease can no longer be relied on.
    pub async fn lost(&self) {
        self.state.lost().await;
    }

    /// Ends the lease and deletes its keys now.
    pub async fn revoke(self) -> Result<(), StoreError> {
        self.state.end();
        self.state.engine.revoke(self.state.id).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.state.end() {
            return; // revoked, or gone
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let state = self.state.clone();
            runtime.spawn(async move {
                if let Err(error) = state.engine.revoke(state.id).await {
                    debug!(error = &error as &dyn Error, "lease left to end by itself");
                }
            });
        }
    }
}

impl LeaseState {
    /// Renewals in one time to live.
    const RENEWALS: u32 = 4;

    /// Without a renewal for so long, the holder stops acting: 2.5 s of 4 s.
    fn patience(&self) -> Duration {
        self.ttl * 5 / 8
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Acquire) && self.renewed.borrow().elapsed() < self.patience()
    }

    /// Marks it ended; says whether it already was.
    pub(crate) fn end(&self) -> bool {
        let before = self.ended.swap(true, Ordering::AcqRel);
        self.renewed.send_modify(|_| {}); // wakes `lost`
        before
    }

    pub(crate) async fn lost(&self) {
        let mut renewals = self.renewed.subscribe();
        while self.is_alive() {
            let patience = *renewals.borrow_and_update() + self.patience();
            tokio::select! {
                _ = renewals.changed() => {}
                () = tokio::time::sleep_until(patience) => {}
            }
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.ttl / Self::RENEWALS
    }

    async fn keep_alive(self: Arc<Self>) {
        let mut ticks = interval(self.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await; // the grant itself was the first renewal
        loop {
            ticks.tick().await;
            let sent = Instant::now();
            match timeout(self.patience(), self.engine.renew(self.id)).await {
                Ok(Ok(())) if self.is_alive() => drop(self.renewed.send_replace(sent)),
                Ok(Err(StoreError::LeaseEnded)) => {
                    warn!("a lease ended in the store before its holder let it go");
                    self.end();
                    return;
                }
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => debug!(error = &error as &dyn Error, "lease not renewed"),
            }
            if !self.is_alive() {
                warn!("a lease could not be renewed in time");
                self.end();
                return;
            }
        }
    }
}
