//! What is told of one machine: how far it is, and what was done, line by line. Every state begins with a look at whether
//! the deployment was cancelled.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cladnet_model::{
    DeploymentProgress, MachineName,
    deployment::{DeploymentFailure, DeploymentState, FailureReason, Transcript},
};
use cladnet_store::{StoreError, key};
use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::claim::{Claim, WriteError};
use crate::failed::Failed;

/// Before an end is written again that the store did not take.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a machine is worked on no more.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(Failed),
    /// The connection broke: on another one it may go on.
    Broken(Failed),
    Cancelled,
    /// Another replica goes on; nothing may be written.
    Lost,
}

impl<E: Into<Failed>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// See the module.
pub(super) struct Journal {
    claim: Arc<Claim>,
    name: MachineName,
    cancel: CancellationToken,
    entry: Mutex<Entry>,
}

#[derive(Clone)]
struct Entry {
    progress: DeploymentProgress,
    transcript: Transcript,
}

impl Journal {
    /// Goes on with what was written before.
    pub(super) async fn open(
        claim: Arc<Claim>,
        name: MachineName,
        cancel: CancellationToken,
    ) -> Result<Self, StoreError> {
        let id = &claim.deployment().id;
        let progress = claim.store().get(&key::deployment_progress(id, &name)).await?;
        let transcript = claim.store().get(&key::deployment_transcript(id, &name)).await?;
        let entry = Entry {
            progress: progress.map(|found| found.value).unwrap_or_default(),
            transcript: transcript.map(|found| found.value).unwrap_or_default(),
        };
        Ok(Self { claim, name, cancel, entry: Mutex::new(entry) })
    }

    pub(super) fn progress(&self) -> DeploymentProgress {
        self.entry().progress.clone()
    }

    /// One more line; it is written with the next state.
    pub(super) fn say(&self, line: &str) {
        self.entry().transcript.push(Timestamp::now(), line);
    }

    /// The next state begins, unless the deployment was cancelled.
    pub(super) async fn enter(&self, state: DeploymentState) -> Result<(), Stop> {
        self.enter_with(state, |_| {}).await
    }

    /// As [`Journal::enter`], with what belongs to the state.
    pub(super) async fn enter_with(
        &self,
        state: DeploymentState,
        with: impl FnOnce(&mut DeploymentProgress),
    ) -> Result<(), Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        self.say(state.as_str());
        self.change(|progress| {
            progress.state = state;
            progress.started_at.get_or_insert_with(Timestamp::now);
            progress.offered_key = None;
            with(progress);
        })
        .await
    }

    /// Changes the progress and writes everything. A store that is away is no reason to stop: the next write tells all.
    pub(super) async fn change(&self, change: impl FnOnce(&mut DeploymentProgress)) -> Result<(), Stop> {
        change(&mut self.entry().progress);
        match self.write().await {
            Ok(()) => Ok(()),
            Err(WriteError::Lost) => Err(Stop::Lost),
            Err(WriteError::Store(error)) => {
                warn!(machine = %self.name, error = &error as &dyn Error, "progress not written");
                Ok(())
            }
        }
    }

    /// Writes how it ended, however long the store is away.
    pub(super) async fn end(&self, outcome: Result<(), Stop>) {
        let during = self.entry().progress.state;
        let (state, failure) = match outcome {
            Ok(()) => (DeploymentState::Done, None),
            Err(Stop::Cancelled) => (DeploymentState::Cancelled, None),
            Err(Stop::Lost) => return,
            Err(Stop::Failed(Failed { reason, detail }) | Stop::Broken(Failed { reason, detail })) => {
                (DeploymentState::Failed, Some(DeploymentFailure { reason, detail, during }))
            }
        };
        self.say(&failure.as_ref().map_or(state.to_string(), |failure| format!("failed: {}", failure.detail)));
        info!(deployment = %self.claim.deployment().id, machine = %self.name, %state, "machine done with");
        {
            let mut entry = self.entry();
            let finished_at = Some(Timestamp::now());
            entry.progress =
                DeploymentProgress { state, failure, finished_at, offered_key: None, ..entry.progress.clone() };
        }
        loop {
            match self.write().await {
                Err(WriteError::Store(error)) if error.is_transient() => {
                    warn!(machine = %self.name, error = &error as &dyn Error, "end not written; will try again");
                    sleep(PAUSE).await;
                }
                Err(WriteError::Store(error)) => {
                    warn!(machine = %self.name, error = &error as &dyn Error, "end not written; the next claim looks again");
                    return;
                }
                Ok(()) | Err(WriteError::Lost) => return,
            }
        }
    }

    async fn write(&self) -> Result<(), WriteError> {
        let id = &self.claim.deployment().id;
        let Entry { progress, transcript } = self.entry().clone();
        let transaction = self
            .claim
            .transaction()
            .put(&key::deployment_progress(id, &self.name), &progress.bounded())
            .put(&key::deployment_transcript(id, &self.name), &transcript);
        self.claim.commit(transaction).await
    }

    fn entry(&self) -> MutexGuard<'_, Entry> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        let reason = match error {
            StoreError::Seal { .. } => FailureReason::NoCredential,
            _ => FailureReason::Internal,
        };
        Self::new(reason, error.to_string())
    }
}
