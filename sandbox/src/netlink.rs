//! Links, addresses and routes of the caller's network namespace, over netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::{Doing, Result};

/// Netlink of one namespace.
pub(crate) struct Links {
    handle: Handle,
}

/// The far end of a virtual cable.
pub(crate) struct CableEnd<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a std::fs::File,
    pub(crate) mac_address: Option<[u8; 6]>,
}

impl Links {
    /// Runs requests in the namespace of the calling thread, which must not be a thread of an async runtime.
    pub(crate) fn run<T>(work: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.doing(|| "start a runtime for netlink".into())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().doing(|| "open netlink".into())?;
            tokio::spawn(connection);
            work(&Self { handle }).await
        })
    }

    pub(crate) async fn index(&self, name: &str) -> Result<u32> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        let link = links.try_next().await.doing(|| format!("find interface {name}"))?;
        let index = link.map(|link: LinkMessage| link.header.index);
        index.ok_or(rtnetlink::Error::RequestFailed).doing(|| format!("find interface {name}"))
    }

    pub(crate) async fn add_bridge(&self, name: &str) -> Result<()> {
        // IPv6 neighbour discovery must work at once, without a querier.
        let bridge = LinkBridge::new(name).mcast_snooping(false).up().build();
        self.handle.link().add(bridge).execute().await.doing(|| format!("add bridge {name}"))
    }

    /// Adds a pair of virtual Ethernet interfaces: `name` here, the other end in another namespace. Both are down.
    pub(crate) async fn add_cable(&self, name: &str, end: &CableEnd<'_>) -> Result<()> {
        let mut far = LinkMessageBuilder::<LinkUnspec>::new().name(end.name).setns_by_fd(end.namespace.as_raw_fd());
        if let Some(mac) = end.mac_address {
            far = far.address(mac.to_vec());
        }
        let near = LinkVeth::new(name, end.name).set_info_data(InfoData::Veth(InfoVeth::Peer(far.build()))).build();
        self.handle.link().add(near).execute().await.doing(|| format!("add the cable {name}"))
    }

    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let index = self.index(name).await?;
        self.handle.link().del(index).execute().await.doing(|| format!("delete interface {name}"))
    }

    pub(crate) async fn plug_in(&self, port: &str, bridge: &str) -> Result<()> {
        let (port_index, bridge_index) = (self.index(port).await?, self.index(bridge).await?);
        let change = LinkUnspec::new_with_index(port_index).controller(bridge_index).up().build();
        self.handle.link().change(change).execute().await.doing(|| format!("plug {port} into {bridge}"))
    }

    pub(crate) async fn set_up(&self, name: &str) -> Result<()> {
        let change = LinkUnspec::new_with_index(self.index(name).await?).up().build();
        self.handle.link().change(change).execute().await.doing(|| format!("set {name} up"))
    }

    pub(crate) async fn set_queue_length(&self, name: &str, packets: u32) -> Result<()> {
        let change = LinkUnspec::new_with_index(self.index(name).await?).txqueuelen(packets).build();
        self.handle.link().change(change).execute().await.doing(|| format!("set the queue of {name}"))
    }

    /// Makes the kernel cut super-packets before it gives them to an interface.
    pub(crate) async fn cut_super_packets(&self, name: &str) -> Result<()> {
        let index = self.index(name).await?;
        let one = LinkAttribute::GsoMaxSegs(1);
        let change = LinkUnspec::new_with_index(index).append_extra_attribute(one).build();
        self.handle.link().change(change).execute().await.doing(|| format!("cut the packets of {name}"))
    }

    /// Keeps a link without neighbours from getting a link-local address, and so from talking to nobody.
    pub(crate) async fn forgo_link_local(&self, name: &str) -> Result<()> {
        if !std::fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
            return Ok(());
        }
        let no_addresses = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let index = self.index(name).await?;
        let change = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_addresses]))
            .build();
        self.handle.link().change(change).execute().await.doing(|| format!("configure IPv6 of {name}"))
    }

    /// Adds an address whose subnet is on the link.
    pub(crate) async fn add_address(&self, name: &str, address: IpAddr, prefix_length: u8) -> Result<()> {
        self.add_address_with(name, address, prefix_length, AddressFlags::empty()).await
    }

    /// Adds an address of which only the gateway is on the link: the rest of its subnet is reached through that.
    pub(crate) async fn add_address_behind(&self, gateway: IpAddr, name: &str, address: IpNet) -> Result<()> {
        let (own, prefix_length) = (address.addr(), address.prefix_len());
        self.add_address_with(name, own, prefix_length, AddressFlags::Noprefixroute).await?;
        self.add_route(gateway.into(), name, None).await?;
        self.add_route(address.trunc(), name, Some(gateway)).await
    }

    /// It is usable at once (no duplicate address detection).
    async fn add_address_with(
        &self,
        name: &str,
        address: IpAddr,
        prefix_length: u8,
        mut flags: AddressFlags,
    ) -> Result<()> {
        let index = self.index(name).await?;
        let mut request = self.handle.address().add(index, address, prefix_length);
        let message = request.message_mut();
        if address.is_ipv6() {
            message.header.flags |= AddressHeaderFlags::Nodad;
            flags |= AddressFlags::Nodad;
        }
        message.attributes.push(AddressAttribute::Flags(flags));
        request.execute().await.doing(|| format!("add {address}/{prefix_length} to {name}"))
    }

    /// Adds a route over an interface, to a gateway if there is one.
    pub(crate) async fn add_route(&self, to: IpNet, interface: &str, gateway: Option<IpAddr>) -> Result<()> {
        let index = self.index(interface).await?;
        let message: RouteMessage = match (to, gateway) {
            (IpNet::V4(to), Some(IpAddr::V4(gateway))) => {
                let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index);
                route.destination_prefix(to.addr(), to.prefix_len()).build()
            }
            (IpNet::V4(to), _) => {
                // What is on the link may be a gateway.
                let route = RouteMessageBuilder::<Ipv4Addr>::new().scope(RouteScope::Link).output_interface(index);
                route.destination_prefix(to.addr(), to.prefix_len()).build()
            }
            (IpNet::V6(to), Some(IpAddr::V6(gateway))) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(index);
                route.destination_prefix(to.addr(), to.prefix_len()).build()
            }
            (IpNet::V6(to), _) => {
                let route = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index);
                route.destination_prefix(to.addr(), to.prefix_len()).build()
            }
        };
        self.handle.route().add(message).execute().await.doing(|| format!("add a route to {to} over {interface}"))
    }

    /// Every prefix that an address or a route of this namespace covers, default routes aside.
    pub(crate) async fn prefixes_in_use(&self) -> Result<Vec<IpNet>> {
        use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<RouteMessage> =
            self.handle.route().get(all).execute().try_collect().await.doing(|| "list routes".into())?;
        let destination = |route: &RouteMessage| {
            let length = route.header.destination_prefix_length;
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => IpNet::new((*address).into(), length).ok(),
                _ => None,
            })
        };
        Ok(routes.iter().filter_map(destination).filter(|prefix| prefix.prefix_len() > 0).collect())
    }
}
