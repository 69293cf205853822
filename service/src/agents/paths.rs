//! Paths as the agents have them now, and why: *explain* ranks with the function that the agent itself chooses by.

use std::{collections::BTreeMap, time::Duration};

use cladnet_model::{
    CloudLocation, Endpoint, HostId, Network, NetworkId,
    path::{CandidateState, HostView, Transport, candidates, encryption, rank, summary},
};
use cladnet_proto::{
    cladnet::v1::{ExplainPathResponse, ListPathsResponse, Path, PathReport, PathsCommand, agent_command::Command},
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

    /// Every candidate from one member to another, best first, and why it won or lost. While the source's agent does not
    /// answer, what the service knows of both is ranked, and the summary says so.
    pub(crate) async fn explain(
        &self,
        network: &NetworkId,
        source: &HostId,
        destination: &HostId,
        deadline: Duration,
    ) -> Result<ExplainPathResponse, CallError> {
        let (settings, ours, mut theirs) = self.pair(network, source, destination)?;
        let (mut reports, error) =
            self.reports(network, source, &[destination], RoundTrips::Known, Instant::now() + deadline).await;
        let report = reports.pop();
        if let Some(known) = report.as_ref().map(known_endpoints).filter(|known| !known.is_empty()) {
            theirs.endpoints = known; // what the agent ranked, should the service have heard newer ones
        }
        let seen = report.as_ref().map(|report| convert::measurements(report).0).unwrap_or_default();
        let found = candidates(ours.view(), theirs.view(), |_| None);
        let ranked = rank(&settings.path_policy(), found, &seen);
        let route = ranked.iter().find(|ranked| ranked.state == CandidateState::InUse).or(ranked.first());
        let route = route.and_then(|ranked| ranked.candidate.route.clone().ok());
        let told = report.as_ref().and_then(transport);
        let doubt = match (&report, error) {
            (Some(_), _) => String::new(),
            (None, Some(error)) => format!(" (as the service sees it: {error})"),
            (None, None) => " (as the service sees it: the agent does not know this peer yet)".to_owned(),
        };
        Ok(ExplainPathResponse {
            source: source.to_string(),
            destination: destination.to_string(),
            rule_type: settings.rule_type.to_string(),
            encryption: encryption(settings.encryption_policy, route, told).to_owned(),
            summary: summary(&ranked) + &doubt,
            candidates: ranked.iter().map(|ranked| convert::candidate(ranked, &seen)).collect(),
            ..ExplainPathResponse::default()
        })
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

    fn pair(
        &self,
        network: &NetworkId,
        source: &HostId,
        destination: &HostId,
    ) -> Result<(Network, End, End), CallError> {
        let view = self.shared.view();
        let state = view.network(network);
        let state = state.ok_or_else(|| CallError::NotFound(format!("there is no network {network}")))?;
        let end = |host: &HostId| {
            let known = view.host(host).filter(|_| state.membership(host).is_some());
            let (record, _) =
                known.ok_or_else(|| CallError::NotFound(format!("{host} is no peer of network {network}")))?;
            Ok::<_, CallError>(End { location: record.location(), endpoints: record.facts.endpoints.clone() })
        };
        let settings = state.record().cloned();
        let settings = settings.ok_or_else(|| CallError::NotFound(format!("there is no network {network}")))?;
        Ok((settings, end(source)?, end(destination)?))
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

/// One end of a path.
struct End {
    location: CloudLocation,
    endpoints: Vec<Endpoint>,
}

impl End {
    fn view(&self) -> HostView<'_> {
        HostView { location: &self.location, endpoints: &self.endpoints }
    }
}

fn known_endpoints(report: &PathReport) -> Vec<Endpoint> {
    report.candidates.iter().filter_map(|wire| Endpoint::try_from(wire.clone()).ok()).collect()
}

/// An agent that says nothing of it is of a release that seals everything.
fn transport(report: &PathReport) -> Option<Transport> {
    if report.transport.is_empty() { Some(Transport::Untrusted) } else { report.transport.parse().ok() }
}

fn path(source: &HostId, report: PathReport) -> Path {
    Path {
        source: source.to_string(),
        destination: report.host_id,
        scope: report.scope,
        endpoint: report.endpoint,
        rtt_us: report.rtt_us,
        last_handshake_at: report.last_handshake_at,
        sent_bytes: report.sent_bytes,
        received_bytes: report.received_bytes,
        detail: report.detail,
        ..Path::default()
    }
}
