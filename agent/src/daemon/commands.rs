//! Commands of the service: each is carried out beside everything else and answered by its deadline, whatever happens.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use cladnet_model::{HostId, NetworkId, path::Reach};
use cladnet_proto::{
    cladnet::v1::{
        AgentCommand, AgentEndpoint, CandidateMeasurement, CommandResult, PathReport, PathsCommand, PingCommand,
        PingResult, agent_command::Command,
    },
    convert,
};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use prost::Message as _;
use tracing::{debug, info};

use super::{Agent, core::Core, requests::source};
use crate::{
    control::protocol::{CandidateStatus, PathStatus},
    failure::Failure,
    ping::{MAX_COUNT, Outcome, Plan, Source},
};

/// For a command that names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody waits longer.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// Of the time, for the answer's way back.
const RETURN: Duration = Duration::from_millis(500);
/// Peers pinged at once.
const CONCURRENCY: usize = 64;
/// Replies in one answer: the service takes messages of 256 KiB.
const MAX_REPLIES: usize = 20_000;
/// Paths of one answer, encoded; beyond it candidates are left out, and then paths.
const MAX_PATHS_BYTES: usize = 200 << 10;
/// Between two echoes of a command that names no interval.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(200);
/// A path's round trip is the least of so many.
const MEASURE_COUNT: u32 = 2;
const MEASURE_INTERVAL: Duration = Duration::from_millis(20);

/// The last round trip in µs of each path, none if it did not answer, and the endpoint that it was measured over.
pub(super) type RoundTrips = BTreeMap<(NetworkId, HostId), (Option<SocketAddr>, Option<u32>)>;

impl Agent {
    /// Starts a command; its result goes up with the stream that is there when it is done.
    pub(super) fn carry_out(self: &Arc<Self>, command: AgentCommand) {
        let agent = self.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            let id = command.command_id.clone();
            let result = agent.execute(command).await;
            info!(command = id, elapsed = ?started.elapsed(), error = result.error, "command carried out");
            if agent.results.send(result).await.is_err() {
                debug!("nobody takes results any more");
            }
        });
    }
}

impl Agent {
    async fn execute(&self, command: AgentCommand) -> CommandResult {
        let command_id = command.command_id;
        let failed =
            |error: String| CommandResult { command_id: command_id.clone(), error, ..CommandResult::default() };
        let timeout = match convert::duration("timeout", command.timeout) {
            Ok(timeout) => timeout.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT),
            Err(error) => return failed(error.to_string()),
        };
        let deadline = Instant::now() + timeout.saturating_sub(RETURN).max(timeout / 2);
        let done = match command.command {
            Some(Command::Ping(ping)) => self.ping_peers(ping, deadline).await.map(|pings| (pings, Vec::new())),
            Some(Command::Paths(paths)) => self.report_paths(paths, deadline).await.map(|paths| (Vec::new(), paths)),
            None => return failed("this agent does not know such a command; it may be too old".into()),
        };
        match done {
            Ok((pings, paths)) => CommandResult { command_id, error: String::new(), pings, paths },
            Err(failure) => failed(failure.message),
        }
    }

    async fn ping_peers(&self, command: PingCommand, deadline: Instant) -> Result<Vec<PingResult>, Failure> {
        let network = network(&command.network_id)?;
        let interval = convert::duration("interval", command.interval).ok().flatten().unwrap_or(DEFAULT_INTERVAL);
        let (targets, source) = {
            let core = self.core.lock().await;
            (targets(&core, &network, &command.host_ids), source(&core, &network)?)
        };
        let share = u32::try_from(MAX_REPLIES / targets.len().max(1)).unwrap_or(MAX_COUNT).max(1);
        let plan = Plan::new(command.count.min(share), interval, deadline);
        let pings = targets.into_iter().map(|(host_id, address)| {
            let source = &source;
            async move {
                let outcome = match address {
                    Some(address) => source.ping(address, plan).await,
                    None => {
                        Outcome { error: "no such peer in this agent's configuration".into(), ..Outcome::default() }
                    }
                };
                PingResult { host_id, sent: outcome.sent, rtts_us: outcome.rtts_us, error: outcome.error }
            }
        });
        Ok(stream::iter(pings).buffer_unordered(CONCURRENCY).collect().await)
    }

    async fn report_paths(&self, command: PathsCommand, deadline: Instant) -> Result<Vec<PathReport>, Failure> {
        let network = network(&command.network_id)?;
        let mut paths = self.paths(Some(network), false).await?;
        if !command.host_ids.is_empty() {
            paths.retain(|path| command.host_ids.iter().any(|id| id == path.peer.host.as_str()));
        }
        if command.measure {
            self.measure(&mut paths, deadline).await;
        }
        Ok(bounded(paths.iter().map(path_report).collect()))
    }

    /// Pings every path over the overlay; one that does not answer has no round trip.
    pub(super) async fn measure(&self, paths: &mut [PathStatus], deadline: Instant) {
        let plan = Plan::new(MEASURE_COUNT, MEASURE_INTERVAL, deadline);
        let targets: Vec<_> = {
            let core = self.core.lock().await;
            let target = |path: &PathStatus| Some((source(&core, &path.peer.network).ok()?, path.peer.address?));
            paths.iter().map(target).collect()
        };
        let ping = |target: Option<(Source, std::net::Ipv4Addr)>| async move {
            let (source, address) = target?;
            source.ping(address, plan).await.rtts_us.into_iter().min()
        };
        let rtts: Vec<_> = stream::iter(targets.into_iter().map(ping)).buffered(CONCURRENCY).collect().await;
        let mut known = self.round_trips.lock().expect("no holder of this lock panics");
        for (path, rtt) in paths.iter_mut().zip(rtts) {
            path.rtt_us = rtt;
            known.insert(path_key(path), (path.peer.endpoint, rtt));
        }
    }

    /// Fills in what was last measured over the endpoints in use. Nothing is sent for it.
    pub(super) fn recall(&self, paths: &mut [PathStatus]) {
        let known = self.round_trips.lock().expect("no holder of this lock panics");
        for path in paths {
            let last = known.get(&path_key(path)).filter(|(endpoint, _)| *endpoint == path.peer.endpoint);
            path.rtt_us = path.rtt_us.or(last.and_then(|(_, rtt)| *rtt));
        }
    }
}

fn path_key(path: &PathStatus) -> (NetworkId, HostId) {
    (path.peer.network.clone(), path.peer.host.clone())
}

fn network(id: &str) -> Result<NetworkId, Failure> {
    id.parse().map_err(|error| Failure::new(crate::failure::Kind::Usage, format!("network_id {error}")))
}

/// Who is to be pinged: all, if nobody is named; a host without an address is one that we do not know.
fn targets(core: &Core, network: &NetworkId, named: &[String]) -> Vec<(String, Option<std::net::Ipv4Addr>)> {
    let configuration = core.memberships.get(network).and_then(|membership| membership.configuration.as_ref());
    let Some(remotes) = configuration.map(|configuration| configuration.remotes()) else { return Vec::new() };
    if named.is_empty() {
        return remotes.values().map(|remote| (remote.host.to_string(), Some(remote.address))).collect();
    }
    let address = |id: &String| Some(remotes.get(&id.parse::<HostId>().ok()?)?.address);
    named.iter().map(|id| (id.clone(), address(id))).collect()
}

fn bounded(mut reports: Vec<PathReport>) -> Vec<PathReport> {
    let size = |reports: &[PathReport]| reports.iter().map(PathReport::encoded_len).sum::<usize>();
    if size(&reports) > MAX_PATHS_BYTES {
        reports.iter_mut().for_each(|report| {
            report.candidates.clear();
            report.measurements.clear();
        });
    }
    let mut left = MAX_PATHS_BYTES;
    reports.retain(|report| {
        let fits = report.encoded_len() <= left;
        left -= if fits { report.encoded_len() } else { 0 };
        fits
    });
    reports
}

fn path_report(path: &PathStatus) -> PathReport {
    let handshake =
        path.peer.handshake_age_s.and_then(|age| Timestamp::now().checked_sub(Duration::from_secs(age)).ok());
    PathReport {
        host_id: path.peer.host.to_string(),
        scope: path.peer.scope.map(|scope| scope.to_string()).unwrap_or_default(),
        endpoint: path.peer.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        rtt_us: path.rtt_us.unwrap_or_default(),
        last_handshake_at: handshake.map(convert::timestamp),
        sent_bytes: path.peer.sent_bytes,
        received_bytes: path.peer.received_bytes,
        detail: path.detail.clone(),
        candidates: path.candidates.iter().map(AgentEndpoint::from).collect(),
        transport: path.peer.transport.clone().unwrap_or_default(),
        measurements: path.known.iter().map(measurement).collect(),
        tariff_version: path.tariff_version.clone(),
    }
}

fn measurement(known: &CandidateStatus) -> CandidateMeasurement {
    CandidateMeasurement {
        address: known.address.to_string(),
        reach: if known.reach == Reach::Untried { String::new() } else { known.reach.to_string() },
        rtt_us: known.rtt_us.unwrap_or_default(),
        loss_permille: known.loss_permille.map(u32::from).unwrap_or_default(),
        price_per_gb: known.price_per_gb.map(|price| price.0),
    }
}
