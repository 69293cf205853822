//! One deployment that is ours: its machines side by side, as many at a time as it says; then its private keys go.

use std::{error::Error, sync::Arc, time::Duration};

use cladnet_model::{DeploymentHost, MachineName, deployment::FailureReason};
use cladnet_store::{Change, Follow, StoreError, Update, key};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::warn;

use super::{
    Shared,
    claim::{Claim, WriteError},
    connections::{Connections, Hosts},
    journal::{Journal, Stop},
    machine::Work,
};
use crate::{FailPoint, failed::Failed};

/// Private keys that are deleted in one transaction.
const BATCH: usize = 100;
/// Before the store is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Works until every machine is done with, then lets the claim go. What fails with the store is tried again as long as
/// the claim lasts.
pub(super) async fn run(shared: Arc<Shared>, claim: Claim, cancel: CancellationToken) {
    FailPoint::Claimed.pass(shared.config.fail_point);
    let claim = Arc::new(claim);
    let id = claim.deployment().id.clone();
    let (hosts, _following) = hosts(&claim).await;
    let connections = Arc::new(Connections::new(shared.clone(), claim.clone(), hosts));
    let slots = Arc::new(Semaphore::new(claim.deployment().concurrency.max(1) as usize));
    let mut machines = JoinSet::new();
    for name in &claim.deployment().hosts {
        let work = Work {
            shared: shared.clone(),
            claim: claim.clone(),
            connections: connections.clone(),
            slots: slots.clone(),
            name: name.clone(),
            cancel: cancel.clone(),
        };
        machines.spawn(machine(work));
    }
    while let Some(ended) = machines.join_next().await {
        if let Err(error) = ended {
            warn!(deployment = %id, %error, "a machine's work ended by a panic");
        }
    }
    end(&claim).await;
}

async fn machine(work: Work) {
    let (claim, name, cancel) = (work.claim.clone(), work.name.clone(), work.cancel.clone());
    let journal = loop {
        match Journal::open(claim.clone(), name.clone(), cancel.clone()).await {
            Ok(journal) => break Arc::new(journal),
            Err(error @ StoreError::Decode { .. }) => {
                warn!(machine = %name, error = &error as &dyn Error, "progress cannot be read; left alone");
                return;
            }
            Err(_) => sleep(PAUSE).await,
        }
    };
    if journal.progress().state.is_final() {
        return;
    }
    let working = journal.clone();
    let outcome = AbortOnDropHandle::new(tokio::spawn(async move { work.run(&working).await })).await;
    let outcome = outcome.unwrap_or_else(|panic| {
        warn!(machine = %name, %panic, "our bug");
        let detail = "the provisioner failed by a mistake of its own; its log has more";
        Err(Stop::Failed(Failed::new(FailureReason::Internal, detail)))
    });
    journal.end(outcome).await;
}

/// The machines, now and as they change.
async fn hosts(claim: &Arc<Claim>) -> (watch::Receiver<Hosts>, AbortOnDropHandle<()>) {
    let mut following = claim.store().follow(&key::deployment_hosts(&claim.deployment().id));
    let (sender, receiver) = watch::channel(Hosts::new());
    // A store that closes ends the job from outside.
    take(&sender, &mut following).await;
    let follower = tokio::spawn(async move { while take(&sender, &mut following).await {} });
    (receiver, AbortOnDropHandle::new(follower))
}

async fn take(hosts: &watch::Sender<Hosts>, following: &mut Follow<DeploymentHost>) -> bool {
    let named = |host: DeploymentHost| (host.name.clone(), host);
    match following.next().await {
        None => false,
        Some(Update::Listing(listing)) => {
            hosts.send_replace(listing.items.into_iter().map(|item| named(item.value)).collect());
            true
        }
        Some(Update::Batch(batch)) => {
            let put = |change| if let Change::Put(item) = change { Some(named(item.value)) } else { None };
            hosts.send_modify(|hosts| hosts.extend(batch.changes.into_iter().filter_map(put)));
            true
        }
    }
}

/// Nobody needs the private keys any more, nor the claim.
async fn end(claim: &Claim) {
    loop {
        let ended = async {
            if !claim.deployment().keep_credentials {
                forget_credentials(claim).await?;
            }
            claim.release().await
        };
        match ended.await {
            Ok(()) | Err(WriteError::Lost) => return,
            Err(WriteError::Store(error)) => {
                warn!(deployment = %claim.deployment().id, error = &error as &dyn Error, "not ended; will try again");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn forget_credentials(claim: &Claim) -> Result<(), WriteError> {
    let id = &claim.deployment().id;
    for names in claim.deployment().hosts.chunks(BATCH) {
        let delete = |transaction: cladnet_store::Transaction, name: &MachineName| {
            transaction.delete(&key::deployment_credential(id, name))
        };
        claim.commit(names.iter().fold(claim.transaction(), delete)).await?;
    }
    Ok(())
}
