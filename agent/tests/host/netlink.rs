//! Links, addresses and routes, as the kernel really has them.

use std::time::Duration;

use cladnet_agent::netlink::{
    Forwarding, Monitor, Netlink, NetlinkError, SUBNET_METRIC, conflicting_route, host_forwards,
};
use ipnet::IpNet;
use tokio::time::timeout;

use crate::namespace::{cable, ip, isolated};

async fn addresses(netlink: &Netlink, interface: &str) -> Vec<String> {
    let index = netlink.link(interface).await.unwrap().unwrap().index;
    let all = netlink.addresses().await.unwrap();
    let own = all.into_iter().filter(|address| address.interface == index && address.is_global);
    own.map(|address| address.address.to_string()).collect()
}

#[test]
fn an_interface_becomes_what_it_is_configured_to_be() {
    isolated(|| async {
        let netlink = Netlink::connect().unwrap();
        cable("test0");
        netlink.configure("test0", "10.9.0.1/24".parse().unwrap(), 1420).await.unwrap();
        let link = netlink.link("test0").await.unwrap().unwrap();
        assert_eq!((link.mtu, link.up), (1420, true));
        assert_eq!(addresses(&netlink, "test0").await, ["10.9.0.1/24"]);
        let routes = netlink.routes().await.unwrap();
        let connected = routes.iter().find(|route| route.leads_into(|name| name == "test0")).unwrap();
        assert_eq!(connected.destination.to_string(), "10.9.0.0/24");

        // The address space grew, and the host got another address.
        netlink.configure("test0", "10.9.0.7/16".parse().unwrap(), 1380).await.unwrap();
        assert_eq!(addresses(&netlink, "test0").await, ["10.9.0.7/16"]);
        assert_eq!(netlink.link("test0").await.unwrap().unwrap().mtu, 1380);
        netlink.configure("test0", "10.9.0.7/16".parse().unwrap(), 1380).await.unwrap();
        assert_eq!(addresses(&netlink, "test0").await, ["10.9.0.7/16"]);
    });
}

#[test]
fn a_prefix_length_can_change_under_one_address() {
    isolated(|| async {
        let netlink = Netlink::connect().unwrap();
        cable("test0");
        netlink.configure("test0", "10.9.0.1/24".parse().unwrap(), 1420).await.unwrap();
        netlink.configure("test0", "10.9.0.1/16".parse().unwrap(), 1420).await.unwrap();
        assert_eq!(addresses(&netlink, "test0").await, ["10.9.0.1/16"]);
    });
}

#[test]
fn forwarding_is_turned_on_and_off_for_one_interface_alone() {
    isolated(|| async {
        let netlink = Netlink::connect().unwrap();
        cable("test0");
        cable("test1");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        for (forwarding, expected) in [(Forwarding::On, [true, false]), (Forwarding::Off, [false, false])] {
            netlink.set_forwarding("test0", forwarding).await.unwrap();
            for (name, expected) in ["test0", "test1"].into_iter().zip(expected) {
                let told = netlink.link(name).await.unwrap().unwrap().forwards;
                let kernels = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/forwarding")).unwrap();
                assert_eq!((told, kernels.trim() == "1"), (expected, expected), "{name}, {forwarding:?}");
            }
        }
        assert!(!host_forwards().unwrap(), "one interface is not the host");
    });
}

#[test]
fn a_subnet_has_a_route_of_ours_and_nobody_elses_is_removed_with_it() {
    isolated(|| async {
        let netlink = Netlink::connect().unwrap();
        cable("test0");
        netlink.configure("test0", "10.9.0.1/24".parse().unwrap(), 1420).await.unwrap();
        let subnet: IpNet = "10.1.0.0/16".parse().unwrap();
        for mtu in [1420, 1380] {
            netlink.add_subnet("test0", subnet, mtu).await.unwrap();
        }
        ip(&["route", "add", "10.1.0.0/16", "dev", "test0", "metric", "7"]);
        let to_subnet = async || {
            let routes = netlink.routes().await.unwrap().into_iter();
            routes
                .filter(|route| route.destination == subnet)
                .map(|route| (route.metric, route.mtu))
                .collect::<Vec<_>>()
        };
        assert_eq!(to_subnet().await, [(7, None), (SUBNET_METRIC, Some(1380))]);
        netlink.remove_subnet("test0", subnet).await.unwrap();
        netlink.remove_subnet("test0", subnet).await.unwrap();
        assert_eq!(to_subnet().await, [(7, None)]);
    });
}

#[test]
fn a_missing_interface_is_named_and_removing_one_twice_is_fine() {
    isolated(|| async {
        let netlink = Netlink::connect().unwrap();
        let missing = netlink.configure("absent0", "10.9.0.1/24".parse().unwrap(), 1420).await;
        assert!(matches!(missing, Err(NetlinkError::NoInterface(name)) if name == "absent0"));
        cable("test0");
        netlink.remove("test0").await.unwrap();
        netlink.remove("test0").await.unwrap();
        assert_eq!(netlink.link("test0").await.unwrap(), None);
    });
}

#[test]
fn host_facts_come_from_the_default_routes_interface() {
    isolated(|| async {
        let netlink = Netlink::connect().unwrap();
        assert_eq!(netlink.default_interface().await.unwrap(), None);
        for (name, address) in [("first0", "192.0.2.5/24"), ("second0", "198.51.100.5/24")] {
            cable(name);
            ip(&["address", "add", address, "dev", name]);
            ip(&["link", "set", name, "up"]);
        }
        ip(&["address", "add", "2001:db8::5/64", "dev", "second0", "nodad"]);
        ip(&["route", "add", "default", "via", "192.0.2.1", "metric", "200"]);
        ip(&["route", "add", "default", "via", "198.51.100.1", "metric", "100"]);
        let default = netlink.default_interface().await.unwrap().unwrap();
        assert_eq!(default.name, "second0");
        assert_eq!(default.gateway, Some("198.51.100.1".parse().unwrap()));
        let addresses: Vec<String> = default.addresses.iter().map(IpNet::to_string).collect();
        assert_eq!(addresses, ["198.51.100.5/24", "2001:db8::5/64"], "IPv4 first, no link-local address");
    });
}

#[test]
fn an_address_space_that_overlaps_a_route_of_the_host_is_found() {
    isolated(|| async {
        let netlink = Netlink::connect().unwrap();
        cable("vpc0");
        ip(&["address", "add", "10.0.1.5/24", "dev", "vpc0"]);
        ip(&["link", "set", "vpc0", "up"]);
        ip(&["route", "add", "default", "via", "10.0.1.1"]);
        ip(&["route", "add", "10.0.0.0/16", "via", "10.0.1.1"]);
        let discarding = [("blackhole", "10.1"), ("unreachable", "10.2"), ("prohibit", "10.3"), ("throw", "10.4")];
        for (kind, start) in discarding {
            ip(&["route", "add", kind, &format!("{start}.0.0/16")]);
        }
        let routes = netlink.routes().await.unwrap();
        let conflict = |space: &str| {
            let found = conflicting_route(&routes, space.parse().unwrap(), |name| name.starts_with("cbnet"));
            found.map(ToString::to_string)
        };
        assert_eq!(conflict("10.0.7.0/24").as_deref(), Some("10.0.0.0/16 on vpc0"));
        assert_eq!(conflict("10.0.1.0/25").as_deref(), Some("10.0.1.0/24 on vpc0"));
        for (_, start) in discarding {
            assert_eq!(conflict(&format!("{start}.7.0/24")), Some(format!("{start}.0.0/16 to nowhere")));
        }
        assert_eq!(conflict("192.168.7.0/24"), None);
    });
}

#[test]
fn a_change_of_address_is_noticed_and_a_dropped_wait_loses_nothing() {
    isolated(|| async {
        let mut monitor = Monitor::open().unwrap();
        cable("test0");
        assert!(timeout(Duration::from_secs(5), monitor.settled()).await.unwrap());
        ip(&["address", "add", "10.9.0.1/24", "dev", "test0"]);
        let cut_short = timeout(Duration::from_millis(10), monitor.settled()).await;
        assert!(cut_short.is_err());
        assert!(timeout(Duration::from_secs(5), monitor.settled()).await.unwrap());
        let quiet = timeout(Duration::from_millis(200), monitor.settled()).await;
        assert!(quiet.is_err(), "a burst is told once");
    });
}
