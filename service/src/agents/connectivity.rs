//! The pinging of connectivity tests: agents ping each other over the overlay, and whatever is there by the
//! deadline is the answer.

use std::time::Duration;

use cladnet_model::{HostId, NetworkId};
use cladnet_proto::cladnet::v1::{PingCommand, PingResult, agent_command::Command};
use tokio::time::Instant;

use super::{
    Agents,
    commands::{CommandError, MAX_RESULT},
};

/// What one host's results take in an answer, beside its round trips; and each of those.
const RESULT_BYTES: usize = 128;
const RTT_BYTES: usize = 5;

/// What to measure.
#[derive(Debug, Clone)]
pub(crate) struct ConnectivityPlan {
    pub(crate) network: NetworkId,
    /// Who pings.
    pub(crate) sources: Vec<HostId>,
    /// Who is pinged, by everybody else; members of the network.
    pub(crate) hosts: Vec<HostId>,
    pub(crate) count: u32,
    pub(crate) interval: Duration,
    pub(crate) deadline: Instant,
}

impl Agents {
    /// Lets the hosts ping each other. Every answer is `taken` in when it comes, or what there is of it at the deadline; what
    /// that made of it is returned for all of them.
    pub(crate) async fn ping_each_other<T>(
        &self,
        plan: &ConnectivityPlan,
        taken: impl Fn(&HostId, Vec<PingResult>, Option<CommandError>) -> T,
    ) -> Vec<(HostId, T)> {
        let taken = &taken;
        let ask = |source| async move {
            let (pings, error) = self.ping(plan, source).await;
            taken(source, pings, error)
        };
        let answers = self.ask_all(&plan.sources, ask).await;
        answers.into_iter().map(|(source, answer)| (source.clone(), answer)).collect()
    }

    /// One host's part, in pieces whose answers can be carried: what it measured, and what stopped it if something did.
    async fn ping(&self, plan: &ConnectivityPlan, source: &HostId) -> (Vec<PingResult>, Option<CommandError>) {
        let others: Vec<&HostId> = plan.hosts.iter().filter(|host| *host != source).collect();
        let mut measured = Vec::new();
        for piece in others.chunks(hosts_per_answer(plan.count)) {
            let command = PingCommand {
                network_id: plan.network.to_string(),
                host_ids: piece.iter().map(ToString::to_string).collect(),
                count: plan.count,
                interval: prost_types::Duration::try_from(plan.interval).ok(),
            };
            match self.command(source, Command::Ping(command), plan.deadline).await {
                Ok(result) => measured.extend(result.pings),
                Err(error) => return (measured, Some(error)),
            }
        }
        (measured, None)
    }
}

fn hosts_per_answer(count: u32) -> usize {
    let bytes = RESULT_BYTES + RTT_BYTES * usize::try_from(count).unwrap_or(usize::MAX / RTT_BYTES / 2);
    (MAX_RESULT / bytes).max(1)
}
