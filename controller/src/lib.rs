//! The controller: turns memberships into peers with addresses. Level-triggered: whatever happened, it looks at all there
//! is, plans purely with `cladnet_model::plan`, and writes what differs. Any number may run; one leads, and everything it
//! writes is fenced by its leadership.
//!
//! Nothing here listens, decides who may join, or touches a record that the service writes.

mod agenda;
mod carry;
mod reconcile;
mod world;

use std::error::Error;

use cladnet_store::{Leadership, Store, StoreError};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Name of the election.
const ELECTION: &str = "controller";

/// One candidate for the office of controller.
pub struct Controller {
    store: Store,
    identity: String,
    /// The only clock of this crate.
    clock: fn() -> Timestamp,
}

impl Controller {
    /// Campaigns, leads while elected, campaigns again; returns soon after `shutdown`, having stepped down, or when the
    /// store was closed. `identity` is for people: host name and pid, say.
    pub async fn run(store: Store, identity: impl Into<String>, shutdown: CancellationToken) {
        let controller = Self { store, identity: identity.into(), clock: Timestamp::now };
        controller.serve(shutdown).await;
    }

    async fn serve(&self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let leadership = tokio::select! {
                leadership = self.store.campaign(ELECTION, &self.identity) => leadership,
                () = shutdown.cancelled() => return,
            };
            let Ok(leadership) = leadership else { return };
            let end = tokio::select! {
                end = self.lead(&leadership) => end,
                () = leadership.lost() => StoreError::NotLeader { election: ELECTION.to_owned() },
                () = shutdown.cancelled() => return step_down(leadership).await,
            };
            match end {
                StoreError::Closed => return,
                error => warn!(error = &error as &dyn Error, "no longer leading"),
            }
        }
    }
}

/// Lets another candidate lead at once instead of after the lease.
async fn step_down(leadership: Leadership) {
    match leadership.resign().await {
        Ok(()) => info!("stepped down"),
        Err(error) => warn!(error = &error as &dyn Error, "could not step down; the lease will end by itself"),
    }
}
