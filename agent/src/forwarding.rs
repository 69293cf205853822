//! What a host before subnets does: it forwards, and translates addresses where it is asked to. Owns the nftables table
//! `ip cladnet` and nothing else of the kernel's rules; which packets from peers come this far is the packet filter's.

mod nft;
mod ruleset;

use ipnet::{IpNet, Ipv4Net};
use tracing::{debug, info, warn};

use crate::{
    failure::chain,
    netlink::{Netlink, NetlinkError, Route},
    subnets::Subnet,
};
use nft::NftError;

/// The subnets that one network reaches through this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub interface: String,
    /// Where packets to the subnets come from: the network's address space, and what is behind its peers.
    pub sources: Vec<Ipv4Net>,
    pub subnets: Vec<Subnet>,
}

/// What was done last.
#[derive(Debug, Default)]
pub(crate) struct Forwarder {
    /// The ruleset in force; none before the first attempt and after one that failed.
    applied: Option<String>,
    gateways: Vec<Gateway>,
}

/// What the agent may do to the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission {
    /// Turn forwarding on.
    pub may_set: bool,
    /// Leave sources as they are, whatever the rules of the network say.
    pub keeps_sources: bool,
}

impl Forwarder {
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
        if self.is_gateway() {
            let checked = check(netlink, &self.gateways, permission, is_ours).await;
            problems.extend(checked.unwrap_or_else(|error| vec![chain(&error)]));
        }
        problems
    }

    /// Takes the table away.
    pub(crate) async fn end(&mut self) {
        self.gateways.clear();
        if let Err(error) = self.apply(false).await {
            warn!(error = chain(&error), "nftables table not removed");
        }
    }

    /// Whether somebody else may undo what was done, so that it must be looked at again.
    pub(crate) fn is_gateway(&self) -> bool {
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
}

/// Whether every interface on the way forwards; turns it on if that is allowed.
async fn check(
    netlink: &Netlink,
    gateways: &[Gateway],
    permission: Permission,
    is_ours: impl Fn(&str) -> bool,
) -> Result<Vec<String>, NetlinkError> {
    let (routes, links) = (netlink.routes().await?, netlink.links().await?);
    let mut problems = Vec::new();
    let mut interfaces: Vec<&str> = Vec::new();
    for gateway in gateways {
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
    for name in interfaces {
        if links.iter().any(|link| link.name == name && link.forwards) {
            continue;
        }
        match permission.may_set {
            true => {
                netlink.set_forwarding(name).await?;
                info!(interface = name, "IPv4 forwarding turned on");
            }
            false => problems.push(format!(
                "others reach subnets through this host, and IPv4 forwarding is off on {name}; run \
                 `sysctl -w net.ipv4.ip_forward=1`, or let the agent do it with `set_forwarding = true` in its configuration"
            )),
        }
    }
    Ok(problems)
}

/// The interfaces through which a subnet is reached: that of the closest route that holds it, and those of the routes to
/// parts of it.
fn ways(routes: &[Route], subnet: Ipv4Net, is_ours: impl Fn(&str) -> bool) -> Vec<&str> {
    let subnet = IpNet::V4(subnet);
    let own = || routes.iter().filter(|route| !is_ours(&route.interface));
    let holding = own().filter(|route| route.destination.contains(&subnet));
    let closest = holding.max_by_key(|route| (route.destination.prefix_len(), std::cmp::Reverse(route.metric)));
    let parts = own().filter(|route| subnet.contains(&route.destination));
    closest.into_iter().chain(parts).map(|route| route.interface.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, interface: &str, metric: u32) -> Route {
        let destination = destination.parse().expect("a prefix");
        Route { destination, gateway: None, interface: interface.into(), metric, mtu: None }
    }

    #[test]
    fn a_subnet_is_reached_by_the_closest_route_and_those_to_its_parts() {
        let routes = [
            route("0.0.0.0/0", "eth0", 0),
            route("0.0.0.0/0", "eth9", 100),
            route("10.1.2.0/24", "eth1", 0),
            route("10.1.0.0/16", "cbnet0", 0),
        ];
        let ways =
            |subnet: &str| ways(&routes, subnet.parse().expect("a prefix"), |name| name.starts_with("cbnet")).join(" ");
        assert_eq!(ways("10.1.0.0/16"), "eth0 eth1");
        assert_eq!(ways("10.1.2.128/25"), "eth1");
    }
}
