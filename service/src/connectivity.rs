//! Connectivity tests: who takes part, on which terms. The pinging is steered by `agents`.
//!
//! Every test is a run that is kept: a head record, and one for the results of every peer that was asked. The replica that
//! was called writes them as answers come; every replica shows them. If it dies, the run reads as done after its deadline.

mod keep;
mod run;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use cladnet_model::{
    ConnectivityRun, DesiredState, HostId, NetworkId, RunId,
    connectivity::{MissingHost, RunHost},
};
use cladnet_proto::cladnet::v1::ConnectivityTest;
use tokio::time::Instant;
use tracing::warn;

use keep::KEPT;

use crate::{
    Service,
    agents::{ConnectivityPlan, turn, turns},
    control::{Outcome, PeerOutcome},
    error::CallError,
    peers::{PeerRow, Peers, find},
};

/// Pings per pair, if the caller does not say, and at most.
pub(crate) const DEFAULT_COUNT: u32 = 3;
pub(crate) const MOST_PINGS: u32 = 100;

/// Between two pings of a pair.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(200);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// What a test takes beyond its agents' turns.
const MARGIN: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(120);

/// What a test does: checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestTerms {
    count: u32,
    interval: Duration,
    /// What the agents' turns need, if none is asked for.
    wait: Option<Duration>,
}

impl TestTerms {
    /// Checks what was asked for; absent, or zero pings, is the default.
    pub(crate) fn check(count: u32, interval: Option<Duration>, deadline: Option<Duration>) -> Result<Self, CallError> {
        let count = if count == 0 { DEFAULT_COUNT } else { count };
        if count > MOST_PINGS {
            return Err(CallError::invalid("count", format!("is {count}; at most {MOST_PINGS} are allowed")));
        }
        let interval = interval.unwrap_or(DEFAULT_INTERVAL);
        if interval < SHORTEST_INTERVAL {
            let (given, least) = (interval.as_millis(), SHORTEST_INTERVAL.as_millis());
            return Err(CallError::invalid("interval", format!("is {given} ms; use at least {least} ms")));
        }
        if let Some(wait) = deadline.filter(|wait| wait.is_zero() || *wait > LONGEST) {
            let (given, most) = (wait.as_secs(), LONGEST.as_secs());
            return Err(CallError::invalid(
                "deadline",
                format!("is {given} s; use more than 0 s and at most {most} s"),
            ));
        }
        Ok(Self { count, interval, wait: deadline })
    }

    /// How long the test waits for so many agents that ping so many hosts each.
    fn wait(&self, agents: usize, hosts: usize) -> Duration {
        let needed = || turn(self.count, self.interval).saturating_mul(turns(agents, hosts)) + MARGIN;
        self.wait.unwrap_or_else(|| needed().min(LONGEST))
    }
}

impl Service {
    /// Lets the named peers, or all, ping each other, and waits for it. Who cannot take part is told with the reason; a peer
    /// whose agent is not connected is still asked for: it may come in time. Whoever stops waiting does not stop the run.
    pub(crate) async fn test_connectivity(
        &self,
        network: &NetworkId,
        named: &[String],
        terms: TestTerms,
    ) -> Result<ConnectivityTest, CallError> {
        let (run, plan) = self.plan_run(network, named, terms).await?;
        match self.open_run(&run).await {
            // A store that takes no record is no reason not to test.
            Err(CallError::Store(error)) => {
                warn!(error = &error as &dyn std::error::Error, run = %run.id, "connectivity run not kept");
            }
            opened => opened?,
        }
        let answer = self.carry_out(run, plan).await;
        answer.map_err(|_| CallError::Unavailable("the service is stopping; try another replica".to_owned()))
    }

    /// Starts the same and does not wait.
    pub(crate) async fn start_connectivity_test(
        &self,
        network: &NetworkId,
        named: &[String],
        terms: TestTerms,
    ) -> Result<ConnectivityRun, CallError> {
        let (run, plan) = self.plan_run(network, named, terms).await?;
        let now = self.clock.now();
        let going_on = self.runs(network).await?.iter().filter(|run| !run.is_over(now)).count();
        if going_on >= KEPT {
            return Err(CallError::TooMany(format!(
                "{going_on} connectivity tests of network {network} are going on; wait until one of them is done"
            )));
        }
        self.open_run(&run).await?;
        drop(self.carry_out(run.clone(), plan));
        Ok(run)
    }

    async fn plan_run(
        &self,
        network: &NetworkId,
        named: &[String],
        terms: TestTerms,
    ) -> Result<(ConnectivityRun, ConnectivityPlan), CallError> {
        let peers = self.peers(network).await?;
        let unreadable = if named.is_empty() { peers.unreadable_outcomes() } else { Vec::new() };
        let peers = select(peers, network, named)?;
        let host = |peer: &PeerRow| RunHost { name: peer.name().to_owned(), asked: !peer.membership.plain };
        let present = peers.iter().filter(|peer| absence(peer).is_none());
        let hosts: BTreeMap<HostId, RunHost> = present.map(|peer| (peer.id().clone(), host(peer))).collect();
        let wait = terms.wait(hosts.values().filter(|host| host.asked).count(), hosts.len());
        let (started_at, started) = (self.clock.now(), Instant::now());
        let run = ConnectivityRun {
            id: RunId::at(started_at, rand::random()),
            network: network.clone(),
            started_at,
            deadline_at: started_at + wait,
            hosts,
            absent: peers.iter().filter_map(absence).chain(unreadable.into_iter().map(MissingHost::from)).collect(),
            outcome: None,
        };
        let plan = ConnectivityPlan {
            network: network.clone(),
            sources: run.asked().cloned().collect(),
            hosts: run.hosts.keys().cloned().collect(),
            count: terms.count,
            interval: terms.interval,
            deadline: started + wait,
        };
        Ok((run, plan))
    }
}

impl From<PeerOutcome> for MissingHost {
    fn from(peer: PeerOutcome) -> Self {
        Self { host: peer.host, outcome: peer.outcome.as_str().to_owned(), detail: peer.detail }
    }
}

fn select(mut peers: Peers, network: &NetworkId, named: &[String]) -> Result<Vec<PeerRow>, CallError> {
    if !named.is_empty() {
        let mut wanted = Vec::new();
        for (index, text) in named.iter().enumerate() {
            wanted.push(find(&peers, network, &format!("hosts[{index}]"), text)?.id().clone());
        }
        peers.rows.retain(|peer| wanted.contains(peer.id()));
    }
    if peers.rows.len() < 2 {
        return Err(CallError::Precondition(format!("a test needs two peers, and there are {}", peers.rows.len())));
    }
    Ok(peers.rows)
}

/// Why a peer takes no part at all.
fn absence(peer: &PeerRow) -> Option<MissingHost> {
    let detail = match () {
        () if peer.membership.desired_state == DesiredState::Down => "is down, as asked",
        () if peer.address().is_none() => "has no address yet",
        () => return None,
    };
    Some(MissingHost {
        host: peer.id().clone(),
        outcome: Outcome::Failed.as_str().to_owned(),
        detail: detail.to_owned(),
    })
}
