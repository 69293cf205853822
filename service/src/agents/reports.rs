//! What agents report, on its way into the store: only what differs from what is there, the newest only, and at most
//! once a second per host, because everybody in its networks is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use cladnet_model::{Host, HostFacts, HostId, MembershipStatus, NetworkId};
use cladnet_store::{Revision, StoreError, key};
use tokio::{sync::Notify, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{trace, warn};

use super::{Shared, view::View};

/// Between two writes for one host.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries against somebody who changes the host's record at the same moment.
const ATTEMPTS: usize = 8;

/// What the agent of one stream reported last. Level-triggered: what is in the store is compared with it when either
/// changes, so a late write of an earlier stream is put right as well.
#[derive(Debug)]
pub(super) struct Reports {
    desk: Arc<Desk>,
    writer: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Desk {
    host: HostId,
    reported: Mutex<Reported>,
    changed: Notify,
}

#[derive(Debug, Clone, Default)]
struct Reported {
    facts: Option<HostFacts>,
    statuses: BTreeMap<NetworkId, MembershipStatus>,
}

impl Reports {
    /// For one stream of one host.
    pub(super) fn start(shared: Arc<Shared>, host: HostId) -> Self {
        let desk = Arc::new(Desk { host, reported: Mutex::default(), changed: Notify::new() });
        let writer = tokio::spawn(write(shared, desk.clone()));
        Self { desk, writer: AbortOnDropHandle::new(writer) }
    }

    /// Waits until nothing is written any more, which no stream may outlive: only a panic ends the writer early.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.writer).await;
    }

    pub(super) fn facts(&self, facts: HostFacts) {
        self.desk.lock().facts = Some(facts);
        self.desk.changed.notify_one();
    }

    /// Of a membership that the host has; so there are never more than a few.
    pub(super) fn status(&self, network: NetworkId, status: MembershipStatus) {
        self.desk.lock().statuses.insert(network, status);
        self.desk.changed.notify_one();
    }

    /// The store's side may have changed.
    pub(super) fn compare(&self, view: &View) {
        if self.desk.lock().differs(&self.desk.host, view) {
            self.desk.changed.notify_one();
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Reported> {
        self.reported.lock().expect("no holder of this lock panics")
    }
}

impl Reported {
    fn differs(&self, host: &HostId, view: &View) -> bool {
        self.facts.as_ref().is_some_and(|facts| has_other_facts(host, view, facts))
            || self.statuses.iter().any(|(network, status)| view.status(network, host) != Some(status))
    }
}

fn has_other_facts(host: &HostId, view: &View, facts: &HostFacts) -> bool {
    view.host(host).is_none_or(|(record, _)| record.facts != admissible(view, facts.clone()))
}

async fn write(shared: Arc<Shared>, desk: Arc<Desk>) {
    // Before the view shows our own last write, it says nothing of what is in the store.
    let mut last = Revision::ZERO;
    loop {
        desk.changed.notified().await;
        let reported = desk.lock().clone();
        match shared.write_report(&desk, &reported, last).await {
            Ok(None) => {}
            Ok(Some(written)) => {
                last = written;
                sleep(PAUSE).await;
            }
            Err(error) => {
                warn!(%error, "report of an agent not written; trying again");
                desk.changed.notify_one();
                sleep(PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// Writes what differs from the store; says at which revision it wrote last, if it wrote.
    async fn write_report(
        &self,
        desk: &Desk,
        reported: &Reported,
        last: Revision,
    ) -> Result<Option<Revision>, StoreError> {
        let is_fresh = self.view().revision() >= Some(last.get());
        let mut written = None;
        if let Some(facts) = &reported.facts
            && (!is_fresh || has_other_facts(&desk.host, &self.view(), facts))
        {
            written = self.write_facts(&desk.host, facts, is_fresh).await?;
        }
        for (network, status) in &reported.statuses {
            if is_fresh && self.view().status(network, &desk.host) == Some(status) {
                continue;
            }
            match self.write_status(network, &desk.host, status).await? {
                Some(revision) => written = Some(revision),
                None => {
                    // The membership is gone. What was tried in vain is followed by a pause as well.
                    desk.lock().statuses.remove(network);
                    written = written.or(Some(last));
                }
            }
        }
        Ok(written)
    }

    /// Writes a host's facts if they differ. A fresh view saves the read; the compare-and-swap finds out when it was not
    /// as fresh as that.
    async fn write_facts(
        &self,
        id: &HostId,
        facts: &HostFacts,
        is_fresh: bool,
    ) -> Result<Option<Revision>, StoreError> {
        let facts = admissible(&self.view(), facts.clone());
        let mut known: Option<(Host, Revision)> = self.view().host(id).filter(|_| is_fresh).cloned();
        for _ in 0..ATTEMPTS {
            let (host, revision) = match known.take() {
                Some(known) => known,
                None => match self.parts.store.get(&key::host(id)).await? {
                    Some(found) => (found.value, found.modified),
                    None => return Ok(None), // removed; its stream is about to end
                },
            };
            if host.facts == facts {
                return Ok(None);
            }
            let changed = Host { facts: facts.clone(), ..host };
            match self.parts.store.replace(&key::host(id), &changed, revision).await {
                Ok(written) => return Ok(Some(written)),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key: key::host(id).to_string() })
    }

    /// Writes a status if its membership lives.
    async fn write_status(
        &self,
        network: &NetworkId,
        host: &HostId,
        status: &MembershipStatus,
    ) -> Result<Option<Revision>, StoreError> {
        let written = self
            .parts
            .store
            .transaction()
            .exists(&key::membership(network, host))
            .put(&key::status(network, host), status)
            .commit()
            .await;
        match written {
            Ok(revision) => Ok(Some(revision)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Leaves out the endpoints that no host may advertise: agents send packets to what they are told.
pub(super) fn admissible(view: &View, mut facts: HostFacts) -> HostFacts {
    let (kept, refused) = cladnet_model::endpoint::advertisable(&facts.endpoints, &view.address_spaces());
    for (endpoint, fault) in refused {
        trace!(address = %endpoint.address, %fault, "endpoint not advertised");
    }
    facts.endpoints = kept;
    facts
}
