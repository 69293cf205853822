//! Counting what agents report of the bytes they exchanged: each report once, whatever crashes or is repeated, because the
//! transaction that adds it moves the host's cursor. Kept by place, so that it grows with hosts and days, never with pairs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use cladnet_model::{Exchanged, HostId, HostUsage, NetworkId, Place, Scope, UsageCursor, usage::oldest_kept};
use cladnet_proto::{
    cladnet::v1::{Usage, UsageReport},
    convert::{self, FieldError},
};
use cladnet_store::{Store, StoreError, Transaction, Versioned, key};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{Shared, enrol::MAX_MEMBERSHIPS};
use crate::Clock;

/// Between two reports of one stream: an agent sends one in ten seconds.
const PAUSE: Duration = Duration::from_secs(1);
/// Tries against another replica that counts the same report at the same moment.
const ATTEMPTS: usize = 8;
/// Flows of one report that are read.
const MAX_FLOWS: usize = 2_000;
/// Networks of one report that are read: those of the host, and those it left just before.
const MAX_NETWORKS: usize = 2 * MAX_MEMBERSHIPS;
/// An agent's clock may be ahead by a day.
const AHEAD: i32 = 1;

/// Mean time between two looks for days that are over.
const TRIM_EVERY: Duration = Duration::from_secs(3_600);
/// Days before those that are kept which may have something left: a month at its end, and what no replica ran for.
const TRIMMED_DAYS: i32 = 62;
/// Deletions in one transaction.
const BATCH: usize = 100;

/// The reports of one stream, on their way into the store.
#[derive(Debug)]
pub(super) struct Usages {
    desk: Arc<Desk>,
    taken: watch::Receiver<Option<u64>>,
    writer: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Desk {
    /// The newest; an agent sends no other before this one is counted.
    report: Mutex<Option<UsageReport>>,
    arrived: Notify,
}

impl Usages {
    pub(super) fn start(shared: Arc<Shared>, host: HostId) -> Self {
        let desk = Arc::new(Desk::default());
        let (told, taken) = watch::channel(None);
        let writer = tokio::spawn(count(shared, host, desk.clone(), told));
        Self { desk, taken, writer: AbortOnDropHandle::new(writer) }
    }

    pub(super) fn report(&self, report: UsageReport) {
        *self.desk.report.lock().expect("no holder of this lock panics") = Some(report);
        self.desk.arrived.notify_one();
    }

    /// Waits until there is something new to tell the agent: up to which report all is counted. Nothing, once nothing is
    /// counted any more: only a panic ends the writer early.
    pub(super) async fn taken(&mut self) -> Option<u64> {
        loop {
            tokio::select! {
                changed = self.taken.changed() => changed.ok()?,
                _ = &mut self.writer => return None,
            }
            if let Some(sequence) = *self.taken.borrow_and_update() {
                return Some(sequence);
            }
        }
    }
}

async fn count(shared: Arc<Shared>, host: HostId, desk: Arc<Desk>, told: watch::Sender<Option<u64>>) {
    loop {
        let report = desk.report.lock().expect("no holder of this lock panics").clone();
        match shared.count_usage(&host, report.as_ref()).await {
            Ok(sequence) => {
                told.send_if_modified(|told| {
                    let is_new = *told != Some(sequence);
                    *told = Some(sequence);
                    is_new
                });
                desk.arrived.notified().await;
            }
            Err(error) => warn!(%error, "usage of an agent not counted; trying again"),
        }
        sleep(PAUSE).await;
    }
}

/// A report as it is counted.
struct Counted {
    day: Date,
    flows: BTreeMap<NetworkId, Vec<(HostId, Scope, Exchanged)>>,
}

impl Counted {
    fn read(report: &UsageReport) -> Result<Self, FieldError> {
        let mut flows: BTreeMap<NetworkId, Vec<_>> = BTreeMap::new();
        for usage in report.usages.iter().take(MAX_FLOWS) {
            let Usage { network_id, host_id, scope, sent_bytes, received_bytes, .. } = usage;
            let bytes = Exchanged {
                sent: *sent_bytes,
                received: *received_bytes,
                clear_sent: usage.clear_sent_bytes,
                clear_received: usage.clear_received_bytes,
            };
            let flow = (convert::required("host_id", host_id)?, convert::required("scope", scope)?, bytes);
            flows.entry(convert::required("network_id", network_id)?).or_default().push(flow);
        }
        Ok(Self { day: convert::required("day", &report.day)?, flows })
    }
}

impl Shared {
    /// Counts a report unless that was done, and says up to which sequence all is counted. What makes no sense is counted
    /// as nothing, or the agent would repeat it for ever.
    async fn count_usage(&self, host: &HostId, report: Option<&UsageReport>) -> Result<u64, StoreError> {
        let cursor_key = key::usage_cursor(host);
        for _ in 0..ATTEMPTS {
            let cursor = self.parts.store.get(&cursor_key).await?;
            let taken = cursor.as_ref().map_or(0, |cursor| cursor.value.sequence);
            let Some(report) = report.filter(|report| report.sequence > taken) else { return Ok(taken) };
            let transaction =
                with(self.parts.store.transaction().exists(&key::host(host)), &cursor_key, cursor.as_ref());
            let transaction = transaction.put(&cursor_key, &UsageCursor { sequence: report.sequence });
            let added = match Counted::read(report) {
                Ok(counted) => self.add_usage(transaction, host, counted).await?,
                Err(error) => {
                    warn!(%host, %error, "usage of an agent makes no sense; it is missing in the bill");
                    transaction
                }
            };
            match added.commit().await {
                Ok(_) => return Ok(report.sequence),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { key: cursor_key.to_string() })
    }

    async fn add_usage(
        &self,
        mut transaction: Transaction,
        host: &HostId,
        counted: Counted,
    ) -> Result<Transaction, StoreError> {
        let today = day(self.parts.clock.now());
        if counted.day < oldest_kept(today) || counted.day > today + AHEAD.days() {
            warn!(%host, day = %counted.day, %today, "usage of a day that is not kept; it is missing in the bill");
            return Ok(transaction);
        }
        for (network, flows) in counted.flows.into_iter().take(MAX_NETWORKS) {
            let key = key::usage(counted.day, &network, host);
            let found = self.parts.store.get(&key).await?;
            if found.is_none() && !self.has_member(&network, host) {
                debug!(%host, %network, "usage of a network that the host is not in");
                continue;
            }
            let mut usage = found.as_ref().map(|found| found.value.clone());
            let usage = usage.get_or_insert_with(|| HostUsage::new(network.clone(), host.clone(), counted.day));
            for (peer, scope, bytes) in flows {
                let (own, place) = (self.place(host), self.place(&peer));
                if self.is_plain(&network, &peer) {
                    usage.add_plain(&peer, &own, &place, scope, bytes);
                } else {
                    usage.add(&own, &place, scope, bytes);
                }
            }
            transaction = with(transaction, &key, found.as_ref()).put(&key, usage);
        }
        Ok(transaction)
    }

    fn has_member(&self, network: &NetworkId, host: &HostId) -> bool {
        self.view().network(network).is_some_and(|state| state.membership(host).is_some())
    }

    /// Whether nobody counts for this peer but those that it speaks with.
    fn is_plain(&self, network: &NetworkId, host: &HostId) -> bool {
        let view = self.view();
        let membership = view.network(network).and_then(|state| state.membership(host));
        membership.is_some_and(|membership| membership.plain)
    }

    /// Where a host stands now; unknown, if there is no such host any more.
    fn place(&self, host: &HostId) -> Place {
        self.view().host(host).map(|(record, _)| Place::of(&record.location())).unwrap_or_default()
    }
}

/// Only if the record is as it was found.
fn with<T>(transaction: Transaction, key: &cladnet_store::Key<T>, found: Option<&Versioned<T>>) -> Transaction {
    match found {
        Some(found) => transaction.unchanged(key, found.modified),
        None => transaction.absent(key),
    }
}

/// The UTC day of a moment.
pub(crate) fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Forgets days that are not kept any more until the replica stops.
pub(crate) async fn trim_for_ever(store: &Store, clock: &Clock) {
    loop {
        sleep(TRIM_EVERY.mul_f64(rand::random_range(0.5..1.5))).await;
        if let Err(error) = trim(store, day(clock.now())).await {
            warn!(error = &error as &dyn std::error::Error, "old usage not removed");
        }
    }
}

async fn trim(store: &Store, today: Date) -> Result<(), StoreError> {
    let oldest = oldest_kept(today);
    for past in 1..=TRIMMED_DAYS {
        let usages = store.list(&key::usages(oldest - past.days())).await?.items;
        for batch in usages.chunks(BATCH) {
            let deletions = batch.iter().fold(store.transaction(), |transaction, usage| transaction.delete(&usage.key));
            deletions.commit().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
