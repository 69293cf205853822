//! Connectivity runs as they are kept: who was asked, what each of them measured, what that adds up to, and what is left
//! out where it would be too much. How the pinging is done stands elsewhere.

mod figures;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{HostId, NetworkId, RunId, round_trip};
pub use figures::{ConnectivityResult, PairFigures, RESULT_BYTES};

/// The head of a run. It names everybody; what was measured has records of its own. Writer: the replica that carries the
/// run out, once when it begins and once when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectivityRun {
    pub id: RunId,
    pub network: NetworkId,
    pub started_at: Timestamp,
    /// Whatever is not there then will not come.
    pub deadline_at: Timestamp,
    /// Everybody who is pinged.
    pub hosts: BTreeMap<HostId, RunHost>,
    /// Who takes no part at all, and why.
    pub absent: Vec<MissingHost>,
    /// What it came to; absent while it goes on, and for ever if its replica died meanwhile.
    #[serde(default)]
    pub outcome: Option<RunFigures>,
}

/// Somebody who is pinged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHost {
    /// As it was called when the run began.
    pub name: String,
    /// Whether it pings the others: without an agent it does not.
    pub asked: bool,
}

/// Somebody who did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingHost {
    pub host: HostId,
    /// `offline`, `timed-out` or `failed`.
    pub outcome: String,
    /// For people.
    pub detail: String,
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFigures {
    /// Of those who were asked.
    pub answered: usize,
    pub missing: Vec<MissingHost>,
    /// Pings of all pairs, and replies to them.
    pub sent: u64,
    pub received: u64,
    /// The median of the medians of all pairs with a reply; 0 if there is none.
    pub p50_us: u32,
}

impl RunFigures {
    /// Replies that did not come, in per cent of the pings; 0 if there were none.
    pub fn loss_percent(&self) -> f64 {
        round_trip::loss_percent(self.sent, self.received)
    }
}

/// What the hosts of a run measured.
pub type Results = BTreeMap<HostId, ConnectivityResult>;

impl ConnectivityRun {
    /// Those who ping the others.
    pub fn asked(&self) -> impl Iterator<Item = &HostId> {
        self.hosts.iter().filter(|(_, host)| host.asked).map(|(id, _)| id)
    }

    /// What a host was called; empty for a stranger.
    pub fn name(&self, host: &HostId) -> &str {
        self.hosts.get(host).map(|host| host.name.as_str()).unwrap_or_default()
    }

    /// Whether nothing more will come, as far as the head tells.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.outcome.is_some() || now >= self.deadline_at
    }

    /// Whether nothing more will come.
    pub fn is_done(&self, results: &Results, now: Timestamp) -> bool {
        self.is_over(now) || self.asked().all(|host| results.contains_key(host))
    }

    /// What it came to, or comes to so far. Whoever was silent is missing once the run is over.
    pub fn figures(&self, results: &Results, now: Timestamp) -> RunFigures {
        self.outcome.clone().unwrap_or_else(|| self.add_up(results, now))
    }

    fn add_up(&self, results: &Results, now: Timestamp) -> RunFigures {
        let is_over = self.is_over(now);
        let silent = |host: &HostId| MissingHost {
            host: host.clone(),
            outcome: "timed-out".to_owned(),
            detail: "no answer was kept by the deadline".to_owned(),
        };
        let missing = self.asked().filter_map(|host| match results.get(host) {
            Some(result) => result.failure.clone(),
            None => is_over.then(|| silent(host)),
        });
        let pairs = || results.values().flat_map(|result| &result.pairs);
        let medians = pairs().filter(|pair| pair.received() > 0).map(|pair| pair.round_trips.p50_us);
        RunFigures {
            answered: results.values().filter(|result| result.failure.is_none()).count(),
            missing: missing.chain(self.absent.iter().cloned()).collect(),
            sent: results.values().map(|result| result.sent).sum(),
            received: results.values().map(|result| result.received).sum(),
            p50_us: round_trip::RoundTrips::of(&medians.collect::<Vec<_>>()).unwrap_or_default().p50_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RoundTrips;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn id(text: &str) -> HostId {
        text.parse().unwrap()
    }

    fn run() -> ConnectivityRun {
        let host = |name: &str, asked| (id(name), RunHost { name: name.to_owned(), asked });
        ConnectivityRun {
            id: RunId::at(at(0), [0; 10]),
            network: "prod".parse().unwrap(),
            started_at: at(0),
            deadline_at: at(10),
            hosts: [host("a", true), host("b", true), host("laptop", false)].into(),
            absent: vec![MissingHost { host: id("c"), outcome: "failed".into(), detail: "is down, as asked".into() }],
            outcome: None,
        }
    }

    fn pair(destination: &str, sent: u32, rtts_us: &[u32]) -> PairFigures {
        let round_trips = RoundTrips::of(rtts_us).unwrap_or_default();
        PairFigures { destination: id(destination), sent, round_trips, error: String::new() }
    }

    #[test]
    fn a_run_adds_up_while_answers_come() {
        let (run, mut results) = (run(), Results::new());
        assert!(!run.is_done(&results, at(1)));
        assert_eq!(run.figures(&results, at(1)).missing.len(), 1, "who takes no part is told at once");
        results
            .insert(id("a"), ConnectivityResult::new(vec![pair("b", 4, &[10, 30, 50]), pair("laptop", 4, &[])], None));
        let figures = run.figures(&results, at(1));
        assert_eq!((figures.answered, figures.sent, figures.received, figures.p50_us), (1, 8, 3, 30));
        assert_eq!(figures.loss_percent(), 62.5);
        let silent = MissingHost { host: id("b"), outcome: "offline".into(), detail: "is away".into() };
        results.insert(id("b"), ConnectivityResult::new(vec![pair("a", 4, &[70])], Some(silent)));
        assert!(run.is_done(&results, at(1)), "everybody was heard of; the laptop was not asked");
        let figures = run.figures(&results, at(1));
        assert_eq!((figures.answered, figures.missing.len(), figures.p50_us), (1, 2, 30), "the lower of two medians");
    }

    #[test]
    fn a_run_whose_replica_died_is_done_at_its_deadline_and_names_who_was_not_heard_of() {
        let (run, results) = (run(), Results::new());
        assert!(!run.is_done(&results, at(9)) && run.is_done(&results, at(10)));
        let figures = run.figures(&results, at(10));
        let missing: Vec<_> = figures.missing.iter().map(|m| (m.host.as_str(), m.outcome.as_str())).collect();
        assert_eq!(missing, [("a", "timed-out"), ("b", "timed-out"), ("c", "failed")]);
        assert_eq!((figures.answered, figures.loss_percent()), (0, 0.0));
    }
}
