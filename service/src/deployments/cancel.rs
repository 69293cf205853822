//! Cancelling deployments.

use cladnet_model::{Deployment, DeploymentId, NetworkId};
use cladnet_store::{Revision, StoreError, Versioned, key};

use crate::{Service, error::CallError, events::Note, networks::TRIES};

impl Service {
    /// Asks that nothing more is begun; safe to ask twice, or too late. Where nobody has begun, it is over at once.
    pub(crate) async fn cancel_deployment(&self, id: &DeploymentId, actor: &str) -> Result<(), CallError> {
        for _ in 0..TRIES {
            let head = self.head(id).await?;
            if head.value.cancelled_at.is_some() || head.value.is_finished(&self.progress(id).await?) {
                return self.finish(head).await;
            }
            let cancelled = Deployment { cancelled_at: Some(self.clock.now()), ..head.value.clone() };
            let transaction = self.store.transaction().unchanged(&head.key, head.modified).put(&head.key, &cancelled);
            let message = format!("{id} cancelled");
            let note =
                Note { kind: "deployment.cancelled", network: Some(&cancelled.network), host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(_) => return self.finish(self.head(id).await?).await,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("{id} keeps changing at the same moment; repeat the call")))
    }

    /// Cancels what goes on in a network that is deleted: what was made up to `until`.
    pub(crate) async fn cancel_deployments(
        &self,
        network: &NetworkId,
        until: Revision,
        actor: &str,
    ) -> Result<(), CallError> {
        let heads = self.store.list(&key::deployments()).await?.items;
        let concerned = |head: &&Versioned<Deployment>| head.value.network == *network && head.created <= until;
        for head in heads.iter().filter(concerned) {
            match self.cancel_deployment(&head.value.id, actor).await {
                Ok(()) | Err(CallError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
