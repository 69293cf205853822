//! Paths as the agents have them now; why they have them is told by `explain`.

use std::{collections::BTreeMap, time::Duration};

use cladnet_model::{HostId, NetworkId};
use cladnet_proto::{
    cladnet::v1::{ListPathsResponse, Path, PathReport, PathsCommand, agent_command::Command},
    convert,
};
use tokio::time::Instant;

use super::{
    Agents,
    commands::{CommandError, turn},
};
use crate::error::CallError;

/// Peers in one report: it names every candidate of each, and has to fit into an answer.
const PEERS_PER_REPORT: usize = 64;

/// The round trips of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RoundTrips {
    /// Those that are known: asking causes no traffic between agents.
    Known,
    /// Pinged for this answer.
    Measured,
}

impl Agents {
    /// The path of every pair of a network whose source is wanted, from the agents that answer within `deadline`.
    pub(crate) async fn paths(
        &self,
        network: &NetworkId,
        is_wanted: impl Fn(&HostId) -> bool,
        round_trips: RoundTrips,
        deadline: Duration,
    ) -> Result<ListPathsResponse, CallError> {
        let deadline = Instant::now() + deadline;
        let members = self.members(network)?;
        let hosts: Vec<&HostId> = members.agents().filter(|host| is_wanted(host)).collect();
        let everybody: Vec<&HostId> = members.all().collect();
        let asked = self.ask_all(hosts, |source| {
            let others: Vec<&HostId> = everybody.iter().copied().filter(|host| *host != source).collect();
            async move { self.reports(network, source, &others, round_trips, deadline).await }
        });
        let (mut paths, mut unreachable) = (Vec::new(), Vec::new());
        for (source, (reports, error)) in asked.await {
            paths.extend(reports.into_iter().map(|report| path(source, report)));
            unreachable.extend(error.map(|_| source.to_string()));
        }
        paths.sort_by(|one, other| (&one.source, &one.destination).cmp(&(&other.source, &other.destination)));
        Ok(ListPathsResponse { paths, unreachable })
    }

    /// The members of a network, as far as this replica has heard of them.
    pub(super) fn members(&self, network: &NetworkId) -> Result<Members, CallError> {
        let view = self.shared.view();
        let state = view.network(network);
        let state = state.ok_or_else(|| CallError::NotFound(format!("there is no network {network}")))?;
        let known = state.members().filter(|host| view.host(host).is_some());
        let with_agent = |host: &HostId| Some((host.clone(), !state.membership(host)?.plain));
        Ok(Members(known.filter_map(with_agent).collect()))
    }

    /// What one agent reports of its paths, in pieces that can be carried; and what stopped it if something did.
    pub(crate) async fn reports(
        &self,
        network: &NetworkId,
        source: &HostId,
        destinations: &[&HostId],
        round_trips: RoundTrips,
        deadline: Instant,
    ) -> (Vec<PathReport>, Option<CommandError>) {
        let mut reports = Vec::new();
        for piece in destinations.chunks(PEERS_PER_REPORT) {
            let command = PathsCommand {
                network_id: network.to_string(),
                host_ids: piece.iter().map(ToString::to_string).collect(),
                measure: round_trips == RoundTrips::Measured,
            };
            match self.command(source, Command::Paths(command), turn(deadline)).await {
                Ok(result) => reports.extend(result.paths),
                Err(error) => return (reports, Some(error)),
            }
        }
        (reports, None)
    }
}

/// Members, and whether they run the agent.
pub(super) struct Members(BTreeMap<HostId, bool>);

impl Members {
    /// Every one of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &HostId> {
        self.0.keys()
    }

    /// Those that run the agent.
    pub(super) fn agents(&self) -> impl Iterator<Item = &HostId> {
        self.0.iter().filter(|(_, runs_agent)| **runs_agent).map(|(host, _)| host)
    }
}

fn path(source: &HostId, report: PathReport) -> Path {
    let (seen, prices) = convert::measurements(&report);
    let price = seen.in_use.and_then(|used| *prices.get(&used)?);
    Path {
        source: source.to_string(),
        destination: report.host_id,
        scope: report.scope,
        endpoint: report.endpoint,
        rtt_us: report.rtt_us,
        last_handshake_at: report.last_handshake_at,
        sent_bytes: report.sent_bytes,
        received_bytes: report.received_bytes,
        usd_per_gb: price.map(|price| price.to_string()).unwrap_or_default(),
        detail: report.detail,
    }
}
