//! Finding work: follows the deployments of the store, claims those that nobody works on, and runs each as a job. One
//! lease stands behind all claims of a replica; when it is lost every job stops at once, because another replica goes on.

mod claim;
mod connections;
mod job;
mod journal;
mod machine;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use cladnet_model::{Deployment, DeploymentId};
use cladnet_store::{Change, Lease, Store, StoreError, Update, key};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Config, ProvisionerError, binary::Binaries};
use claim::Claim;

/// Without any news everything is looked at again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Before the store is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Deployments that one replica works on at a time; others are for other replicas, or wait.
const JOBS: usize = 8;

/// What all jobs share.
pub(crate) struct Shared {
    config: Config,
    binaries: Binaries,
    /// Random name of this run.
    replica: String,
}

pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ProvisionerError> {
    let binaries = Binaries::new(config.agent_dir.clone()).map_err(ProvisionerError::AgentDirectory)?;
    let replica = format!("{:016x}", rand::random::<u64>());
    let shared = Arc::new(Shared { config, binaries, replica });
    loop {
        let lease = match shared.store().grant(shared.config.lease).await {
            Ok(lease) => Arc::new(lease),
            Err(StoreError::Closed) => return Err(StoreError::Closed.into()),
            Err(error) => {
                warn!(error = &error as &dyn Error, "no lease for claims; will try again");
                tokio::select! {
                    () = sleep(PAUSE) => continue,
                    () = shutdown.cancelled() => return Ok(()),
                }
            }
        };
        tokio::select! {
            ended = Term::new(shared.clone(), lease.clone()).work() => return Err(ended.into()),
            () = lease.lost() => warn!("the lease was lost: others go on with our deployments"),
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

impl Shared {
    fn store(&self) -> &Store {
        &self.config.store
    }
}

/// As long as one lease lasts. Dropping it ends its jobs.
struct Term {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    jobs: JoinSet<DeploymentId>,
    /// What is being worked on, and how to tell it that it was cancelled.
    working: BTreeMap<DeploymentId, CancellationToken>,
    /// Where nothing is left to do.
    settled: BTreeSet<DeploymentId>,
}

impl Term {
    fn new(shared: Arc<Shared>, lease: Arc<Lease>) -> Self {
        Self { shared, lease, jobs: JoinSet::new(), working: BTreeMap::new(), settled: BTreeSet::new() }
    }

    /// Ends only with the store.
    async fn work(mut self) -> StoreError {
        let mut deployments = self.shared.store().follow(&key::deployments());
        let mut claims = self.shared.store().follow(&key::deployment_claims());
        let mut tick = interval(LOOK_AGAIN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                update = deployments.next() => match update {
                    Some(update) => self.hear(update),
                    None => return StoreError::Closed,
                },
                update = claims.next() => if update.is_none() { return StoreError::Closed },
                Some(ended) = self.jobs.join_next() => match ended {
                    Ok(id) => drop(self.working.remove(&id)),
                    // A panic is our bug; the claim stays with the lease, so that it is not tried again and again.
                    Err(error) => warn!(%error, "a job ended by a panic"),
                },
                _ = tick.tick() => {}
            }
            if let Err(error) = self.look().await {
                warn!(error = &error as &dyn Error, "deployments not looked at; will try again");
            }
        }
    }

    /// Jobs hear at once that they were cancelled.
    fn hear(&mut self, update: Update<Deployment>) {
        let changed: Vec<Deployment> = match update {
            Update::Listing(listing) => listing.items.into_iter().map(|item| item.value).collect(),
            Update::Batch(batch) => batch.changes.into_iter().filter_map(put).collect(),
        };
        for deployment in changed.iter().filter(|deployment| deployment.cancelled_at.is_some()) {
            if let Some(cancel) = self.working.get(&deployment.id) {
                cancel.cancel();
            }
        }
    }

    /// Begins what nobody works on.
    async fn look(&mut self) -> Result<(), StoreError> {
        let deployments = self.shared.store().list(&key::deployments()).await?.items;
        let claims = self.shared.store().list(&key::deployment_claims()).await?.items;
        self.settled.retain(|id| deployments.iter().any(|deployment| deployment.value.id == *id));
        for deployment in deployments {
            let id = deployment.value.id.clone();
            let is_claimed = claims.iter().any(|claim| claim.key == key::deployment_claim(&id));
            if self.working.len() >= JOBS || is_claimed || self.working.contains_key(&id) || self.settled.contains(&id)
            {
                continue;
            }
            if !self.has_work(&deployment.value).await? {
                self.settled.insert(id);
                continue;
            }
            let taken = Claim::take(self.shared.store(), &self.lease, deployment, &self.shared.replica).await?;
            let Some(claim) = taken else { continue };
            info!(deployment = %id, "claimed");
            let cancel = CancellationToken::new();
            if claim.deployment().cancelled_at.is_some() {
                cancel.cancel();
            }
            self.working.insert(id, cancel.clone());
            self.jobs.spawn(job::run(self.shared.clone(), claim, cancel));
        }
        Ok(())
    }

    /// Whether a machine is not done with, or a private key is left that should not be.
    async fn has_work(&self, deployment: &Deployment) -> Result<bool, StoreError> {
        let store = self.shared.store();
        // A finished one is over, whatever was said of its machines last.
        let open = if deployment.finished_at.is_none() { deployment.hosts.as_slice() } else { &[] };
        for machine in open {
            let progress = store.get(&key::deployment_progress(&deployment.id, machine)).await?;
            if !progress.is_some_and(|progress| progress.value.state.is_final()) {
                return Ok(true);
            }
        }
        if deployment.keep_credentials {
            return Ok(false);
        }
        Ok(!store.list(&key::deployment_credentials(&deployment.id)).await?.items.is_empty())
    }
}

fn put<T>(change: Change<T>) -> Option<T> {
    match change {
        Change::Put(item) => Some(item.value),
        _ => None,
    }
}
