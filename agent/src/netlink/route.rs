//! Routes of the host, and whether an address space would take traffic away from one.

use std::{fmt, net::IpAddr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType};

use super::{Netlink, NetlinkError, errno, failed};

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub destination: IpNet,
    pub gateway: Option<IpAddr>,
    /// The name of the interface it leaves through; none where packets are discarded (`blackhole`, `unreachable` and the
    /// like).
    pub interface: Option<String>,
    pub metric: u32,
    /// Its own, if it has one.
    pub mtu: Option<u32>,
}

impl Route {
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }

    /// Whether it leads into an interface that `is_meant` names.
    pub fn leads_into(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.interface.as_deref().is_some_and(is_meant)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{} on {interface}", self.destination),
            None => write!(f, "{} to nowhere", self.destination),
        }
    }
}

impl Netlink {
    /// IPv4 and IPv6; best metric first within a destination.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let links = self.links().await?;
        let name_of = |index| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
        let mut routes = Vec::new();
        for messages in [
            self.route_messages(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()).await?,
            self.route_messages(RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()).await?,
        ] {
            routes.extend(messages.iter().filter_map(|message| route_of(message, name_of)));
        }
        routes.sort_by_key(|route| (route.destination, route.metric));
        Ok(routes)
    }

    async fn route_messages(&self, request: RouteMessage) -> Result<Vec<RouteMessage>, NetlinkError> {
        let _one_at_a_time = self.listing.lock().await;
        match self.handle.route().get(request).execute().try_collect().await {
            // A kernel without that family has no routes of it.
            Err(error) if errno(&error) == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            other => other.map_err(|error| failed("list routes", &error)),
        }
    }
}

/// The host's route that `space` would overlap, if any: the most specific one. Default routes and routes through
/// interfaces that `is_ours` names do not count.
pub fn conflicting_route(routes: &[Route], space: IpNet, is_ours: impl Fn(&str) -> bool) -> Option<&Route> {
    routes
        .iter()
        .filter(|route| !route.is_default() && !route.leads_into(&is_ours))
        .filter(|route| route.destination.contains(&space) || space.contains(&route.destination))
        .max_by_key(|route| route.destination.prefix_len())
}

fn route_of(message: &RouteMessage, name_of: impl Fn(u32) -> Option<String>) -> Option<Route> {
    let discards = match message.header.kind {
        RouteType::Unicast => false,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => true,
        _ => return None,
    };
    let mut table = u32::from(message.header.table);
    let mut address = None;
    let mut gateway = None;
    let mut interface = None;
    let mut metric = 0;
    let mut mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(destination) => address = ip(destination),
            RouteAttribute::Gateway(via) => gateway = ip(via),
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Metrics(metrics) => mtu = metrics.iter().find_map(mtu_of),
            RouteAttribute::MultiPath(hops) => interface = interface.or(hops.first().map(|hop| hop.interface_index)),
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) {
        return None;
    }
    let address = address.or_else(|| unspecified(message.header.address_family))?;
    Some(Route {
        destination: IpNet::new(address, message.header.destination_prefix_length).ok()?,
        gateway,
        interface: if discards { None } else { Some(name_of(interface?)?) },
        metric,
        mtu,
    })
}

fn mtu_of(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A default route carries no destination.
fn unspecified(family: AddressFamily) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => Some(std::net::Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(std::net::Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, interface: &str) -> Route {
        let destination = destination.parse().unwrap();
        Route { destination, gateway: None, interface: Some(interface.into()), metric: 0, mtu: None }
    }

    fn conflict(routes: &[Route], space: &str) -> Option<String> {
        let is_ours = |name: &str| name.starts_with("cbnet");
        conflicting_route(routes, space.parse().unwrap(), is_ours).map(|route| route.destination.to_string())
    }

    #[test]
    fn an_overlap_either_way_is_a_conflict_and_the_closest_is_named() {
        let routes = [route("10.0.0.0/8", "eth0"), route("10.0.3.0/24", "docker0"), route("172.16.0.0/16", "eth0")];
        assert_eq!(conflict(&routes, "10.0.3.128/25"), Some("10.0.3.0/24".into()));
        assert_eq!(conflict(&routes, "10.0.0.0/16"), Some("10.0.3.0/24".into()));
        assert_eq!(conflict(&routes, "10.9.0.0/16"), Some("10.0.0.0/8".into()));
        assert_eq!(conflict(&routes, "192.168.0.0/16"), None);
    }

    #[test]
    fn neither_the_default_route_nor_our_own_interfaces_are_in_the_way() {
        let routes = [route("0.0.0.0/0", "eth0"), route("192.168.7.0/24", "cbnet0")];
        assert_eq!(conflict(&routes, "192.168.7.0/24"), None);
    }
}
