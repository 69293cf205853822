//! The connectivity test: agents ping each other over the overlay, and whatever is there by the deadline is the answer.

use std::{collections::BTreeMap, time::Duration};

use cladnet_model::{HostId, NetworkId, RoundTrips, round_trip::loss_percent};
use cladnet_proto::{
    cladnet::v1::{ConnectivityTest, ControlResult, PairResult, PingCommand, PingResult, agent_command::Command},
    convert,
};
use tokio::time::Instant;

use super::{
    Agents,
    commands::{CommandError, MAX_RESULT},
};
use crate::error::CallError;

/// What one host's results take in an answer, beside its round trips; and each of those.
const RESULT_BYTES: usize = 128;
const RTT_BYTES: usize = 5;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct ConnectivityPlan {
    pub(crate) network: NetworkId,
    /// Every one of them pings every other one; members of the network.
    pub(crate) hosts: Vec<HostId>,
    pub(crate) count: u32,
    pub(crate) interval: Duration,
    pub(crate) deadline: Duration,
}

impl Agents {
    /// Lets the hosts ping each other. Answers at the deadline at the latest, with what is there.
    pub(crate) async fn connectivity_test(&self, plan: &ConnectivityPlan) -> Result<ConnectivityTest, CallError> {
        let started_at = self.shared.parts.clock.now();
        let deadline = Instant::now() + plan.deadline;
        let members = self.members(&plan.network)?;
        let sources = plan.hosts.iter().filter(|host| members.get(host).is_some_and(|member| !member.plain));
        let sources: Vec<&HostId> = sources.collect();
        let answers = self.ask_all(sources, |source| self.ping(plan, source, deadline)).await;

        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for (source, (pings, error)) in answers {
            results.extend(pings.into_iter().map(|ping| PairResult {
                source_name: members.name(source.as_str()),
                destination_name: members.name(&ping.host_id),
                ..pair_result(source, ping)
            }));
            missing.extend(error.map(|error| ControlResult {
                host_id: source.to_string(),
                outcome: error.outcome().to_owned(),
                detail: error.to_string(),
            }));
        }
        results.sort_by(|one, other| (&one.source, &one.destination).cmp(&(&other.source, &other.destination)));
        Ok(ConnectivityTest {
            network_id: plan.network.to_string(),
            started_at: Some(convert::timestamp(started_at)),
            results,
            missing,
        })
    }

    /// One host's part, in pieces whose answers can be carried: what it measured, and what stopped it if something did.
    async fn ping(
        &self,
        plan: &ConnectivityPlan,
        source: &HostId,
        deadline: Instant,
    ) -> (Vec<PingResult>, Option<CommandError>) {
        let others: Vec<&HostId> = plan.hosts.iter().filter(|host| *host != source).collect();
        let mut measured = Vec::new();
        for piece in others.chunks(hosts_per_answer(plan.count)) {
            let command = PingCommand {
                network_id: plan.network.to_string(),
                host_ids: piece.iter().map(ToString::to_string).collect(),
                count: plan.count,
                interval: prost_types::Duration::try_from(plan.interval).ok(),
            };
            match self.command(source, Command::Ping(command), deadline).await {
                Ok(result) => measured.extend(result.pings),
                Err(error) => return (measured, Some(error)),
            }
        }
        (measured, None)
    }

    /// The members of a network as they are named to people.
    pub(super) fn members(&self, network: &NetworkId) -> Result<Members, CallError> {
        let view = self.shared.view();
        let state = view.network(network);
        let state = state.ok_or_else(|| CallError::NotFound(format!("there is no network {network}")))?;
        let member = |host: &HostId| {
            let name = view.host(host)?.0.facts.name.clone();
            Some((host.clone(), Member { name, plain: state.membership(host)?.plain }))
        };
        Ok(Members(state.members().filter_map(member).collect()))
    }
}

/// Members by host.
pub(super) struct Members(BTreeMap<HostId, Member>);

/// A member, shortly.
pub(super) struct Member {
    pub(super) name: String,
    /// Without an agent.
    pub(super) plain: bool,
}

impl Members {
    pub(super) fn get(&self, host: &HostId) -> Option<&Member> {
        self.0.get(host)
    }

    fn name(&self, host: &str) -> String {
        let member = host.parse().ok().and_then(|host| self.get(&host));
        member.map(|member| member.name.clone()).unwrap_or_default()
    }

    /// Every one of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &HostId> {
        self.0.keys()
    }

    /// Those that run the agent.
    pub(super) fn agents(&self) -> impl Iterator<Item = &HostId> {
        self.0.iter().filter(|(_, member)| !member.plain).map(|(host, _)| host)
    }
}

fn hosts_per_answer(count: u32) -> usize {
    let bytes = RESULT_BYTES + RTT_BYTES * usize::try_from(count).unwrap_or(usize::MAX / RTT_BYTES / 2);
    (MAX_RESULT / bytes).max(1)
}

fn pair_result(source: &HostId, ping: PingResult) -> PairResult {
    let received = u32::try_from(ping.rtts_us.len()).unwrap_or(u32::MAX);
    let over = RoundTrips::of(&ping.rtts_us).unwrap_or_default();
    PairResult {
        source: source.to_string(),
        destination: ping.host_id,
        source_name: String::new(),
        destination_name: String::new(),
        sent: ping.sent,
        received,
        loss_percent: loss_percent(ping.sent, received),
        min_us: over.min_us,
        avg_us: over.avg_us,
        max_us: over.max_us,
        stddev_us: over.stddev_us,
        p50_us: over.p50_us,
        p90_us: over.p90_us,
        p99_us: over.p99_us,
        error: ping.error,
    }
}
