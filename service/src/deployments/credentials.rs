//! Forgetting the private keys of machines: at the end of their deployment, when an admin says so of one that keeps them, and
//! when the host that a machine became is removed.

use std::{collections::BTreeSet, future::pending};

use cladnet_model::{Deployment, DeploymentId, HostId, KeyId};
use cladnet_store::{AnyKey, Change, StoreError, Update, key};

use super::keep::tell;
use crate::{Service, error::CallError, events::Note, networks::TRIES};

/// Deletions in one transaction.
const BATCH: usize = 100;

/// Forgets the keys of machines whose hosts go, until the replica stops. What it misses the next sweep finds.
pub(super) async fn forget_for_ever(service: &Service) {
    let mut hosts = service.store.follow(&key::hosts());
    while let Some(update) = hosts.next().await {
        let may_be_gone = match update {
            Update::Listing(_) => true,
            Update::Batch(batch) => batch.changes.iter().any(|change| matches!(change, Change::Deleted(_))),
        };
        if may_be_gone {
            tell("rid of keys", service.forget_credentials_of_the_gone().await);
        }
    }
    pending().await // the store was closed
}

impl Service {
    /// From now on the deployment keeps no private keys: those of one that is over are deleted at once, others at its end.
    /// Safe to ask twice.
    pub(crate) async fn keep_no_credentials(&self, id: &DeploymentId, actor: &KeyId) -> Result<(), CallError> {
        for _ in 0..TRIES {
            let head = self.head(id).await?;
            let is_over = head.value.is_finished(&self.progress(id).await?);
            if head.value.keep_credentials {
                let changed = Deployment { keep_credentials: false, ..head.value.clone() };
                let transaction = self.store.transaction().unchanged(&head.key, head.modified).put(&head.key, &changed);
                let message = match is_over {
                    true => format!("the private keys that {id} kept are forgotten"),
                    false => format!("{id} will keep no private keys at its end"),
                };
                let (network, actor) = (Some(&head.value.network), actor.as_str());
                let note = Note { kind: "deployment.credentials-forgotten", network, host: None, actor, message };
                match self.note(transaction, note).commit().await {
                    Ok(_) => {}
                    Err(StoreError::Conflict { .. }) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let head = self.head(id).await?;
            if is_over {
                self.forget_credentials(&head.value).await?;
            }
            return self.finish(head).await;
        }
        Err(CallError::Conflict(format!("{id} keeps changing at the same moment; repeat the call")))
    }

    /// Deletes the private keys that are left of a finished deployment that keeps none; mostly its provisioner did.
    pub(super) async fn forget_credentials(&self, finished: &Deployment) -> Result<(), StoreError> {
        if finished.keep_credentials {
            return Ok(());
        }
        let left = self.store.list(&key::deployment_credentials(&finished.id)).await?.items;
        for batch in left.chunks(BATCH) {
            let delete = batch.iter().fold(self.store.transaction(), |delete, left| delete.delete(&left.key));
            delete.commit().await?;
        }
        Ok(())
    }

    /// Deletes the private keys that finished deployments keep of machines whose hosts are removed.
    pub(super) async fn forget_credentials_of_the_gone(&self) -> Result<(), CallError> {
        let mut known = Vec::new();
        for head in self.store.list(&key::deployments()).await?.items.into_iter().map(|head| head.value) {
            let progress = if head.keep_credentials { self.progress(&head.id).await? } else { continue };
            if head.is_finished(&progress) {
                let machines = progress.into_iter().filter_map(|(name, progress)| Some((name, progress.host?)));
                known.extend(machines.map(|(name, host)| (key::deployment_credential(&head.id, &name), host)));
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        // Listed after what names them: a host that is not there any more was there.
        let hosts = self.hosts_on_record().await?;
        known.retain(|(_, host)| !hosts.contains(host));
        for batch in known.chunks(BATCH) {
            let delete = batch.iter().fold(self.store.transaction(), |delete, (key, _)| delete.delete(key));
            delete.commit().await?;
        }
        Ok(())
    }

    /// Every host that has a record, readable or not.
    async fn hosts_on_record(&self) -> Result<BTreeSet<HostId>, StoreError> {
        let hosts = self.store.list(&key::hosts()).await?;
        let keys = hosts.items.iter().map(|host| host.key.parse());
        let keys = keys.chain(hosts.undecodable.iter().map(|host| AnyKey::parse(&host.key)));
        let id = |key| if let AnyKey::Host(host) = key { Some(host) } else { None };
        Ok(keys.filter_map(id).collect())
    }
}
