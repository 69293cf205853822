//! MTUs that the kernel keeps: of an interface, and of single routes through it. TCP's segments and the messages "too
//! big" follow from them.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::{Link, Netlink, NetlinkError, errno, failed};

/// Of the routes that the kernel makes for IPv6 addresses (`IP6_RT_PRIO_ADDRCONF`).
const V6_CONNECTED_METRIC: u32 = 256;

impl Netlink {
    pub async fn set_mtu(&self, name: &str, mtu: u16) -> Result<(), NetlinkError> {
        let link = self.existing(name).await?;
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).mtu(mtu.into()).build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| failed(format!("give the interface {name} an MTU of {mtu}"), &error))
    }

    /// Gives the route that an interface has because of its address an MTU of its own. The kernel takes it away with
    /// the address, as it would have done before.
    pub async fn set_connected_mtu(&self, name: &str, address: IpNet, mtu: u16) -> Result<(), NetlinkError> {
        let link = self.existing(name).await?;
        let mut route = route(&link, address.trunc(), Some(mtu));
        route.header.protocol = RouteProtocol::Kernel;
        route.attributes.push(RouteAttribute::PrefSource(address.addr().into()));
        if address.addr().is_ipv6() {
            route.attributes.push(RouteAttribute::Priority(V6_CONNECTED_METRIC));
        }
        self.replace_route(name, address.trunc(), route).await
    }

    /// A route through an interface with an MTU of its own, in place of the one there may be.
    pub async fn set_route_mtu(&self, name: &str, destination: IpNet, mtu: u16) -> Result<(), NetlinkError> {
        let link = self.existing(name).await?;
        self.replace_route(name, destination, route(&link, destination, Some(mtu))).await
    }

    /// Takes such a route away; content if there is none.
    pub async fn remove_route(&self, name: &str, destination: IpNet) -> Result<(), NetlinkError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        match self.handle.route().del(route(&link, destination, None)).execute().await {
            Err(error) if errno(&error) != Some(libc::ESRCH) => {
                Err(failed(format!("remove the route to {destination} through {name}"), &error))
            }
            _ => Ok(()),
        }
    }

    async fn replace_route(&self, name: &str, destination: IpNet, route: RouteMessage) -> Result<(), NetlinkError> {
        let replaced = self.handle.route().add(route).replace().execute().await;
        replaced.map_err(|error| failed(format!("set the MTU of the route to {destination} through {name}"), &error))
    }

    pub(super) async fn existing(&self, name: &str) -> Result<Link, NetlinkError> {
        self.link(name).await?.ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))
    }
}

pub(super) fn route(link: &Link, destination: IpNet, mtu: Option<u16>) -> RouteMessage {
    let mut route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.addr(), destination.prefix_len())
        .expect("a prefix is never longer than its address")
        .output_interface(link.index)
        .build();
    if destination.addr().is_ipv4() {
        // There is no gateway behind a tunnel.
        route.header.scope = RouteScope::Link;
    }
    let metrics = mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu.into())]));
    route.attributes.extend(metrics);
    route
}
