use std::{fs, process::Command, thread};

use nix::sched::{CloneFlags, unshare};

use super::*;

fn route(destination: &str, interface: &str, metric: u32) -> Route {
    let destination = destination.parse().expect("a prefix");
    Route { destination, gateway: None, interface: Some(interface.into()), metric, mtu: None }
}

#[test]
fn a_subnet_is_reached_by_the_closest_route_and_those_to_its_parts() {
    let discarded = Route { interface: None, ..route("10.1.3.0/24", "", 0) };
    let routes = [
        route("0.0.0.0/0", "eth0", 0),
        route("0.0.0.0/0", "eth9", 100),
        route("10.1.2.0/24", "eth1", 0),
        discarded,
        route("10.1.0.0/16", "cbnet0", 0),
    ];
    let ways =
        |subnet: &str| ways(&routes, subnet.parse().expect("a prefix"), |name| name.starts_with("cbnet")).join(" ");
    assert_eq!(ways("10.1.0.0/16"), "eth0 eth1");
    assert_eq!(ways("10.1.2.128/25"), "eth1");
    assert_eq!(ways("10.1.3.128/25"), "");
}

#[test]
fn forwarding_that_was_turned_on_is_turned_off_again_also_after_a_kill() {
    host(|state| async move {
        let netlink = Netlink::connect().expect("a socket");
        let mut killed = Forwarder::load(&state);
        assert_eq!(settle(&mut killed, &netlink, vec![gateway()]).await, [""; 0]);
        assert_eq!(forwarding(), ["cbnet0", "docker0", "eth0"]);

        let mut next = Forwarder::load(&state);
        assert_eq!(settle(&mut next, &netlink, Vec::new()).await, [""; 0]);
        assert_eq!((forwarding(), tables()), (vec!["docker0".to_owned()], String::new()), "docker0 did before");
        assert!(!next.has_work());
        settle(&mut Forwarder::load(&state), &netlink, Vec::new()).await;
        assert_eq!(forwarding(), ["docker0"]);
    });
}

#[test]
fn an_agent_that_ends_leaves_its_flows_to_the_next_and_takes_forwarding_away() {
    host(|state| async move {
        let netlink = Netlink::connect().expect("a socket");
        let mut forwarder = Forwarder::load(&state);
        settle(&mut forwarder, &netlink, vec![gateway()]).await;
        forwarder.end(&netlink).await;
        assert_eq!(forwarding(), ["docker0"]);
        assert_eq!(tables(), "table ip cladnet\n", "without it the kernel would reset the flows");

        let mut next = Forwarder::load(&state);
        settle(&mut next, &netlink, vec![gateway()]).await;
        assert_eq!(forwarding(), ["cbnet0", "docker0", "eth0"]);
    });
}

#[test]
fn forwarding_that_somebody_else_wants_by_now_stays_on() {
    host(|state| async move {
        let netlink = Netlink::connect().expect("a socket");
        let mut forwarder = Forwarder::load(&state);
        settle(&mut forwarder, &netlink, vec![gateway()]).await;
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("root may");
        settle(&mut forwarder, &netlink, Vec::new()).await;
        assert!(forwarding().contains(&"eth0".to_owned()));
        assert!(!forwarder.has_work());
    });
}

fn gateway() -> Gateway {
    let prefix: Ipv4Net = "10.1.0.0/16".parse().expect("a prefix");
    Gateway {
        interface: "cbnet0".into(),
        sources: vec!["10.77.0.0/16".parse().expect("a prefix")],
        subnets: vec![Subnet { prefix, real: prefix, snat: true }],
    }
}

async fn settle(forwarder: &mut Forwarder, netlink: &Netlink, gateways: Vec<Gateway>) -> Vec<String> {
    let permission = Permission { may_set: true, keeps_sources: false };
    forwarder.settle(netlink, gateways, permission, |name| name.starts_with("cbnet")).await
}

/// The interfaces that forward, in order.
fn forwarding() -> Vec<String> {
    let interfaces = fs::read_dir("/proc/sys/net/ipv4/conf").expect("a list").filter_map(Result::ok);
    let forwards = |name: &String| {
        let setting = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/forwarding")).expect("a setting");
        setting.trim() == "1"
    };
    let mut names: Vec<_> =
        interfaces.filter_map(|entry| entry.file_name().into_string().ok()).filter(forwards).collect();
    names.sort();
    names
}

fn tables() -> String {
    let output = Command::new("nft").args(["list", "tables"]).output().expect("nft is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a test on a host of its own, on which docker0 forwards and the way to 10.1.0.0/16 is eth0, with an empty state.
fn host<F: Future<Output = ()>>(test: impl FnOnce(StateDir) -> F + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        eprintln!("NOT RUN: this test needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let state = StateDir::open(directory.path()).expect("open");
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("root may");
        for name in ["cbnet0", "docker0", "eth0"] {
            ip(&["link", "add", name, "type", "veth", "peer", "name", &format!("{name}-far")]);
            ip(&["link", "set", name, "up"]);
            ip(&["link", "set", &format!("{name}-far"), "up"]);
        }
        ip(&["route", "add", "10.1.0.0/16", "dev", "eth0"]);
        fs::write("/proc/sys/net/ipv4/conf/docker0/forwarding", "1").expect("root may");
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(test(state));
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("ip is there");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
