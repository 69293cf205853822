//! The claim on a deployment: a key under the replica's lease that every write compares. A replica that lost it writes
//! nothing more, however late it wakes.

use std::sync::Arc;

use cladnet_model::{Deployment, deployment::DeploymentClaim};
use cladnet_store::{Key, Lease, Revision, Store, StoreError, Transaction, Versioned, key};

/// A deployment that is ours alone.
pub(super) struct Claim {
    store: Store,
    deployment: Deployment,
    key: Key<DeploymentClaim>,
    /// At which the claim was made: it is never written again.
    revision: Revision,
    lease: Arc<Lease>,
}

/// Why a write under a claim did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the deployment was taken over by another replica")]
    Lost,
    #[error(transparent)]
    Store(StoreError),
}

impl Claim {
    /// None if somebody else has it, or the deployment is not as it was seen any more.
    pub(super) async fn take(
        store: &Store,
        lease: &Arc<Lease>,
        head: Versioned<Deployment>,
        replica: &str,
    ) -> Result<Option<Self>, StoreError> {
        let key = key::deployment_claim(&head.value.id);
        let record = DeploymentClaim { replica: replica.to_owned() };
        let unchanged = store.transaction().unchanged(&head.key, head.modified);
        let taking = unchanged.absent(&key).put_leased(&key, &record, lease);
        let revision = match taking.commit().await {
            Ok(revision) => revision,
            Err(StoreError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Self { store: store.clone(), deployment: head.value, key, revision, lease: lease.clone() }))
    }

    /// The deployment as it was when it was claimed.
    pub(super) fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// A transaction that happens only while the claim lasts.
    pub(super) fn transaction(&self) -> Transaction {
        self.store.transaction().unchanged(&self.key, self.revision)
    }

    /// Carries out a transaction of [`Claim::transaction`].
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<(), WriteError> {
        if !self.lease.is_alive() {
            return Err(WriteError::Lost);
        }
        match transaction.commit().await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { key }) if key == self.key.path() => Err(WriteError::Lost),
            Err(error) => Err(WriteError::Store(error)),
        }
    }

    /// Lets it go.
    pub(super) async fn release(&self) -> Result<(), WriteError> {
        self.commit(self.transaction().delete(&self.key)).await
    }
}
