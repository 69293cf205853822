//! The interface that the host reaches the world through: host facts come from it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Netlink, NetlinkError, Route};

/// The interface of the default route and what it is addressed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultInterface {
    pub name: String,
    pub index: u32,
    pub mtu: u32,
    pub gateway: Option<IpAddr>,
    /// Global addresses, IPv4 first.
    pub addresses: Vec<IpNet>,
}

impl Netlink {
    /// By the best IPv4 default route, or the best IPv6 one where there is no IPv4; none on a host without a way out.
    pub async fn default_interface(&self) -> Result<Option<DefaultInterface>, NetlinkError> {
        let routes = self.routes().await?;
        let Some((route, interface)) = best_default(&routes) else { return Ok(None) };
        let Some(link) = self.link(interface).await? else { return Ok(None) };
        let mut addresses: Vec<IpNet> = self
            .addresses()
            .await?
            .into_iter()
            .filter(|address| address.interface == link.index && address.is_global)
            .map(|address| address.address)
            .collect();
        // Stable: the kernel's order, primary before secondary, stays within a family.
        addresses.sort_by_key(|address| address.addr().is_ipv6());
        Ok(Some(DefaultInterface {
            name: link.name,
            index: link.index,
            mtu: link.mtu,
            gateway: route.gateway,
            addresses,
        }))
    }
}

/// Routes come ordered by destination and metric, IPv4 before IPv6.
fn best_default(routes: &[Route]) -> Option<(&Route, &str)> {
    routes.iter().filter(|route| route.is_default()).find_map(|route| Some((route, route.interface.as_deref()?)))
}
