//! The subnets behind peers and behind this host, over all memberships: which are used, and what the host does for them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use cladnet_model::{DesiredState, NetworkId, Scope, path::same_vpc};
use ipnet::{IpNet, Ipv4Net};
use tracing::{info, warn};

use super::{Agent, core::Core, membership::Membership};
use crate::{
    configuration::{Configuration, Remote},
    failure::chain,
    forwarding::{Gateway, Permission},
    subnets::{self, Network, Peer},
};

/// What problems with subnets are kept under.
const LEFT_OUT: &str = "subnet of ";
const FORWARDING: &str = "forwarding ";

/// Why forwarding is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The service said something: the host itself has not changed.
    News,
    /// Anything of the host may have changed.
    Review,
}

impl Agent {
    /// Decides anew which subnets behind peers are used, and tells whose interfaces change by it.
    pub(super) async fn settle_subnets(&self, core: &mut Core) -> BTreeSet<NetworkId> {
        let networks: Vec<Network<'_>> = core.memberships.values().filter_map(network).collect();
        let is_needed = networks.iter().any(|network| network.peers.iter().any(|peer| !peer.subnets.is_empty()));
        let mut routes = Vec::new();
        if is_needed {
            match self.netlink.routes().await {
                Ok(all) => routes.extend(all.into_iter().filter(|route| !route.leads_into(|name| self.is_ours(name)))),
                Err(error) => {
                    // What is used now goes on being used.
                    warn!(error = chain(&error), "routes cannot be read, subnets stay as they are");
                    return BTreeSet::new();
                }
            }
        }
        let mut accepted = subnets::accept(&routes, &self.service_addresses(), &networks);
        drop(networks);
        let mut problems = Vec::new();
        let mut changed = BTreeSet::new();
        for (id, membership) in &mut core.memberships {
            let accepted = accepted.remove(id).unwrap_or_default();
            problems.extend(
                accepted.problems.iter().map(|(prefix, text)| (format!("{LEFT_OUT}{id} {prefix}"), text.clone())),
            );
            if membership.subnets != accepted {
                membership.subnets = accepted;
                changed.insert(id.clone());
            }
        }
        tell(core, LEFT_OUT, problems);
        changed
    }

    /// Has the host forward to the subnets behind it, and to no others.
    pub(super) async fn forward(&self, core: &mut Core, occasion: Occasion) {
        let gateways: Vec<Gateway> = core.memberships.values().filter_map(gateway).collect();
        let permission =
            Permission { may_set: self.config.forwarding.may_set, keeps_sources: self.config.forwarding.keeps_sources };
        let is_ours = |name: &str| self.is_ours(name);
        let mut forwarder = self.forwarder.lock().await;
        if occasion == Occasion::News && forwarder.serves(&gateways) {
            return;
        }
        let problems = forwarder.settle(&self.netlink, gateways, permission, is_ours).await;
        tell(core, FORWARDING, problems.into_iter().map(|text| (format!("{FORWARDING}{text}"), text)).collect());
    }

    /// Where the services are, which this host must reach without any network. Names as they were resolved last; an address
    /// needs no resolving.
    pub(super) fn service_addresses(&self) -> BTreeSet<IpAddr> {
        let resolved: Vec<_> = self.facts.borrow().services.iter().map(SocketAddr::ip).collect();
        let services = self.services.borrow();
        let written = services.iter().filter_map(|service| service.host().parse().ok());
        written.chain(resolved).collect()
    }

    fn is_ours(&self, interface: &str) -> bool {
        self.config.interface_prefix.names(interface)
    }
}

/// Replaces the problems of a kind. Each is logged when it is new, and when it is over.
fn tell(core: &mut Core, kind: &str, problems: Vec<(String, String)>) {
    let is_over = |about: &String| about.starts_with(kind) && !problems.iter().any(|(now, _)| now == about);
    for about in core.problems.keys().filter(|about| is_over(about)).cloned().collect::<Vec<_>>() {
        if let Some(problem) = core.problems.remove(&about) {
            info!(problem, "this is over");
        }
    }
    for (about, problem) in problems {
        if core.problems.get(&about) != Some(&problem) {
            warn!(problem, "subnets do not all work");
            core.problems.insert(about, problem);
        }
    }
}

/// A membership whose interface is up, or is to be.
fn network(membership: &Membership) -> Option<Network<'_>> {
    let configuration = membership.configuration.as_ref()?;
    let settings = configuration.settings();
    let is_up = membership.record.wish == DesiredState::Up && settings.desired_state == DesiredState::Up;
    settings.address.filter(|_| is_up)?;
    let remotes = configuration.remotes().values().filter(|remote| remote.desired_state == DesiredState::Up);
    Some(Network {
        id: &membership.record.network,
        space: settings.address_space.trunc(),
        own: &settings.subnets,
        peers: remotes.map(|remote| peer(configuration, remote)).collect(),
    })
}

fn peer<'a>(configuration: &Configuration, remote: &'a Remote) -> Peer<'a> {
    let is_in_our_vpc = same_vpc(&configuration.settings().location, &remote.location).is_ok();
    let is_used = |scope: Scope| scope != Scope::Private || is_in_our_vpc;
    Peer {
        host: &remote.host,
        name: &remote.name,
        subnets: &remote.subnets,
        is_in_our_vpc,
        endpoints: remote.endpoints.iter().filter(|at| is_used(at.scope)).map(|at| at.address).collect(),
    }
}

/// What a membership whose interface is up has this host forward.
fn gateway(membership: &Membership) -> Option<Gateway> {
    let settings = membership.configuration.as_ref().filter(|_| membership.running)?.settings();
    let behind_others = membership.subnets.by_host.values().flatten().filter_map(|prefix| match prefix {
        IpNet::V4(prefix) => Some(*prefix),
        IpNet::V6(_) => None,
    });
    let sources: Vec<Ipv4Net> = std::iter::once(settings.address_space.trunc()).chain(behind_others).collect();
    let gateway =
        Gateway { interface: membership.record.interface.clone(), sources, subnets: settings.subnets.clone() };
    (!gateway.subnets.is_empty()).then_some(gateway)
}
