//! What the leader has to look at, and when: networks that something happened to, those whose next quarantine ends, those
//! where a write failed, and all of them once in a while. Pure: time is a parameter.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cladnet_model::NetworkId;
use jiff::Timestamp;

/// Everything is looked at so often even if nothing happens.
const TICK: Duration = Duration::from_secs(60);

/// First and longest pause before a network whose writes failed is looked at again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

#[derive(Debug)]
pub(crate) struct Agenda {
    due: BTreeSet<NetworkId>,
    later: BTreeMap<NetworkId, Timestamp>,
    failures: BTreeMap<NetworkId, u32>,
    next_tick: Timestamp,
}

impl Agenda {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { due: BTreeSet::new(), later: BTreeMap::new(), failures: BTreeMap::new(), next_tick: now + TICK }
    }

    /// Something happened to these networks.
    pub(crate) fn add(&mut self, networks: BTreeSet<NetworkId>) {
        self.due.extend(networks);
    }

    /// A network is as planned; until `wake_at` nothing changes by itself.
    pub(crate) fn settled(&mut self, network: &NetworkId, wake_at: Option<Timestamp>) {
        self.failures.remove(network);
        match wake_at {
            Some(at) => drop(self.later.insert(network.clone(), at)),
            None => drop(self.later.remove(network)),
        }
    }

    /// A network could not be brought to its plan: look again, each time a little later.
    pub(crate) fn failed(&mut self, network: &NetworkId, now: Timestamp) {
        let failures = self.failures.entry(network.clone()).or_default();
        let pause = PAUSE.0.saturating_mul(1 << (*failures).min(10)).min(PAUSE.1);
        *failures += 1;
        self.later.insert(network.clone(), now + pause);
    }

    /// Takes what is to be looked at now; `all` is taken once in a while.
    pub(crate) fn take<'a>(&mut self, now: Timestamp, all: impl Iterator<Item = &'a NetworkId>) -> BTreeSet<NetworkId> {
        let mut due = std::mem::take(&mut self.due);
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            due.extend(all.cloned());
        }
        due.extend(self.later.iter().filter(|(_, at)| **at <= now).map(|(network, _)| network.clone()));
        self.later.retain(|network, _| !due.contains(network));
        due
    }

    /// How long there is nothing to do unless something happens. Never longer than a tick, whatever the clock does.
    pub(crate) fn idle_time(&self, now: Timestamp) -> Duration {
        let next = self.later.values().copied().min().map_or(self.next_tick, |later| later.min(self.next_tick));
        Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO).min(TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NetworkId {
        text.parse().unwrap()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn taken(agenda: &mut Agenda, now: Timestamp) -> Vec<String> {
        agenda.take(now, [id("a"), id("b")].iter()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_happened_is_due_once_and_everything_is_due_on_the_tick() {
        let mut agenda = Agenda::new(at(0));
        agenda.add([id("b")].into());
        assert_eq!(taken(&mut agenda, at(1)), ["b"]);
        assert!(taken(&mut agenda, at(2)).is_empty());
        assert_eq!(agenda.idle_time(at(2)), Duration::from_secs(58));
        assert_eq!(taken(&mut agenda, at(60)), ["a", "b"]);
    }

    #[test]
    fn a_quarantine_is_looked_at_when_it_ends() {
        let mut agenda = Agenda::new(at(0));
        agenda.settled(&id("a"), Some(at(30)));
        assert_eq!(agenda.idle_time(at(10)), Duration::from_secs(20));
        assert!(taken(&mut agenda, at(29)).is_empty());
        assert_eq!(taken(&mut agenda, at(30)), ["a"]);
    }

    #[test]
    fn failures_are_looked_at_ever_later() {
        let mut agenda = Agenda::new(at(0));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            agenda.failed(&id("a"), at(0));
            pauses.push(agenda.idle_time(at(0)).as_millis());
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        agenda.settled(&id("a"), None);
        agenda.failed(&id("a"), at(0));
        assert_eq!(agenda.idle_time(at(0)).as_millis(), 50);
    }

    #[test]
    fn a_clock_that_jumps_does_not_stop_the_agenda() {
        let agenda = Agenda::new(at(0));
        assert_eq!(agenda.idle_time(at(-1_000_000)), TICK);
        assert_eq!(agenda.idle_time(at(1_000_000)), Duration::ZERO);
    }
}
