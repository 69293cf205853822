//! Connections to the machines of one deployment: which key is trusted, through which bastion, and what is pinned then. A
//! bastion has one connection for all behind it, and what became of the last attempt at it holds for all of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cladnet_model::{
    DeploymentHost, HostId, MachineName,
    deployment::{FailureReason, PinnedHostKey},
};
use cladnet_store::{StoreError, key};
use jiff::Timestamp;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::Instant,
};

use super::{
    Shared,
    claim::{Claim, WriteError},
    journal::Stop,
};
use crate::{
    failed::Failed,
    remote::{Pin, Remote, RemoteError, Route, ShownKey, Trust},
};

/// A bastion that failed is not tried again within this: machine after machine would wait for the same silence.
const FAILURE_HOLDS: Duration = Duration::from_secs(60);
/// As [`FAILURE_HOLDS`], for a machine whose connection broke: its bastion was there a moment ago and may be back. Shorter
/// than the pause before the last attempt.
const ABSENCE_HOLDS: Duration = Duration::from_secs(5);

/// The machines of a deployment as the service keeps them: a confirmed key appears here.
pub(super) type Hosts = BTreeMap<MachineName, DeploymentHost>;

/// See the module.
pub(super) struct Connections {
    shared: Arc<Shared>,
    claim: Arc<Claim>,
    hosts: watch::Receiver<Hosts>,
    bastions: Mutex<BTreeMap<MachineName, Arc<AsyncMutex<Bastion>>>>,
}

/// Whether the machine was reached a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Again,
}

/// What became of the last attempt at a bastion.
#[derive(Default)]
enum Bastion {
    #[default]
    Untried,
    Connected(Arc<Remote>),
    Failed {
        at: Instant,
        why: Failed,
    },
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// Somebody must vouch for the key of this machine: the one that was asked for, or its bastion.
    Unconfirmed {
        whose: MachineName,
        shown: ShownKey,
    },
    Failed(Failed),
    /// The claim is lost.
    Lost,
}

impl<E: Into<Failed>> From<E> for NoConnection {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Connections {
    pub(super) fn new(shared: Arc<Shared>, claim: Arc<Claim>, hosts: watch::Receiver<Hosts>) -> Self {
        Self { shared, claim, hosts, bastions: Mutex::default() }
    }

    pub(super) fn hosts(&self) -> watch::Receiver<Hosts> {
        self.hosts.clone()
    }

    pub(super) fn host(&self, name: &MachineName) -> Result<DeploymentHost, Failed> {
        let found = self.hosts.borrow().get(name).cloned();
        found.ok_or_else(|| Failed::new(FailureReason::Internal, format!("the record of machine {name} is gone")))
    }

    /// Connects to a machine, through its bastion if it has one.
    pub(super) async fn connect(&self, name: &MachineName, attempt: Attempt) -> Result<Remote, NoConnection> {
        let host = self.host(name)?;
        let Some(bastion) = &host.bastion else { return self.reach(&host, None).await };
        let holds = match attempt {
            Attempt::First => FAILURE_HOLDS,
            Attempt::Again => ABSENCE_HOLDS,
        };
        let (record, remote) = self.bastion(bastion, holds).await.map_err(|error| match error {
            NoConnection::Failed(failed) => {
                Failed::new(FailureReason::BastionFailed, format!("bastion {bastion}: {failed}")).into()
            }
            other => other,
        })?;
        self.reach(&host, Some((&record, &remote))).await
    }

    /// The connection that everybody behind a bastion shares; a new one if it has ended, unless one failed within `holds`.
    async fn bastion(
        &self,
        name: &MachineName,
        holds: Duration,
    ) -> Result<(DeploymentHost, Arc<Remote>), NoConnection> {
        let host = self.host(name)?;
        let slot =
            self.bastions.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone();
        let mut slot = slot.lock().await;
        match &*slot {
            Bastion::Connected(remote) if !remote.is_closed() => return Ok((host, remote.clone())),
            Bastion::Failed { at, why } if at.elapsed() < holds => {
                return Err(NoConnection::Failed(why.clone()));
            }
            _ => {}
        }
        match self.reach(&host, None).await {
            Ok(remote) => {
                let remote = Arc::new(remote);
                *slot = Bastion::Connected(remote.clone());
                Ok((host, remote))
            }
            Err(error) => {
                // A store that was away a moment ago says nothing of the bastion.
                if let NoConnection::Failed(why) = &error
                    && why.reason != FailureReason::Internal
                {
                    *slot = Bastion::Failed { at: Instant::now(), why: why.clone() };
                }
                Err(error)
            }
        }
    }

    /// The host that the machine is known to be, from a join of this or an earlier deployment.
    pub(super) async fn known_host(&self, name: &MachineName) -> Result<Option<HostId>, Failed> {
        let pinned = self.claim.store().get(&key::host_key(&self.place(name)?)).await?;
        Ok(pinned.and_then(|pinned| pinned.value.host))
    }

    /// Keeps which host the machine is, as long as its key is known.
    pub(super) async fn keep_host(&self, name: &MachineName, id: Option<&HostId>) -> Result<(), Stop> {
        let Some(pinned) = self.claim.store().get(&key::host_key(&self.place(name)?)).await? else { return Ok(()) };
        if pinned.value.host.as_ref() == id {
            return Ok(());
        }
        let record = PinnedHostKey { host: id.cloned(), ..pinned.value };
        let keep = self.claim.transaction().unchanged(&pinned.key, pinned.modified).put(&pinned.key, &record);
        match self.claim.commit(keep).await {
            // Somebody forgot the key at this moment, and with it whose it was.
            Ok(()) | Err(WriteError::Store(StoreError::Conflict { .. })) => Ok(()),
            Err(WriteError::Lost) => Err(Stop::Lost),
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }

    fn place(&self, name: &MachineName) -> Result<String, Failed> {
        let host = self.host(name)?;
        let bastion = host.bastion.as_ref().map(|bastion| self.host(bastion)).transpose()?;
        Ok(host.place(bastion.as_ref()))
    }

    async fn reach(
        &self,
        host: &DeploymentHost,
        bastion: Option<(&DeploymentHost, &Remote)>,
    ) -> Result<Remote, NoConnection> {
        let place = host.place(bastion.map(|(bastion, _)| bastion));
        let pinned = self.claim.store().get(&key::host_key(&place)).await?.map(|found| found.value);
        let is_pinned = pinned.is_some();
        let trust = self.trust(host, &place, pinned)?;
        let credential = key::deployment_credential(&self.claim.deployment().id, &host.name);
        let private = self.claim.store().get_sealed(&credential).await?;
        let private = private.ok_or_else(|| Failed::new(FailureReason::NoCredential, "its private key is gone"))?;
        let route = bastion.map_or(Route::Direct, |(_, remote)| Route::Through(remote));
        let addresses = &*self.shared.config.addresses;
        let remote = match Remote::connect(&host.ssh, trust, &private, route, addresses).await {
            Ok(remote) => remote,
            Err(RemoteError::UnknownKey(shown)) => {
                return Err(NoConnection::Unconfirmed { whose: host.name.clone(), shown });
            }
            Err(error) => return Err(error.into()),
        };
        if !is_pinned {
            self.pin(&place, host, remote.shown_key()).await?;
        }
        Ok(remote)
    }

    /// A pinned key comes before everything else: whoever gives another one must have it forgotten first.
    fn trust(&self, host: &DeploymentHost, place: &str, pinned: Option<PinnedHostKey>) -> Result<Trust, Failed> {
        let given = host.ssh.host_key.as_ref().map(|pin| pin.fingerprint());
        match (pinned, given.or(host.confirmed)) {
            (Some(pinned), Some(given)) if given != pinned.fingerprint => Err(Failed::new(
                FailureReason::HostKeyChanged,
                format!(
                    "{given} was given, but {place} is known by {}; if the machine was rebuilt, forget its key with `cladnet host-key forget {place}`",
                    pinned.fingerprint
                ),
            )),
            (Some(pinned), _) => {
                Ok(Trust::Pinned(Pin { fingerprint: pinned.fingerprint, algorithm: Some(pinned.algorithm) }))
            }
            (None, Some(given)) => Ok(Trust::Pinned(given.into())),
            (None, None) if self.claim.deployment().accept_new_host_keys => Ok(Trust::FirstSight),
            (None, None) => Ok(Trust::Unknown),
        }
    }

    async fn pin(&self, place: &str, host: &DeploymentHost, shown: &ShownKey) -> Result<(), NoConnection> {
        let key = key::host_key(place);
        // Who gave the key, or trusts all of them, made the deployment.
        let voucher = host.confirmed_by.as_ref().filter(|_| host.ssh.host_key.is_none());

        let record = PinnedHostKey {
            fingerprint: shown.fingerprint,
            algorithm: shown.algorithm.clone(),
            pinned_at: Timestamp::now(),
            pinned_by: voucher.unwrap_or(&self.claim.deployment().created_by).to_string(),
            host: None,
        };
        match self.claim.commit(self.claim.transaction().absent(&key).put(&key, &record)).await {
            Ok(()) => Ok(()),
            Err(WriteError::Lost) => Err(NoConnection::Lost),
            Err(WriteError::Store(StoreError::Conflict { .. })) => {
                let there = self.claim.store().get(&key).await?;
                match there.filter(|there| there.value.fingerprint != shown.fingerprint) {
                    Some(_) => Err(Failed::new(
                        FailureReason::HostKeyChanged,
                        format!("another deployment just saw another key at {place}; repeat this one"),
                    )
                    .into()),
                    None => Ok(()),
                }
            }
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }
}
