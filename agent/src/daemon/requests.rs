//! Answering the control socket.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cladnet_model::{DesiredState, NetworkId};
use cladnet_pki::Credentials;

use super::{Agent, core::Core, membership::Membership, report, report::Told};
use crate::{
    configuration::Remote,
    control::{
        Reply, Request, Response,
        protocol::{HostStatus, PathStatus, PeerStatus, PingReport, ProbeCounts, Status},
        server::Caller,
    },
    failure::{Failure, Kind, chain},
    netcheck,
    ping::{Plan, Source},
    probing::Counts,
    state::Identity,
    sync::credentials,
};

/// For measuring every path.
const MEASURE: Duration = Duration::from_secs(3);

impl Agent {
    pub(super) async fn answer(self: Arc<Self>, request: Request, caller: Caller) -> Response {
        let reply = match request {
            Request::Join { services, token, wait_ms } => {
                self.join(&services, &token, Duration::from_millis(wait_ms), caller).await
            }
            Request::Up { network } => self.wish(network, DesiredState::Up).await,
            Request::Down { network } => self.wish(network, DesiredState::Down).await,
            Request::Leave { network, all } => self.leave(network, all).await,
            Request::Status => Ok(Reply::Status(Box::new(self.status().await))),
            Request::Peers { network } => self.peers(network).await.map(Reply::Peers),
            Request::Paths { network, probe } => self.paths(network, probe).await.map(Reply::Paths),
            Request::Ping { peer, network, count, interval_ms } => {
                self.ping(&peer, network, count, Duration::from_millis(interval_ms)).await.map(Reply::Ping)
            }
            Request::Netcheck => Ok(Reply::Netcheck(self.netcheck().await)),
        };
        match reply {
            Ok(reply) => Response::Ok(Box::new(reply)),
            Err(failure) => Response::Error(failure),
        }
    }

    async fn wish(&self, network: Option<NetworkId>, wish: DesiredState) -> Result<Reply, Failure> {
        let mut core = self.core.lock().await;
        let network = pick(&core, network)?;
        let membership = core.memberships.get_mut(&network).ok_or_else(|| unknown(&network))?;
        if membership.record.wish != wish {
            membership.record.wish = wish;
            membership.unsaved = true;
        }
        self.reconcile_network(&mut core, &network).await;
        if wish == DesiredState::Down {
            self.report_soon();
        }
        let membership = core.memberships.get(&network).ok_or_else(|| unknown(&network))?;
        let stats = self.device.peer_stats(&membership.record.interface).await;
        let status = report::network(membership, &stats);
        self.publish(&core);
        self.save(&mut core);
        self.unsaved.notify_one();
        Ok(Reply::Network(status))
    }

    async fn status(&self) -> Status {
        let facts = self.facts.borrow().clone();
        let core = self.core.lock().await;
        let mut networks = Vec::new();
        for membership in core.memberships.values() {
            let stats = self.device.peer_stats(&membership.record.interface).await;
            networks.push(report::network(membership, &stats));
        }
        let problems = core.blocked.iter().chain(&facts.problems).chain(core.problems.values()).cloned().collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            host: core.identity.as_deref().map(host),
            service: core.link.clone(),
            endpoints: facts.host.endpoints.clone(),
            location: facts.host.location.clone(),
            networks,
            offloads: self.device.offloads(),
            aead: self.device.aead_library().to_owned(),
            discards: self.discards(),
            probes: self.probes(),
            problems,
        }
    }

    fn probes(&self) -> ProbeCounts {
        let Counts { asked, answered, steered } = self.device.probe_counts();
        ProbeCounts { asked, answered, path_changes: steered }
    }

    /// What the device says of a membership's peers.
    async fn told(&self, membership: &Membership) -> Told {
        let name = &membership.record.interface;
        Told { stats: self.device.peer_stats(name).await, measured: self.device.measured(name).await }
    }

    fn discards(&self) -> BTreeMap<String, u64> {
        let occurred = self.device.discards().into_iter().filter(|(_, count)| *count > 0);
        occurred.map(|(reason, count)| (reason.label().to_owned(), count)).collect()
    }

    pub(super) async fn peers(&self, network: Option<NetworkId>) -> Result<Vec<PeerStatus>, Failure> {
        let facts = self.facts.borrow().clone();
        let core = self.core.lock().await;
        let mut peers = Vec::new();
        for membership in selected(&core, network.as_ref())? {
            peers.extend(report::peers(membership, &self.told(membership).await, &facts));
        }
        Ok(peers)
    }

    pub(super) async fn paths(&self, network: Option<NetworkId>, probe: bool) -> Result<Vec<PathStatus>, Failure> {
        let facts = self.facts.borrow().clone();
        let mut paths = Vec::new();
        {
            let core = self.core.lock().await;
            for membership in selected(&core, network.as_ref())? {
                paths.extend(report::paths(membership, &self.told(membership).await, &facts));
            }
        }
        match probe {
            true => self.measure(&mut paths, Instant::now() + MEASURE).await,
            false => self.recall(&mut paths),
        }
        Ok(paths)
    }

    async fn ping(
        &self,
        peer: &str,
        network: Option<NetworkId>,
        count: u32,
        interval: Duration,
    ) -> Result<PingReport, Failure> {
        let (network, remote, source) = {
            let core = self.core.lock().await;
            let (network, remote) = find(&core, network.as_ref(), peer)?;
            (network.clone(), remote.clone(), source(&core, &network)?)
        };
        let outcome = source.ping(remote.address, Plan::unhurried(count, interval)).await;
        Ok(PingReport {
            network,
            host: remote.host,
            name: remote.name,
            address: remote.address.into(),
            sent: outcome.sent,
            rtts_us: outcome.rtts_us,
            error: outcome.error,
        })
    }

    async fn netcheck(&self) -> Vec<crate::control::protocol::Check> {
        let identity = self.core.lock().await.identity.clone();
        let facts = self.facts.borrow().clone();
        netcheck::within_daemon(&self.config, &facts, identity.as_deref()).await
    }
}

fn host(identity: &Identity) -> HostStatus {
    let expires = |credentials: Credentials| credentials.validity().ok().map(|(_, until)| until);
    HostStatus {
        id: identity.host.clone(),
        services: identity.services.clone(),
        authority: identity.authority_hash.clone(),
        certificate_expires_at: credentials(identity).ok().and_then(|(_, credentials)| expires(credentials)),
    }
}

/// The named network, or the only one.
pub(super) fn pick(core: &Core, network: Option<NetworkId>) -> Result<NetworkId, Failure> {
    match (network, core.memberships.len()) {
        (Some(network), _) if core.memberships.contains_key(&network) => Ok(network),
        (Some(network), _) => Err(unknown(&network)),
        (None, 0) => Err(Failure::new(
            Kind::NotFound,
            "this host is in no network; join one with `cladnet-agent join URL TOKEN`",
        )),
        (None, 1) => Ok(core.memberships.keys().next().expect("there is one").clone()),
        (None, _) => {
            let all: Vec<_> = core.memberships.keys().map(NetworkId::as_str).collect();
            Err(Failure::new(Kind::Usage, format!("this host is in several networks, name one: {}", all.join(", "))))
        }
    }
}

fn selected<'a>(
    core: &'a Core,
    network: Option<&'a NetworkId>,
) -> Result<impl Iterator<Item = &'a Membership>, Failure> {
    if let Some(network) = network
        && !core.memberships.contains_key(network)
    {
        return Err(unknown(network));
    }
    Ok(core.memberships.values().filter(move |m| network.is_none_or(|network| m.record.network == *network)))
}

/// A remote peer by host id, address or name; names need not be unique, so a second one is told.
fn find<'a>(core: &'a Core, network: Option<&'a NetworkId>, text: &str) -> Result<(NetworkId, &'a Remote), Failure> {
    let remotes = || {
        selected(core, network).into_iter().flatten().flat_map(|m| {
            let remotes = m.configuration.iter().flat_map(|configuration| configuration.remotes().values());
            remotes.map(|remote| (m.record.network.clone(), remote))
        })
    };
    selected(core, network).map(drop)?;
    let exact = |remote: &Remote| remote.host.as_str() == text || remote.address.to_string() == text;
    if let Some(found) = remotes().find(|(_, remote)| exact(remote)) {
        return Ok(found);
    }
    let named: Vec<_> = remotes().filter(|(_, remote)| remote.name == text).collect();
    let first = named.first().cloned();
    let other = first.as_ref().and_then(|(_, a)| named.iter().find(|(_, b)| a.host != b.host));
    match (first, other) {
        // In several networks it is one host all the same.
        (Some(found), None) => Ok(found),
        (Some((_, a)), Some((_, b))) => Err(Failure::new(
            Kind::Conflict,
            format!("several peers are named {text}: {} and {}; use the host id or the address", a.host, b.host),
        )),
        (None, _) => Err(Failure::new(Kind::NotFound, format!("no peer {text}; `cladnet-agent peers` lists them"))),
    }
}

/// A socket to ping from.
pub(super) fn source(core: &Core, network: &NetworkId) -> Result<Source, Failure> {
    let membership = core.memberships.get(network).ok_or_else(|| unknown(network))?;
    let address = membership.configuration.as_ref().and_then(|c| c.settings().address).filter(|_| membership.running);
    let address = address
        .ok_or_else(|| Failure::new(Kind::Conflict, format!("{network} is not up; see `cladnet-agent status`")))?;
    Source::open(address).map_err(|error| {
        Failure::new(
            Kind::Failed,
            format!("cannot open an ICMP socket ({}); the agent needs CAP_NET_RAW", chain(&error)),
        )
    })
}

fn unknown(network: &NetworkId) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("this host is not in network {network}; `cladnet-agent status` lists those it is in"),
    )
}
