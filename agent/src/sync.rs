//! The agent's side of the sync stream: finds a service, says hello, hands on what it says, reports what changes here,
//! and comes back whenever the stream ends. It decides nothing: see [`Subject`].

mod renewal;
mod session;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use cladnet_model::{MembershipStatus, NetworkId};
use cladnet_pki::{
    Credentials, HostKey,
    channel::{ConnectError, ServiceUrl, UrlError},
};
use cladnet_proto::cladnet::v1::{Applied, CommandResult, UsageReport, service_message::Message};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tonic::{Code, Status};
use tracing::{debug, info, warn};

use crate::{
    backoff::Backoff,
    configuration::Refusal,
    control::protocol::ServiceStatus,
    facts::{Facts, Trigger},
    failure::chain,
    state::Identity,
};
use session::Session;

/// State of every membership, as it is reported.
pub(crate) type Statuses = BTreeMap<NetworkId, MembershipStatus>;

/// Whose configuration is kept in sync.
pub(crate) trait Subject: Send + Sync + 'static {
    /// What is applied and sound; a network that is missing here gets a snapshot.
    fn applied(&self) -> impl Future<Output = Vec<Applied>> + Send;

    /// Version of the tariff book in use.
    fn tariff_book_version(&self) -> impl Future<Output = String> + Send;

    /// Takes a message. Soon after a refusal the stream is made anew, and [`Subject::applied`] leaves that network out.
    fn take(&self, message: Message) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// How the link to the service is.
    fn link(&self, status: ServiceStatus) -> impl Future<Output = ()> + Send;

    /// The service gave a new certificate for the same key.
    fn renewed(&self, certificate: String) -> impl Future<Output = ()> + Send;
}

/// What the stream carries up, and who it belongs to.
pub(crate) struct Inputs {
    pub identity: watch::Receiver<Option<Arc<Identity>>>,
    pub facts: watch::Receiver<Arc<Facts>>,
    pub moved: watch::Receiver<Trigger>,
    pub statuses: watch::Receiver<Statuses>,
    pub results: mpsc::Receiver<CommandResult>,
    /// What the service has asked for by saying what it took last.
    pub usage: watch::Receiver<Option<UsageReport>>,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("the identity on disk cannot be used")]
    Identity(#[from] cladnet_pki::Error),
    #[error("the identity on disk names no service")]
    Service(#[from] UrlError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Holds the service's sentence, which says it all.
    #[error("the service refused: {0}")]
    Refused(String),
    /// As [`SyncError::Refused`]; a new certificate may be what is missing.
    #[error("the service refused: {0}")]
    Unauthenticated(String),
    #[error("the service was silent for too long")]
    Silent,
    #[error("the service closed the stream")]
    Closed,
    /// The connection is from an address that this host has no more.
    #[error("an address of this host changed")]
    Moved,
}

impl From<Status> for SyncError {
    fn from(status: Status) -> Self {
        match ConnectError::find(&status) {
            Some(error) => Self::Connect(error),
            None if status.code() == Code::Unauthenticated => Self::Unauthenticated(status.message().to_owned()),
            None => Self::Refused(status.message().to_owned()),
        }
    }
}

/// How a stream ended without anything being wrong.
enum End {
    /// Who we are changed.
    Identity,
    /// The service would not have the certificate, and gave a new one.
    Renewed,
    /// A fresh snapshot may heal what was refused; the wait for it is over.
    Refused,
}

/// Keeps the subject in sync until the task is dropped.
pub(crate) async fn run(mut inputs: Inputs, subject: impl Subject) {
    let mut backoff = Backoff::default();
    loop {
        let Some(identity) = inputs.identity.borrow_and_update().clone() else {
            subject.link(ServiceStatus::Idle).await;
            if inputs.identity.changed().await.is_err() {
                return;
            }
            continue;
        };
        let service = identity.services.join(", ");
        match Session::run(&mut inputs, &subject, &identity, &mut backoff).await {
            Ok(End::Identity) => backoff.reset(),
            Ok(End::Refused) => {}
            // Not at once: a service that will not have the new one either is asked ever later.
            Ok(End::Renewed) => sleep(backoff.next(rand::random())).await,
            Err(SyncError::Moved) => info!("an address of this host changed; linking to the service anew"),
            Err(error) => {
                let error = chain(&error);
                if backoff.is_first() {
                    warn!(service, error, "no link to the service; going on with the last known configuration");
                } else {
                    debug!(service, error, "still no link to the service");
                }
                subject.link(ServiceStatus::Away { service, error }).await;
                pause(&mut inputs, backoff.next(rand::random())).await;
            }
        }
    }
}

/// Waits, but not while there is a reason to try at once.
async fn pause(inputs: &mut Inputs, wait: Duration) {
    tokio::select! {
        () = sleep(wait) => {}
        Ok(()) = inputs.moved.changed() => info!("trying the service again at once"),
        Ok(()) = inputs.identity.changed() => inputs.identity.mark_changed(),
    }
}

/// The service's addresses and how to prove who we are.
pub(crate) fn credentials(identity: &Identity) -> Result<(Vec<ServiceUrl>, Credentials), SyncError> {
    let services = identity.services.iter().map(|url| url.parse()).collect::<Result<Vec<ServiceUrl>, _>>()?;
    let key = HostKey::from_pem(&identity.key)?;
    Ok((services, Credentials::of_host(&identity.certificate, &key)?))
}
