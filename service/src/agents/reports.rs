//! What agents report, on its way into the store: only what differs from what is there, the newest only, and at most
//! once a second per host, because everybody in its networks is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use cladnet_model::{Host, HostFacts, HostId, MembershipStatus, NetworkId};
use cladnet_store::{Revision, StoreError, key};
use tokio::{sync::Notify, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::Shared;

/// Between two writes for one host.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries against somebody who changes the host's record at the same moment.
const ATTEMPTS: usize = 8;

/// The reports of one stream that are not written yet. Dropping it drops them: the agent's next hello has them again.
#[derive(Debug)]
pub(super) struct Reports {
    mailbox: Arc<Mailbox>,
    _writer: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Mailbox {
    pending: Mutex<Pending>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    facts: Option<HostFacts>,
    statuses: BTreeMap<NetworkId, MembershipStatus>,
}

impl Reports {
    /// For one stream of one host.
    pub(super) fn start(shared: Arc<Shared>, host: HostId) -> Self {
        let mailbox = Arc::<Mailbox>::default();
        let writer = tokio::spawn(write(shared, host, mailbox.clone()));
        Self { mailbox, _writer: AbortOnDropHandle::new(writer) }
    }

    pub(super) fn facts(&self, facts: HostFacts) {
        self.mailbox.add(|pending| pending.facts = Some(facts));
    }

    pub(super) fn status(&self, network: NetworkId, status: MembershipStatus) {
        self.mailbox.add(|pending| drop(pending.statuses.insert(network, status)));
    }
}

impl Mailbox {
    fn add(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().expect("no holder of this lock panics"));
        self.notify.notify_one();
    }

    async fn take(&self) -> Pending {
        self.notify.notified().await;
        std::mem::take(&mut self.pending.lock().expect("no holder of this lock panics"))
    }

    /// Back again what could not be written, unless something newer came meanwhile.
    fn put_back(&self, failed: Pending) {
        self.add(|pending| {
            pending.facts = pending.facts.take().or(failed.facts);
            for (network, status) in failed.statuses {
                pending.statuses.entry(network).or_insert(status);
            }
        });
    }
}

async fn write(shared: Arc<Shared>, host: HostId, mailbox: Arc<Mailbox>) {
    loop {
        let mut pending = mailbox.take().await;
        let mut wrote = false;
        if let Some(facts) = pending.facts.take() {
            match shared.write_facts(&host, &facts).await {
                Ok(written) => wrote |= written,
                Err(error) => {
                    warn!(%error, "facts not written; trying again");
                    pending.facts = Some(facts);
                }
            }
        }
        let mut failed = BTreeMap::new();
        for (network, status) in std::mem::take(&mut pending.statuses) {
            match shared.write_status(&network, &host, &status).await {
                Ok(written) => wrote |= written,
                Err(error) => {
                    warn!(%error, %network, "status not written; trying again");
                    failed.insert(network, status);
                }
            }
        }
        pending.statuses = failed;
        let failed = pending.facts.is_some() || !pending.statuses.is_empty();
        if failed {
            mailbox.put_back(pending);
        }
        if wrote || failed {
            sleep(PAUSE).await;
        }
    }
}

impl Shared {
    /// Writes a host's facts if they differ; says whether anything was written. The view saves the read, and the
    /// compare-and-swap finds out when it was too old.
    async fn write_facts(&self, id: &HostId, facts: &HostFacts) -> Result<bool, StoreError> {
        let facts = self.admissible(facts.clone());
        let mut known: Option<(Host, Revision)> = self.view().host(id).cloned();
        for _ in 0..ATTEMPTS {
            let (host, revision) = match known.take() {
                Some(known) => known,
                None => match self.parts.store.get(&key::host(id)).await? {
                    Some(found) => (found.value, found.modified),
                    None => return Ok(false), // removed; its stream is about to end
                },
            };
            if host.facts == facts {
                return Ok(false);
            }
            let changed = Host { facts: facts.clone(), ..host };
            match self.parts.store.replace(&key::host(id), &changed, revision).await {
                Ok(_) => return Ok(true),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key: key::host(id).to_string() })
    }

    /// Writes a status if it differs and its membership lives; says whether anything was written.
    async fn write_status(
        &self,
        network: &NetworkId,
        host: &HostId,
        status: &MembershipStatus,
    ) -> Result<bool, StoreError> {
        if self.view().status(network, host) == Some(status) {
            return Ok(false);
        }
        let written = self
            .parts
            .store
            .transaction()
            .exists(&key::membership(network, host))
            .put(&key::status(network, host), status)
            .commit()
            .await;
        match written {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict { .. }) => {
                debug!(%network, "status of a membership that is gone");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves out the endpoints that no host may advertise: agents send packets to what they are told.
    pub(super) fn admissible(&self, mut facts: HostFacts) -> HostFacts {
        let overlays = self.view().address_spaces();
        let (kept, refused) = cladnet_model::endpoint::advertisable(&facts.endpoints, &overlays);
        for (endpoint, fault) in refused {
            debug!(address = %endpoint.address, %fault, "endpoint not advertised");
        }
        facts.endpoints = kept;
        facts
    }
}
