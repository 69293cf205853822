//! What waits to be counted by the service, day by day. What is to be reported is frozen under a sequence first and sent
//! unchanged until the service says that it has it: so a crash on either side loses nothing and counts nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use cladnet_model::{HostId, NetworkId, Scope};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Bytes, Flow};

/// Days that are kept while the service cannot be told; then the oldest goes. With its peers, that bounds what is kept.
pub(crate) const MAX_DAYS: usize = 62;

/// Flows of one report: it must fit into a message, whatever the names.
const MAX_FLOWS: usize = 500;

/// Bytes of flows.
pub(crate) type Flows = BTreeMap<NetworkId, BTreeMap<HostId, BTreeMap<Scope, Bytes>>>;

/// One day, as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Day {
    pub day: Date,
    /// In no report yet.
    pub waiting: Flows,
    /// Reported, and perhaps counted.
    pub reported: Option<Batch>,
}

/// What one report holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub sequence: u64,
    pub flows: Flows,
}

/// All days that have something to be counted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    days: BTreeMap<Date, Day>,
    /// Days that are not on disk as they are here.
    unsaved: BTreeSet<Date>,
}

impl Ledger {
    /// As it was saved.
    pub(crate) fn restored(days: impl IntoIterator<Item = Day>) -> Self {
        Self { days: days.into_iter().map(|day| (day.day, day)).collect(), unsaved: BTreeSet::new() }
    }

    /// Adds what passed; says which day had to go for it.
    pub(crate) fn add(&mut self, day: Date, passed: impl IntoIterator<Item = (Flow, Bytes)>) -> Option<Date> {
        let mut passed = passed.into_iter().peekable();
        passed.peek()?;
        let kept = self.days.entry(day).or_insert_with(|| Day { day, waiting: Flows::new(), reported: None });
        for (flow, bytes) in passed {
            *slot(&mut kept.waiting, flow) += bytes;
        }
        self.unsaved.insert(day);
        let oldest = (self.days.len() > MAX_DAYS).then(|| self.days.pop_first()).flatten()?;
        self.unsaved.insert(oldest.0);
        Some(oldest.0)
    }

    /// The service has counted every report up to this one.
    pub(crate) fn taken(&mut self, sequence: u64) {
        for day in self.days.values_mut() {
            if day.reported.take_if(|batch| batch.sequence <= sequence).is_some() {
                self.unsaved.insert(day.day);
            }
        }
        self.days.retain(|_, day| day.reported.is_some() || !day.waiting.is_empty());
    }

    /// The report that may not be counted yet: no other is to be sent before it is.
    pub(crate) fn reported(&self) -> Option<(Date, &Batch)> {
        let reported = self.days.values().filter_map(|day| Some((day.day, day.reported.as_ref()?)));
        reported.min_by_key(|(_, batch)| batch.sequence)
    }

    /// Makes a report of what waits longest, above every sequence there was; `taken` is the last one that was counted.
    pub(crate) fn report(&mut self, taken: u64) {
        let highest = self.days.values().filter_map(|day| Some(day.reported.as_ref()?.sequence)).fold(taken, u64::max);
        let waiting = |day: &&mut Day| day.reported.is_none() && !day.waiting.is_empty();
        let Some(day) = self.days.values_mut().find(waiting) else { return };
        day.reported = Some(Batch { sequence: highest + 1, flows: first(&mut day.waiting) });
        self.unsaved.insert(day.day);
    }

    /// Whether the service has counted all of a network.
    pub(crate) fn is_counted(&self, network: &NetworkId) -> bool {
        self.days.values().all(|day| {
            let reported = day.reported.as_ref().map(|batch| &batch.flows);
            !std::iter::once(&day.waiting).chain(reported).any(|flows| flows.contains_key(network))
        })
    }

    /// Bytes in no report yet.
    pub(crate) fn waiting(&self) -> u64 {
        let flows = self.days.values().flat_map(|day| flows(&day.waiting));
        flows.fold(0, |sum, (_, _, _, bytes)| sum.saturating_add(bytes.total()))
    }

    /// Days that are to be written, or removed if there is nothing of them any more.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = (Date, Option<&Day>)> {
        self.unsaved.iter().map(|day| (*day, self.days.get(day)))
    }

    /// A day is on disk as it is here.
    pub(crate) fn saved(&mut self, day: Date) {
        self.unsaved.remove(&day);
    }

    /// Whether what is reported can be sent: it is on disk.
    pub(crate) fn is_saved(&self, day: Date) -> bool {
        !self.unsaved.contains(&day)
    }
}

/// Every flow of these.
pub(crate) fn flows(flows: &Flows) -> impl Iterator<Item = (&NetworkId, &HostId, Scope, Bytes)> {
    flows.iter().flat_map(|(network, hosts)| {
        let scopes =
            hosts.iter().flat_map(|(host, scopes)| scopes.iter().map(move |(scope, bytes)| (host, scope, bytes)));
        scopes.map(move |(host, scope, bytes)| (network, host, *scope, *bytes))
    })
}

fn slot(flows: &mut Flows, Flow { network, host, scope }: Flow) -> &mut Bytes {
    flows.entry(network).or_default().entry(host).or_default().entry(scope).or_default()
}

/// Takes as many flows out as one report holds.
fn first(waiting: &mut Flows) -> Flows {
    let all: Vec<_> = std::mem::take(waiting)
        .into_iter()
        .flat_map(|(network, hosts)| hosts.into_iter().map(move |(host, scopes)| (network.clone(), host, scopes)))
        .flat_map(|(network, host, scopes)| {
            scopes
                .into_iter()
                .map(move |(scope, bytes)| (Flow { network: network.clone(), host: host.clone(), scope }, bytes))
        })
        .collect();
    let mut taken = Flows::new();
    for (number, (flow, bytes)) in all.into_iter().enumerate() {
        let side = if number < MAX_FLOWS { &mut taken } else { &mut *waiting };
        *slot(side, flow) += bytes;
    }
    taken
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;
    use proptest::prelude::*;

    use super::*;

    fn day(number: i8) -> Date {
        Date::new(2026, 1, number).unwrap()
    }

    fn sent(peer: &str, sent: u64) -> (Flow, Bytes) {
        let flow = Flow { network: "prod".parse().unwrap(), host: peer.parse().unwrap(), scope: Scope::Public };
        (flow, Bytes { sent, ..Bytes::default() })
    }

    fn total(flows_: &Flows) -> u64 {
        flows(flows_).map(|(_, _, _, bytes)| bytes.sent).sum()
    }

    #[test]
    fn a_report_stays_as_it_is_until_it_is_taken() {
        let mut ledger = Ledger::default();
        ledger.add(day(1), [sent("b", 5), sent("c", 7)]);
        ledger.report(40);
        ledger.add(day(1), [sent("b", 100)]);
        let (_, batch) = ledger.reported().unwrap();
        assert_eq!((batch.sequence, total(&batch.flows), ledger.waiting()), (41, 12, 100));
        assert!(!ledger.is_counted(&"prod".parse().unwrap()) && ledger.is_counted(&"other".parse().unwrap()));
        ledger.report(40);
        assert_eq!(total(&ledger.reported().unwrap().1.flows), 12, "one at a time of a day");
        ledger.taken(41);
        assert!(ledger.reported().is_none());
        ledger.report(41);
        assert_eq!(ledger.reported().unwrap().1.sequence, 42);
        ledger.taken(50);
        assert!(ledger.is_counted(&"prod".parse().unwrap()));
        assert_eq!(ledger.unsaved().collect::<Vec<_>>(), [(day(1), None)], "nothing is left of that day");
    }

    #[test]
    fn old_days_go_before_new_ones_and_a_year_without_the_service_keeps_two_months() {
        let mut ledger = Ledger::default();
        let mut gone = 0;
        for number in 0..365 {
            gone += usize::from(ledger.add(day(1) + number.days(), [sent("b", 1)]).is_some());
        }
        assert_eq!((gone, ledger.waiting()), (365 - MAX_DAYS, MAX_DAYS as u64));
        ledger.report(0);
        assert_eq!(ledger.reported().unwrap().0, day(1) + 303.days());
    }

    #[test]
    fn a_report_of_many_flows_goes_in_pieces() {
        let mut ledger = Ledger::default();
        ledger.add(day(1), (0..MAX_FLOWS + 5).map(|number| sent(&format!("host-{number}"), 1)));
        ledger.report(0);
        assert_eq!((total(&ledger.reported().unwrap().1.flows), ledger.waiting()), (MAX_FLOWS as u64, 5));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pass(i8, u64),
        Report,
        /// The service takes what is reported.
        Count,
        /// Its word of it arrives.
        Hear,
        /// The agent is killed, and comes back with what was saved.
        Crash,
        Save,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..4i8, 1..100u64).prop_map(|(day, bytes)| Step::Pass(day, bytes)),
            Just(Step::Report),
            Just(Step::Count),
            Just(Step::Hear),
            Just(Step::Crash),
            Just(Step::Save),
        ]
    }

    /// A disk and a service, as the agent meets them.
    #[derive(Default)]
    struct Outside {
        disk: BTreeMap<Date, Day>,
        taken: u64,
        counted: u64,
    }

    impl Outside {
        fn save(&mut self, ledger: &mut Ledger) {
            let unsaved: Vec<_> = ledger.unsaved().map(|(day, kept)| (day, kept.cloned())).collect();
            for (day, kept) in unsaved {
                match kept {
                    Some(kept) => drop(self.disk.insert(day, kept)),
                    None => drop(self.disk.remove(&day)),
                }
                ledger.saved(day);
            }
        }

        fn count(&mut self, ledger: &Ledger) {
            if let Some((day, batch)) = ledger.reported()
                && ledger.is_saved(day)
                && batch.sequence > self.taken
            {
                self.taken = batch.sequence;
                self.counted += total(&batch.flows);
            }
        }

        fn saved(&self) -> u64 {
            let reported = self.disk.values().filter_map(|day| day.reported.as_ref());
            let uncounted = reported.filter(|batch| batch.sequence > self.taken).map(|batch| total(&batch.flows));
            self.disk.values().map(|day| total(&day.waiting)).sum::<u64>() + uncounted.sum::<u64>()
        }
    }

    proptest! {
        #[test]
        fn crashes_lose_what_was_not_saved_and_nothing_counts_twice(steps in proptest::collection::vec(step(), 1..60)) {
            let (mut ledger, mut outside) = (Ledger::default(), Outside::default());
            let mut passed = 0;
            for step in steps {
                match step {
                    Step::Pass(number, bytes) => {
                        ledger.add(day(number), [sent("b", bytes)]);
                        passed += bytes;
                    }
                    Step::Report if ledger.reported().is_none() => ledger.report(outside.taken),
                    Step::Report => {}
                    Step::Count => outside.count(&ledger),
                    Step::Hear => ledger.taken(outside.taken),
                    Step::Save => outside.save(&mut ledger),
                    Step::Crash => {
                        passed = outside.counted + outside.saved();
                        ledger = Ledger::restored(outside.disk.values().cloned());
                        ledger.taken(outside.taken);
                    }
                }
            }
            for _ in 0..20 {
                outside.save(&mut ledger);
                outside.count(&ledger);
                ledger.taken(outside.taken);
                ledger.report(outside.taken);
            }
            prop_assert_eq!(outside.counted, passed);
        }
    }
}
