//! Metering: what passed is read twice a second, saved, and reported to the service until it says that it is counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cladnet_model::{HostId, NetworkId, Scope};
use cladnet_proto::cladnet::v1::{self as wire, UsageReport};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tokio::{
    task::block_in_place,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::{Agent, membership::Membership};
use crate::{
    control::protocol::ServiceStatus,
    failure::chain,
    state::StateDir,
    usage::{Batch, Bytes, Ledger, Meter, flows},
};

/// A `kill -9` loses what passed since the last look, and what was being written then: with this less than a second, unless the
/// disk takes half of one to write.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// Between two reports, when there is something to tell.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Between two reports of less than [`SMALL`]: what keeps sessions alive need not be told at once.
const REPORT_SMALL_EVERY: Duration = Duration::from_secs(60);
const SMALL: u64 = 1 << 20;
/// For the service to count what a network that is left has carried, or all of them before the daemon ends.
const SETTLE: Duration = Duration::from_secs(3);

/// What is metered and not counted yet.
#[derive(Debug, Default)]
pub(super) struct Metering {
    meter: Meter,
    ledger: Ledger,
    /// What the service of this stream has counted; none before it said so, or if it counts nothing.
    taken: Option<u64>,
    reported_at: Option<Instant>,
    /// The disk does not take it: said once.
    is_failing: bool,
}

impl Metering {
    pub(super) fn load(state: &StateDir) -> Self {
        let (days, errors) = state.usage().unwrap_or_else(|error| (Vec::new(), vec![error]));
        for error in errors {
            warn!(error = chain(&error), "bytes that were not counted yet cannot be read and are missing in the bill");
        }
        Self { ledger: Ledger::restored(days), ..Self::default() }
    }

    fn save(&mut self, state: &StateDir) {
        let mut saved = Vec::new();
        let mut failure = None;
        for (day, kept) in self.ledger.unsaved() {
            match kept.map_or_else(|| state.forget_usage(day), |kept| state.save_usage(kept)) {
                Ok(()) => saved.push(day),
                Err(error) => failure = Some(error),
            }
        }
        saved.into_iter().for_each(|day| self.ledger.saved(day));
        if let Some(error) = &failure
            && !self.is_failing
        {
            warn!(error = chain(error), "metered bytes not saved; a restart would lose them");
        }
        self.is_failing = failure.is_some();
    }

    /// Makes a report if it is time for one.
    fn make_report(&mut self, now: Instant) {
        let Some(taken) = self.taken else { return };
        if self.ledger.reported().is_some() {
            return;
        }
        let wait = match self.ledger.waiting() {
            0 => return,
            1..SMALL => REPORT_SMALL_EVERY,
            _ => REPORT_EVERY,
        };
        if self.reported_at.is_none_or(|at| now.saturating_duration_since(at) >= wait) {
            self.reported_at = Some(now);
            self.ledger.report(taken);
        }
    }

    /// Makes a report of what waits longest, due or not.
    fn make_report_now(&mut self) {
        if let Some(taken) = self.taken
            && self.ledger.reported().is_none()
        {
            self.ledger.report(taken);
        }
    }

    /// What the service is to be told now.
    fn report(&self) -> Option<UsageReport> {
        let (day, batch) =
            self.ledger.reported().filter(|(day, _)| self.taken.is_some() && self.ledger.is_saved(*day))?;
        Some(to_wire(day, batch))
    }
}

impl Agent {
    pub(super) async fn keep_usage(self: Arc<Self>) {
        let mut tick = interval(SAVE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            {
                let core = self.core.lock().await;
                for membership in core.memberships.values() {
                    self.read_meter(membership).await;
                }
            }
            self.metering().make_report(Instant::now());
            self.save_usage();
            self.publish_usage();
        }
    }

    /// Reads the counters of a membership's peers: to be called before they go as well.
    pub(super) async fn read_meter(&self, membership: &Membership) {
        if !membership.running {
            return;
        }
        let stats = self.device.peer_stats(&membership.record.interface).await;
        let configuration = membership.configuration.as_ref();
        let mut metering = self.metering();
        let passed = metering.meter.read(&membership.record.network, &stats, |key| {
            let mut remotes = configuration?.remotes().values();
            remotes.find(|remote| remote.public_key.0 == *key.as_bytes()).map(|remote| remote.host.clone())
        });
        if let Some(day) = metering.ledger.add(today(), passed) {
            warn!(%day, "the service could not be told for too long; the oldest day is missing in the bill");
        }
    }

    /// What waits is reported with the next look.
    pub(super) fn report_soon(&self) {
        self.metering().reported_at = None;
    }

    /// Reports what these networks have carried and waits until the service has counted it; says whether it has. They must be
    /// down, or there is no end of it. One at a time: whoever calls holds `changing`.
    pub(super) async fn settle_usage(&self, networks: &[NetworkId]) -> bool {
        let is_counted = || networks.iter().all(|network| self.metering().ledger.is_counted(network));
        let settling = async {
            while !is_counted() {
                self.metering().make_report_now();
                self.save_usage();
                self.publish_usage();
                self.counted.notified().await;
            }
        };
        let is_linked = matches!(self.core.lock().await.link, ServiceStatus::Connected { .. });
        if is_linked { timeout(SETTLE, settling).await.is_ok() } else { is_counted() }
    }

    /// Reports what was carried until now, because a machine that goes down may never come up again, and waits a while until the
    /// service has counted it. What passes meanwhile is for the next start to report. [`Agent::keep_usage`] has to be over, or
    /// there is no end of it.
    pub(super) async fn report_at_the_end(&self) {
        let settling = async {
            let _one_at_a_time = self.changing.lock().await;
            let networks: Vec<_> = {
                let core = self.core.lock().await;
                for membership in core.memberships.values() {
                    self.read_meter(membership).await;
                }
                core.memberships.keys().cloned().collect()
            };
            self.settle_usage(&networks).await
        };
        if timeout(SETTLE, settling).await.unwrap_or(false) {
            info!("the service has counted what was carried");
        } else {
            info!("what the service has not counted is left for the next start to report");
        }
    }

    pub(super) fn save_usage(&self) {
        block_in_place(|| self.metering().save(&self.state));
    }

    /// The service says what it has counted.
    pub(super) fn usage_taken(&self, sequence: u64) {
        {
            let mut metering = self.metering();
            metering.taken = Some(sequence);
            metering.ledger.taken(sequence);
        }
        self.counted.notify_one();
        self.publish_usage();
    }

    /// The stream is over; the next one's service may count nothing.
    pub(super) fn stop_reporting(&self) {
        self.metering().taken = None;
        self.publish_usage();
    }

    /// This host is no host any more: what it sent is nobody's.
    pub(super) fn forget_usage(&self) {
        *self.metering() = Metering::default();
    }

    fn publish_usage(&self) {
        let report = self.metering().report();
        self.usage.send_if_modified(|published| {
            let is_new = *published != report;
            *published = report;
            is_new
        });
    }

    fn metering(&self) -> std::sync::MutexGuard<'_, Metering> {
        self.metering.lock().expect("no holder of this lock panics")
    }
}

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

fn to_wire(day: Date, batch: &Batch) -> UsageReport {
    let usage = |(network, host, scope, bytes): (&NetworkId, &HostId, Scope, Bytes)| wire::Usage {
        network_id: network.to_string(),
        host_id: host.to_string(),
        scope: scope.to_string(),
        sent_bytes: bytes.sent,
        received_bytes: bytes.received,
        clear_sent_bytes: bytes.clear_sent,
        clear_received_bytes: bytes.clear_received,
    };
    UsageReport { sequence: batch.sequence, day: day.to_string(), usages: flows(&batch.flows).map(usage).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Flow;

    fn metering() -> Metering {
        let flow = Flow { network: "prod".parse().unwrap(), host: "host-b".parse().unwrap(), scope: Scope::Private };
        let mut metering = Metering::default();
        metering.ledger.add(today(), [(flow, Bytes { sent: SMALL, clear_sent: 7, ..Bytes::default() })]);
        metering
    }

    #[test]
    fn nothing_is_reported_to_a_service_that_counts_nothing_nor_before_it_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut metering = metering();
        metering.make_report(Instant::now());
        metering.save(&state);
        assert_eq!(metering.report(), None);
        metering.taken = Some(7);
        metering.make_report(Instant::now());
        assert_eq!(metering.report(), None);
        metering.save(&state);
        let report = metering.report().unwrap();
        assert_eq!((report.sequence, report.usages[0].sent_bytes, report.usages[0].clear_sent_bytes), (8, SMALL, 7));

        // A restart before the answer: the same report again, whatever has passed since.
        let mut restarted = Metering::load(&state);
        restarted.taken = Some(7);
        restarted.ledger.add(today(), []);
        restarted.make_report(Instant::now());
        assert_eq!(restarted.report(), Some(report));
        restarted.ledger.taken(8);
        restarted.save(&state);
        assert_eq!(Metering::load(&state).ledger.waiting(), 0);
        assert!(state.usage().unwrap().0.is_empty());
    }

    #[test]
    fn reports_keep_their_distance_and_little_waits_longer() {
        let (mut metering, now) = (metering(), Instant::now());
        metering.taken = Some(0);
        metering.reported_at = Some(now);
        metering.make_report(now + REPORT_EVERY / 2);
        assert!(metering.ledger.reported().is_none());
        metering.make_report(now + REPORT_EVERY);
        assert!(metering.ledger.reported().is_some());
    }
}
