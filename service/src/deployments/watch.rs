//! A deployment as it goes on: the whole of it after each change, until it is finished.

use std::{sync::Arc, time::Duration};

use cladnet_model::{Deployment, DeploymentId, DeploymentProgress, deployment::DeploymentClaim};
use cladnet_proto::cladnet::v1;
use cladnet_store::{Follow, key};
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tonic::Status;

use crate::{Service, error::CallError};

/// Streams of one replica at a time; each reads the store on its own.
pub(crate) const WATCHES: usize = 100;

/// Time between two messages: a thousand machines that change at once become few of them.
const PACE: Duration = Duration::from_millis(250);

/// What one stream follows, and what it said last.
pub(crate) struct DeploymentWatch {
    service: Arc<Service>,
    id: DeploymentId,
    heads: Follow<Deployment>,
    progress: Follow<DeploymentProgress>,
    claims: Follow<DeploymentClaim>,
    last: Option<v1::Deployment>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl DeploymentWatch {
    /// Refused when too many watch.
    pub(crate) async fn new(service: Arc<Service>, id: DeploymentId) -> Result<Self, CallError> {
        let too_many = |_| {
            CallError::TooMany("too many watch deployments at this replica; ask for the deployment instead".to_owned())
        };
        let place = service.deployment_watches.clone().try_acquire_owned().map_err(too_many)?;
        service.head(&id).await?;
        Ok(Self {
            heads: service.store.follow(&key::deployments()),
            progress: service.store.follow(&key::deployment_progresses(&id)),
            claims: service.store.follow(&key::deployment_claims()),
            service,
            id,
            last: None,
            is_over: false,
            _place: place,
        })
    }

    /// The deployment once it differs from what was said last; `None` when there is nothing more to say.
    pub(crate) async fn next(&mut self) -> Option<Result<v1::Deployment, Status>> {
        loop {
            if self.is_over {
                return None;
            }
            if self.last.is_some() {
                self.signal().await?;
            }
            let row = match self.service.deployment(&self.id).await {
                Ok(row) => row,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error.into()));
                }
            };
            self.is_over = row.is_finished();
            let now = Some(row.wire());
            if now != self.last {
                self.last.clone_from(&now);
                return now.map(Ok);
            }
        }
    }

    /// Waits until something may have changed; `None` when the store was closed.
    async fn signal(&mut self) -> Option<()> {
        tokio::select! {
            update = self.heads.next() => update.map(drop),
            update = self.progress.next() => update.map(drop),
            update = self.claims.next() => update.map(drop),
        }?;
        sleep(PACE).await;
        while self.heads.try_next().is_some() {}
        while self.progress.try_next().is_some() {}
        while self.claims.try_next().is_some() {}
        Some(())
    }
}
