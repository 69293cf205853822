//! What is done about deployments without anybody asking: those that are over are marked, once; their private keys, old
//! deployments and what a crash left behind are deleted. Keys of hosts that go are forgotten next door.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cladnet_model::{Deployment, DeploymentId, NetworkId, deployment::DeploymentState};
use cladnet_store::{StoreError, Versioned, key};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use crate::{Service, error::CallError, events::Note};

/// Finished deployments kept of each network; those of a network that is gone are not kept.
const KEPT: usize = 20;

/// Mean time between two looks at what can go.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// Progress of many machines is looked at together.
const PACE: Duration = Duration::from_secs(1);

/// Machines whose records are deleted in one transaction; each has four.
const BATCH: usize = 25;

/// Keeps them in order until the replica stops. Replicas that do the same at the same moment do no harm.
pub(super) async fn keep_for_ever(service: &Service) {
    let mut progress = service.store.follow(&key::all_deployment_progresses());
    let mut claims = service.store.follow(&key::deployment_claims());
    let mut suspects = BTreeSet::new();
    let mut sweep_at = next_sweep();
    loop {
        let news = async {
            tokio::select! {
                update = progress.next() => update.map(drop),
                update = claims.next() => update.map(drop),
            }
        };
        tokio::select! {
            news = news => match news {
                Some(()) => {
                    sleep(PACE).await;
                    while progress.try_next().is_some() {}
                    while claims.try_next().is_some() {}
                    tell("marked", service.mark_finished().await);
                }
                None => return std::future::pending().await, // the store was closed
            },
            () = sleep_until(sweep_at) => {
                tell("marked", service.mark_finished().await);
                tell("swept", service.sweep(&mut suspects).await);
                sweep_at = next_sweep();
            }
        }
    }
}

fn next_sweep() -> Instant {
    Instant::now() + SWEEP_EVERY.mul_f64(rand::random_range(0.5..1.5))
}

pub(super) fn tell(what: &'static str, outcome: Result<(), CallError>) {
    if let Err(error) = outcome {
        warn!(error = &error as &dyn std::error::Error, what, "deployments not kept in order");
    }
}

impl Service {
    /// Marks every deployment that is over.
    pub(super) async fn mark_finished(&self) -> Result<(), CallError> {
        for head in self.store.list(&key::deployments()).await?.items {
            self.finish(head).await?;
        }
        Ok(())
    }

    /// Writes of a deployment that is over when it was, and tells it: once, whatever replica sees it first. It is over when
    /// every machine is done with, and also when it was cancelled and no provisioner is at it: none may ever come.
    pub(super) async fn finish(&self, head: Versioned<Deployment>) -> Result<(), CallError> {
        let id = &head.value.id;
        if head.value.finished_at.is_some() {
            return Ok(());
        }
        let (progress, claim) = (self.progress(id).await?, key::deployment_claim(id));
        let transaction = self.store.transaction().unchanged(&head.key, head.modified);
        let transaction = match head.value.is_finished(&progress) {
            true => transaction,
            false if head.value.cancelled_at.is_some() => transaction.absent(&claim),
            false => return Ok(()),
        };
        let finished = Deployment { finished_at: Some(self.clock.now()), ..head.value.clone() };
        let count = |state| finished.hosts.iter().filter(|name| finished.state(progress.get(*name)) == state).count();
        let [done, failed, cancelled] =
            [DeploymentState::Done, DeploymentState::Failed, DeploymentState::Cancelled].map(count);
        let message = format!("{id} finished: {done} done, {failed} failed, {cancelled} cancelled");
        let network = Some(&finished.network);
        let note = Note { kind: "deployment.finished", network, host: None, actor: "service", message };
        match self.note(transaction.put(&head.key, &finished), note).commit().await {
            Ok(_) => Ok(self.forget_credentials(&finished).await?),
            Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes old deployments, and machines without a deployment if they were `suspects` at the last sweep already: one
    /// that is being made has no head yet.
    pub(super) async fn sweep(&self, suspects: &mut BTreeSet<DeploymentId>) -> Result<(), CallError> {
        let machines = self.store.list(&key::all_deployment_hosts()).await?;
        let heads = self.store.list(&key::deployments()).await?.complete()?;
        let networks = self.every_network().await?.into_iter().map(|network| network.id).collect();
        for head in surplus(&heads, &networks) {
            self.store.transaction().unchanged(&head.key, head.modified).delete(&head.key).commit().await?;
            self.delete_machines(&head.value.id).await?;
        }
        for head in heads.iter().filter(|head| head.value.finished_at.is_some()) {
            self.forget_credentials(&head.value).await?;
        }
        self.forget_credentials_of_the_gone().await?;
        let known: BTreeSet<&DeploymentId> = heads.iter().map(|head| &head.value.id).collect();
        let owners = machines.items.iter().filter_map(|machine| match machine.key.parse() {
            cladnet_store::AnyKey::DeploymentHost(deployment, _) => Some(deployment),
            _ => None,
        });
        let orphaned: BTreeSet<DeploymentId> = owners.filter(|owner| !known.contains(owner)).collect();
        for left in orphaned.intersection(suspects) {
            self.delete_machines(left).await?;
        }
        *suspects = orphaned;
        Ok(())
    }

    /// Deletes everything of a deployment but its head; the machines' own records last, by which the rest is found.
    pub(super) async fn delete_machines(&self, id: &DeploymentId) -> Result<(), StoreError> {
        let machines = self.store.list(&key::deployment_hosts(id)).await?.items;
        for batch in machines.chunks(BATCH) {
            let delete = batch.iter().fold(self.store.transaction(), |delete, machine| {
                let name = &machine.value.name;
                delete
                    .delete(&key::deployment_credential(id, name))
                    .delete(&key::deployment_progress(id, name))
                    .delete(&key::deployment_transcript(id, name))
                    .delete(&machine.key)
            });
            delete.commit().await?;
        }
        Ok(())
    }
}

/// Finished deployments that are no longer kept; `heads` are sorted by age, oldest first.
fn surplus<'a>(heads: &'a [Versioned<Deployment>], networks: &BTreeSet<NetworkId>) -> Vec<&'a Versioned<Deployment>> {
    let mut seen: BTreeMap<&NetworkId, usize> = BTreeMap::new();
    let mut surplus = Vec::new();
    for head in heads.iter().rev().filter(|head| head.value.finished_at.is_some()) {
        let seen = seen.entry(&head.value.network).or_default();
        *seen += 1;
        if *seen > KEPT || !networks.contains(&head.value.network) {
            surplus.push(head);
        }
    }
    surplus
}
