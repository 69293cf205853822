//! Finding work: follows the deployments of the store, claims those that nobody works on, and runs each as a job. One
//! lease stands behind all claims of a replica; when it is lost every job stops at once, because another replica goes on.

mod claim;
mod connections;
mod job;
mod joining;
mod journal;
mod machine;
mod shares;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use cladnet_model::{Deployment, DeploymentId, DeploymentProgress};
use cladnet_store::{Change, Lease, Listing, Store, StoreError, Update, Versioned, key};
use tokio::{
    task::{self, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Config, ProvisionerError, binary::Binaries};
use claim::Claim;
use shares::Shares;

/// Without any news everything is looked at again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Before the store is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Deployments that one replica has at a time, most of which may wait for a person; others are for other replicas, or wait.
const DEPLOYMENTS: usize = 64;
/// Machines that one replica works on at a time: one network alone gets those of its largest deployment.
const MACHINES: usize = 128;

/// What all jobs share.
pub(crate) struct Shared {
    config: Config,
    binaries: Binaries,
    /// Random name of this run.
    replica: String,
    deployments: Arc<Shares>,
    machines: Arc<Shares>,
}

pub(crate) async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ProvisionerError> {
    let binaries = Binaries::new(config.agent_dir.clone()).map_err(ProvisionerError::AgentDirectory)?;
    let replica = format!("{:016x}", rand::random::<u64>());
    let (deployments, machines) = (Shares::new(DEPLOYMENTS), Shares::new(MACHINES));
    let shared = Arc::new(Shared { config, binaries, replica, deployments, machines });
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
    jobs: JoinSet<()>,
    /// What is being worked on.
    working: BTreeMap<DeploymentId, Job>,
    /// Where nothing is left to do.
    settled: BTreeSet<DeploymentId>,
}

/// A deployment that is being worked on.
struct Job {
    task: task::Id,
    /// Tells it that it was cancelled.
    cancel: CancellationToken,
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
                Some(ended) = self.jobs.join_next_with_id() => {
                    let ended = match ended {
                        Ok((task, ())) => task,
                        Err(error) => {
                            // Our bug; the claim stays with the lease, so that it is not tried again and again.
                            warn!(%error, "a job ended by a panic");
                            error.id()
                        }
                    };
                    self.working.retain(|_, job| job.task != ended);
                }
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
            if let Some(job) = self.working.get(&deployment.id) {
                job.cancel.cancel();
            }
        }
    }

    /// Begins what nobody works on: first what goes on, then what is over and may have left a private key behind.
    async fn look(&mut self) -> Result<(), StoreError> {
        let deployments = self.shared.store().list(&key::deployments()).await?.items;
        let claims = self.shared.store().list(&key::deployment_claims()).await?.items;
        self.settled.retain(|id| deployments.iter().any(|deployment| deployment.value.id == *id));
        let (over, open): (Vec<_>, Vec<_>) =
            deployments.into_iter().partition(|deployment| deployment.value.finished_at.is_some());
        for deployment in open.into_iter().chain(over) {
            let id = deployment.value.id.clone();
            let is_claimed = claims.iter().any(|claim| claim.key == key::deployment_claim(&id));
            if is_claimed || self.working.contains_key(&id) || self.settled.contains(&id) {
                continue;
            }
            match self.begin(deployment).await {
                Err(error) if !error.is_transient() => {
                    warn!(deployment = %id, error = &error as &dyn Error, "deployment left alone; will look again");
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Begins a deployment if there is something to do, and as long as its network may have one more.
    async fn begin(&mut self, deployment: Versioned<Deployment>) -> Result<(), StoreError> {
        let id = deployment.value.id.clone();
        let Some(share) = self.shared.deployments.try_take(&deployment.value.network) else { return Ok(()) };
        if !self.has_work(&deployment.value).await? {
            self.settled.insert(id);
            return Ok(());
        }
        let taken = Claim::take(self.shared.store(), &self.lease, deployment, &self.shared.replica).await?;
        let Some(claim) = taken else { return Ok(()) };
        info!(deployment = %id, "claimed");
        let cancel = CancellationToken::new();
        if claim.deployment().cancelled_at.is_some() {
            cancel.cancel();
        }
        let work = job::run(self.shared.clone(), claim, cancel.clone());
        let task = self.jobs.spawn(async move {
            work.await;
            drop(share);
        });
        self.working.insert(id, Job { task: task.id(), cancel });
        Ok(())
    }

    /// Whether a machine is not done with, or a private key is left that should not be.
    async fn has_work(&self, deployment: &Deployment) -> Result<bool, StoreError> {
        let (store, id) = (self.shared.store(), &deployment.id);
        if deployment.finished_at.is_none() {
            let known = store.list(&key::deployment_progresses(id)).await?;
            if has_open_machine(deployment, &known) {
                return Ok(true);
            }
        }
        if deployment.keep_credentials {
            return Ok(false);
        }
        Ok(!store.list(&key::deployment_credentials(id)).await?.items.is_empty())
    }
}

/// What cannot be read is a newer release's, or damaged: not ours to touch.
fn has_open_machine(deployment: &Deployment, known: &Listing<DeploymentProgress>) -> bool {
    let done = known.items.iter().filter(|item| item.value.state.is_final()).map(|item| item.key.path());
    let unreadable = known.undecodable.iter().map(|record| record.key.as_str());
    let settled: BTreeSet<&str> = done.chain(unreadable).collect();
    deployment.hosts.iter().any(|name| !settled.contains(key::deployment_progress(&deployment.id, name).path()))
}

fn put<T>(change: Change<T>) -> Option<T> {
    match change {
        Change::Put(item) => Some(item.value),
        _ => None,
    }
}
