//! What a host before subnets does: it forwards, and translates addresses where it is asked to. Owns the nftables table
//! `ip cladnet` and nothing else of the kernel's rules, and the forwarding that it turned on itself; which packets from peers
//! come this far is the packet filter's.

mod nft;
mod ruleset;
mod turned_on;

use std::io;

use ipnet::{IpNet, Ipv4Net};
use tokio::task::block_in_place;
use tracing::{debug, info, warn};

use crate::{
    failure::chain,
    netlink::{Forwarding, Link, Netlink, NetlinkError, Route, host_forwards},
    state::{StateDir, StateError},
    subnets::Subnet,
};
use nft::NftError;
pub(crate) use turned_on::TurnedOn;

/// The subnets that one network reaches through this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub interface: String,
    /// Where packets to the subnets come from: the network's address space, and what is behind its peers.
    pub sources: Vec<Ipv4Net>,
    pub subnets: Vec<Subnet>,
}

/// What was done last.
#[derive(Debug)]
pub(crate) struct Forwarder {
    /// The ruleset in force; none before the first attempt and after one that failed.
    applied: Option<String>,
    gateways: Vec<Gateway>,
    turned_on: TurnedOn,
    /// As it is on disk; none if that is not known.
    saved: Option<TurnedOn>,
    state: StateDir,
}

/// What the agent may do to the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission {
    /// Turn forwarding on.
    pub may_set: bool,
    /// Leave sources as they are, whatever the rules of the network say.
    pub keeps_sources: bool,
}

/// Why forwarding is not as it should be.
#[derive(Debug, thiserror::Error)]
enum ForwardingError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("cannot tell whether the host forwards")]
    Host(#[source] io::Error),
    #[error("cannot remember where forwarding was turned on")]
    Save(#[source] StateError),
}

impl Forwarder {
    /// Knows what an agent before this one has turned on.
    pub(crate) fn load(state: &StateDir) -> Self {
        let boot_id = turned_on::boot_id().unwrap_or_else(|error| {
            warn!(%error, "the id of this boot cannot be read");
            String::new()
        });
        let saved = state.forwarding().unwrap_or_else(|error| {
            warn!(error = chain(&error), "where forwarding was turned on is not known; there it stays on");
            None
        });
        let turned_on =
            saved.clone().map_or_else(|| TurnedOn::new(boot_id.clone()), |saved| saved.since(boot_id.clone()));
        Self { applied: None, gateways: Vec::new(), turned_on, saved, state: state.clone() }
    }

    /// Makes the host forward for these gateways and for no others. What does not work is the answer. Safe to repeat:
    /// a ruleset is replaced as a whole, in one transaction, and only if it is another one.
    pub(crate) async fn settle(
        &mut self,
        netlink: &Netlink,
        gateways: Vec<Gateway>,
        permission: Permission,
        is_ours: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        self.gateways = gateways;
        let mut problems = Vec::new();
        if let Err(error) = self.apply(permission.keeps_sources).await {
            let what = "addresses of packets to the subnets behind this host are not translated";
            problems.push(format!("{what}: {}", chain(&error)));
        }
        if self.has_work() {
            let checked = self.check(netlink, permission, is_ours).await;
            problems.extend(checked.unwrap_or_else(|error| vec![chain(&error)]));
        }
        problems
    }

    /// Has the host forward for nobody. The table stays: without its interfaces it does nothing, but without it the kernel
    /// would reset the flows that it translates, and the next agent goes on with them.
    pub(crate) async fn end(&mut self, netlink: &Netlink) {
        let ended = match netlink.links().await {
            Ok(links) => self.turn_off(netlink, &[], &links).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            warn!(error = chain(&error), "IPv4 forwarding not turned off again");
        }
    }

    /// Whether there is something that somebody else may undo, or that is to be undone, so that it must be looked at again.
    pub(crate) fn has_work(&self) -> bool {
        self.is_gateway() || !self.turned_on.is_empty()
    }

    fn is_gateway(&self) -> bool {
        !self.gateways.is_empty()
    }

    /// Whether all was done for these gateways, when it was looked at last.
    pub(crate) fn serves(&self, gateways: &[Gateway]) -> bool {
        self.applied.is_some() && self.gateways == gateways
    }

    async fn apply(&mut self, keeps_sources: bool) -> Result<(), NftError> {
        let wanted = ruleset::ruleset(&self.gateways, keeps_sources);
        if self.applied.as_ref() == Some(&wanted) && (!self.is_gateway() || nft::has_table().await?) {
            return Ok(());
        }
        self.applied = None;
        match nft::apply(&wanted).await {
            // There is no table to take away.
            Err(NftError::Missing) if !self.is_gateway() => {}
            applied => applied?,
        }
        debug!(gateways = self.gateways.len(), "nftables table replaced");
        self.applied = Some(wanted);
        Ok(())
    }

    /// Whether every interface on the way forwards; turns it on if that is allowed, and off where it was turned on for
    /// nothing that is left.
    async fn check(
        &mut self,
        netlink: &Netlink,
        permission: Permission,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, ForwardingError> {
        let (routes, links) = (netlink.routes().await?, netlink.links().await?);
        let mut problems = Vec::new();
        let gateways = self.gateways.clone();
        let mut interfaces: Vec<&str> = Vec::new();
        for gateway in &gateways {
            interfaces.push(&gateway.interface);
            for subnet in &gateway.subnets {
                let ways = ways(&routes, subnet.real, &is_ours);
                if ways.is_empty() {
                    let real = subnet.real;
                    problems.push(format!("others reach {real} through this host, which has no route to it; add one"));
                }
                interfaces.extend(ways);
            }
        }
        interfaces.sort_unstable();
        interfaces.dedup();
        self.turn_off(netlink, &interfaces, &links).await?;
        for name in interfaces {
            let link = links.iter().find(|link| link.name == name);
            match link {
                Some(link) if link.forwards => {}
                Some(link) if permission.may_set => self.turn_on(netlink, link).await?,
                _ => problems.push(format!(
                    "others reach subnets through this host, and IPv4 forwarding is off on {name}; run \
                     `sysctl -w net.ipv4.ip_forward=1`, or let the agent do it with `set_forwarding = true` in its configuration"
                )),
            }
        }
        Ok(problems)
    }

    /// It is remembered first: what is on disk may say too much, which is found out, but never too little.
    async fn turn_on(&mut self, netlink: &Netlink, link: &Link) -> Result<(), ForwardingError> {
        self.turned_on.insert(link);
        if let Err(error) = self.save() {
            self.turned_on.remove(link);
            return Err(error);
        }
        netlink.set_forwarding(&link.name, Forwarding::On).await?;
        info!(interface = link.name, "IPv4 forwarding turned on");
        Ok(())
    }

    /// Where it was turned on, but for these interfaces. Whoever has had the whole host forward since then needs it.
    async fn turn_off(&mut self, netlink: &Netlink, needed: &[&str], links: &[Link]) -> Result<(), ForwardingError> {
        self.turned_on.retain(links);
        for link in self.turned_on.beyond(needed, links) {
            if host_forwards().map_err(ForwardingError::Host)? {
                info!(interface = link.name, "IPv4 forwarding stays on: it is on for the whole host");
            } else {
                netlink.set_forwarding(&link.name, Forwarding::Off).await?;
                info!(interface = link.name, "IPv4 forwarding turned off again");
            }
            self.turned_on.remove(link);
        }
        self.save()
    }

    fn save(&mut self) -> Result<(), ForwardingError> {
        let is_known = self.saved.as_ref().map_or(self.turned_on.is_empty(), |saved| *saved == self.turned_on);
        if !is_known {
            block_in_place(|| self.state.save_forwarding(&self.turned_on)).map_err(ForwardingError::Save)?;
            self.saved = Some(self.turned_on.clone());
        }
        Ok(())
    }
}

/// The interfaces through which a subnet is reached: that of the closest route that holds it, and those of the routes to
/// parts of it.
fn ways(routes: &[Route], subnet: Ipv4Net, is_ours: impl Fn(&str) -> bool) -> Vec<&str> {
    let subnet = IpNet::V4(subnet);
    let own = || routes.iter().filter(|route| !route.leads_into(&is_ours));
    let holding = own().filter(|route| route.destination.contains(&subnet));
    let closest = holding.max_by_key(|route| (route.destination.prefix_len(), std::cmp::Reverse(route.metric)));
    let parts = own().filter(|route| subnet.contains(&route.destination));
    closest.into_iter().chain(parts).filter_map(|route| route.interface.as_deref()).collect()
}

#[cfg(test)]
mod tests;
