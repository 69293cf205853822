//! Deployments: wishes that a provisioner works on, and what it says of them. Nothing here connects to a machine.
//!
//! A deployment is a head record and, for every machine, a record and a sealed key of its own. The head is written last and
//! deleted first: what has no head is nobody's job.

mod cancel;
mod create;
mod credentials;
mod host_keys;
mod keep;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;

use cladnet_model::{
    Deployment, DeploymentHost, DeploymentId, DeploymentProgress, KeyId, MachineName, NetworkId,
    deployment::{DeploymentState, Fingerprint},
};
use cladnet_proto::{
    cladnet::v1,
    convert::{self, DeploymentRecords},
};
use cladnet_store::{AnyKey, StoreError, Versioned, key};

use crate::{Service, error::CallError, events::Note, networks::TRIES};

pub(crate) use watch::{DeploymentWatch, WATCHES};

/// A deployment with what is known of its machines.
pub(crate) struct DeploymentRow {
    pub(crate) head: Deployment,
    pub(crate) machines: BTreeMap<MachineName, DeploymentHost>,
    pub(crate) progress: BTreeMap<MachineName, DeploymentProgress>,
    pub(crate) claimed: bool,
}

impl DeploymentRow {
    /// As the API shows it.
    pub(crate) fn wire(&self) -> v1::Deployment {
        convert::deployment(self.records(), &self.machines)
    }

    /// The same without machines.
    pub(crate) fn overview(&self) -> v1::Deployment {
        convert::deployment_overview(self.records())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.head.is_finished(&self.progress)
    }

    fn records(&self) -> DeploymentRecords<'_> {
        DeploymentRecords { deployment: &self.head, progress: &self.progress, claimed: self.claimed }
    }
}

/// Keeps them in order until the replica stops. Replicas that do the same at the same moment do no harm.
pub(crate) async fn keep_for_ever(service: &Service) {
    tokio::join!(keep::keep_for_ever(service), credentials::forget_for_ever(service));
}

impl Service {
    /// The deployment, or that there is none.
    pub(crate) async fn deployment(&self, id: &DeploymentId) -> Result<DeploymentRow, CallError> {
        let head = self.head(id).await?.value;
        let machines = self.store.list(&key::deployment_hosts(id)).await?.items.into_iter();
        let machines = machines.map(|machine| (machine.value.name.clone(), machine.value)).collect();
        Ok(DeploymentRow { machines, ..self.row(head).await? })
    }

    /// Deployments of one network, or all; newest first.
    pub(crate) async fn deployments(&self, network: Option<&NetworkId>) -> Result<Vec<Deployment>, CallError> {
        let heads = self.store.list(&key::deployments()).await?.items.into_iter().rev().map(|head| head.value);
        Ok(heads.filter(|head| network.is_none_or(|network| head.network == *network)).collect())
    }

    /// A deployment without the records of its machines.
    pub(crate) async fn row(&self, head: Deployment) -> Result<DeploymentRow, CallError> {
        let progress = self.progress(&head.id).await?;
        let claimed = self.store.get(&key::deployment_claim(&head.id)).await?.is_some();
        Ok(DeploymentRow { head, machines: BTreeMap::new(), progress, claimed })
    }

    /// What was done on a machine; empty before anything was.
    pub(crate) async fn transcript(&self, id: &DeploymentId, name: &MachineName) -> Result<String, CallError> {
        self.machine(id, name).await?;
        let transcript = self.store.get(&key::deployment_transcript(id, name)).await?;
        Ok(transcript.map(|transcript| transcript.value.as_str().to_owned()).unwrap_or_default())
    }

    /// Vouches for the key that a machine offers.
    pub(crate) async fn confirm_host_key(
        &self,
        id: &DeploymentId,
        name: &MachineName,
        fingerprint: Fingerprint,
        actor: &KeyId,
    ) -> Result<(), CallError> {
        for _ in 0..TRIES {
            let head = self.head(id).await?;
            let machine = self.machine(id, name).await?;
            if machine.value.confirmed == Some(fingerprint) {
                return Ok(());
            }
            let progress = self.store.get(&key::deployment_progress(id, name)).await?;
            let offer = progress.filter(|progress| progress.value.state == DeploymentState::ConfirmHostKey);
            let Some((offer, offered)) = offer.and_then(|offer| offer.value.offered_key.map(|key| (offer, key))) else {
                return Err(CallError::Precondition(format!(
                    "machine {name} waits for no confirmation now; look at its state first"
                )));
            };
            if offered != fingerprint {
                return Err(CallError::Conflict(format!(
                    "machine {name} shows {offered}, not {fingerprint}; compare it with ssh-keygen -lf on the machine, and confirm it only if they agree"
                )));
            }
            let confirmed = DeploymentHost {
                confirmed: Some(fingerprint),
                confirmed_by: Some(actor.clone()),
                ..machine.value.clone()
            };
            let transaction = self.store.transaction().exists(&head.key).unchanged(&offer.key, offer.modified);
            let transaction = transaction.unchanged(&machine.key, machine.modified).put(&machine.key, &confirmed);
            let message = format!("{fingerprint} of {} confirmed for machine {name}", machine.value.ssh.place());
            let (network, actor) = (Some(&head.value.network), actor.as_str());
            let note = Note { kind: "deployment.host-key-confirmed", network, host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("machine {name} keeps changing at the same moment; repeat the call")))
    }

    async fn head(&self, id: &DeploymentId) -> Result<Versioned<Deployment>, CallError> {
        let found = self.store.get(&key::deployment(id)).await?;
        found.ok_or_else(|| CallError::NotFound(format!("there is no deployment {id}")))
    }

    async fn machine(&self, id: &DeploymentId, name: &MachineName) -> Result<Versioned<DeploymentHost>, CallError> {
        self.head(id).await?;
        let found = self.store.get(&key::deployment_host(id, name)).await?;
        found.ok_or_else(|| CallError::NotFound(format!("{id} has no machine {name}")))
    }

    async fn progress(&self, id: &DeploymentId) -> Result<BTreeMap<MachineName, DeploymentProgress>, StoreError> {
        let records = self.store.list(&key::deployment_progresses(id)).await?.items.into_iter();
        let named = records.filter_map(|record| match record.key.parse() {
            AnyKey::DeploymentProgress(_, name) => Some((name, record.value)),
            _ => None,
        });
        Ok(named.collect())
    }
}
