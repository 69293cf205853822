//! Builds the router of a VPC in its namespace: bridges, cables to machines and peers, addresses, routes.
//!
//! What may pass is [`crate::rules`]' business; the interface on the WAN is made by [`crate::wan`].

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::Result;
use crate::netlink::{CableEnd, Links};
use crate::rules::WAN;
use crate::state::{Machine, Place, Router, State, host_of};
use crate::topology::{Vpc, gateway};
use crate::{metadata, namespace};

/// A VM's only interface.
pub(crate) const VM_INTERFACE: &str = "eth0";
/// The interface of a machine on the internet that leads to the host.
pub(crate) const HOST_INTERFACE: &str = "host0";

/// Packets that wait for the WAN's process; bursts of several segmented super-packets must fit.
const WAN_QUEUE: u32 = 1000;

pub(crate) const EVERYTHING_V4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
pub(crate) const EVERYTHING_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

const ROUTER_SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    // Bridged packets are not routed ones: no security group inside a subnet.
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
];

/// Builds the router; its interface on the WAN must be there already.
pub(crate) fn build(namespace: &File, vpc: &Vpc, router: &Router) -> Result<()> {
    namespace::set_sysctls(namespace, ROUTER_SYSCTLS)?;
    if let Some(seconds) = vpc.udp_timeout_seconds.map(|seconds| seconds.to_string()) {
        let timeouts = [
            ("netfilter/nf_conntrack_udp_timeout", &*seconds),
            ("netfilter/nf_conntrack_udp_timeout_stream", &*seconds),
        ];
        namespace::set_sysctls(namespace, &timeouts)?;
    }
    namespace::configure(namespace, async |links| {
        links.set_up("lo").await?;
        for address in metadata::ADDRESSES {
            links.add_address("lo", address.into(), 32).await?;
        }
        for (index, subnet) in vpc.subnets.iter().enumerate() {
            let bridge = bridge(index);
            links.add_bridge(&bridge).await?;
            if let Some(gateway) = gateway(&subnet.cidr) {
                links.add_address(&bridge, gateway.into(), subnet.cidr.prefix_len()).await?;
            }
            if let Some(prefix) = vpc.ipv6_subnet(index) {
                links.add_address(&bridge, host_of(prefix, 1).into(), 64).await?;
            }
        }
        join_wan(links, WAN, router.public_address).await?;
        match vpc.ipv6 {
            Some(_) => links.add_route(EVERYTHING_V6, WAN, None).await,
            None => Ok(()),
        }
    })
}

/// Gives an interface on the WAN its address and makes it the way to everywhere.
pub(crate) async fn join_wan(links: &Links, name: &str, address: Ipv4Addr) -> Result<()> {
    links.set_queue_length(name, WAN_QUEUE).await?;
    links.forgo_link_local(name).await?;
    links.set_up(name).await?;
    links.add_address(name, address.into(), 32).await?;
    links.add_route(EVERYTHING_V4, name, None).await
}

/// Joins a VM to the router of its VPC. Its only neighbour is the gateway, as in the clouds: namespaces share the kernel's
/// table of neighbours, which the pairs of some forty machines would fill, the host's own with them.
pub(crate) fn attach(state: &State, router: &File, vm: &Machine, vm_namespace: &File) -> Result<()> {
    let Place::Vpc { vpc, subnet, private_address, .. } = &vm.place else { return Ok(()) };
    let vpc = state.topology.vpc(vpc).expect("the record is consistent");
    let (index, subnet) = vpc.subnet(subnet).expect("the record is consistent");
    let end = CableEnd { name: VM_INTERFACE, namespace: vm_namespace, mac_address: Some(vm.mac_address()) };
    namespace::configure(router, async |links| {
        links.add_cable(&vm.port(), &end).await?;
        links.plug_in(&vm.port(), &bridge(index)).await
    })?;
    namespace::configure(vm_namespace, async |links| {
        links.set_up("lo").await?;
        links.set_up(VM_INTERFACE).await?;
        if let Some(gateway) = gateway(&subnet.cidr).map(IpAddr::V4) {
            let address = IpNet::new_assert((*private_address).into(), subnet.cidr.prefix_len());
            links.add_address_behind(gateway, VM_INTERFACE, address).await?;
            links.add_route(EVERYTHING_V4, VM_INTERFACE, Some(gateway)).await?;
        }
        if let (Some(address), Some(prefix)) = (vm.ipv6_address, vpc.ipv6_subnet(index)) {
            let gateway = host_of(prefix, 1).into();
            links.add_address_behind(gateway, VM_INTERFACE, IpNet::new_assert(address.into(), 64)).await?;
            links.add_route(EVERYTHING_V6, VM_INTERFACE, Some(gateway)).await?;
        }
        Ok(())
    })
}

/// Lays a cable between the routers of two peered VPCs, with routes to each other.
pub(crate) fn peer(index: usize, ends: [(&Vpc, &File); 2]) -> Result<()> {
    let interface = format!("peer{index}");
    let [(_, near), (_, far)] = ends;
    let far_end = CableEnd { name: &interface, namespace: far, mac_address: None };
    namespace::configure(near, async |links| links.add_cable(&interface, &far_end).await)?;
    let link_local = |end: usize| -> (IpAddr, IpAddr) {
        let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(169, 254, 0, 0)) + 4 * index as u32 + 1 + end as u32);
        (v4.into(), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1 + end as u16).into())
    };
    for (end, (_, namespace)) in ends.iter().enumerate() {
        let (v4, v6) = link_local(end);
        let (gateway_v4, gateway_v6) = link_local(1 - end);
        let (other, _) = ends[1 - end];
        namespace::configure(namespace, async |links| {
            links.set_up(&interface).await?;
            links.add_address(&interface, v4, 30).await?;
            if ends.iter().any(|(vpc, _)| vpc.ipv6.is_some()) {
                links.add_address(&interface, v6, 64).await?;
            }
            for prefix in other.prefixes() {
                let gateway = if matches!(prefix, IpNet::V4(_)) { gateway_v4 } else { gateway_v6 };
                links.add_route(prefix, &interface, Some(gateway)).await?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn bridge(subnet: usize) -> String {
    format!("sub{subnet}")
}
