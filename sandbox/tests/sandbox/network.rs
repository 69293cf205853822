//! VPCs, peering, NAT, security groups, IPv6.

use std::net::IpAddr;

use cladnet_sandbox::{BlockedPath, Direction, NatKind, SecurityGroup, WireCount};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::support::{demo, eventually, inside, one_vpc, pings, receive, sandbox, udp};

fn open_to_icmp() -> SecurityGroup {
    SecurityGroup { icmp: true, ..SecurityGroup::default() }
}

#[test]
fn what_a_machine_sends_is_counted_as_the_wire_carries_it() {
    const PAYLOAD: usize = 1000;
    let sandbox = sandbox(&one_vpc("  - { name: a, vpc: home, subnet: one }\n  - { name: b, vpc: home, subnet: one }"));
    let [a, b, out] = ["a", "b", "out-1"].map(|name| sandbox.vm(name).expect("it exists"));
    assert!(a.wire_counts().is_err(), "nothing is counted yet");
    a.count_wire().expect("it can be counted");
    let (near, far) = (b.private_address().expect("it has one"), out.public_address().expect("it has one"));
    // One system call, a super-packet of five datagrams, to each of them.
    let sender = udp(&a, 8055);
    setsockopt(&sender, UdpGsoSegment, &(PAYLOAD as i32)).expect("it segments");
    for to in [near, far] {
        sender.send_to(&[7; 5 * PAYLOAD], (to, 9)).expect("it is sent");
    }
    // What comes later ends no counting.
    sandbox.set_security_group("home", SecurityGroup::default()).expect("it can be changed");
    let wanted = WireCount { packets: 5, bytes: 5 * (PAYLOAD as u64 + 28) };
    eventually("both are counted", || {
        let counts = a.wire_counts().expect("it is counted");
        [near, far].iter().all(|to| counts.get(&IpAddr::V4(*to)) == Some(&wanted))
    });
    assert!(out.count_wire().is_err(), "it has no router");
}

#[test]
fn the_demo_is_three_clouds_with_overlapping_addresses() {
    let sandbox = demo();
    let vm = |name: &str| sandbox.vm(name).expect("the demo has it");
    for (name, to) in [("aws-1", "10.0.2.10"), ("aws-1", "10.0.3.10"), ("aws-3", "10.0.1.10")] {
        assert!(pings(&vm(name), to), "{name} reaches {to} inside its VPC");
    }
    // GCP has the same address as aws-1 and answers only to its own name: its own address is local there.
    assert_eq!(vm("gcp-1").private_address().expect("it has one"), vm("aws-1").private_address().expect("it has one"));
    assert!(!pings(&vm("gcp-1"), "10.0.2.10"), "another VPC's private addresses are out of reach");
    assert!(!pings(&vm("azure-1"), "10.0.2.10"), "another cloud's private addresses are out of reach");
    sandbox.set_security_group("azure-two", open_to_icmp()).expect("the VPC exists");
    assert!(pings(&vm("azure-1"), "10.2.1.10"), "peered VNets reach each other privately");
    assert!(!pings(&vm("azure-2"), "10.1.1.10"), "and the other's security group holds there too");
}

#[test]
fn one_to_one_nat_works_both_ways_and_keeps_addresses() {
    let sandbox = demo();
    let (aws, control) = (sandbox.vm("aws-1").expect("it exists"), sandbox.vm("control").expect("it exists"));
    let aws_public = aws.public_address().expect("it has one");
    let (inner, outer) = (udp(&aws, 8055), udp(&control, 9000));
    outer.send_to(b"in", (aws_public, 8055)).expect("it is sent");
    let (text, from) = receive(&inner).expect("the open port is reached from outside");
    assert_eq!((text.as_str(), from.ip()), ("in", control.public_address().expect("it has one").into()));
    inner.send_to(b"out", from).expect("it is sent");
    let (text, from) = receive(&outer).expect("the answer comes back");
    assert_eq!((text.as_str(), from), ("out", (aws_public, 8055).into()));
}

#[test]
fn a_vm_is_seen_with_its_public_address_inside_its_own_vpc_too() {
    let sandbox = demo();
    let (one, two) = (sandbox.vm("aws-1").expect("it exists"), sandbox.vm("aws-2").expect("it exists"));
    let (first, second) = (udp(&one, 8055), udp(&two, 8055));
    first.send_to(b"hair-pin", (two.public_address().expect("it has one"), 8055)).expect("it is sent");
    let (_, from) = receive(&second).expect("the public address works from inside");
    assert_eq!(from, (one.public_address().expect("it has one"), 8055).into());
    second.send_to(b"back", from).expect("it is sent");
    let (_, from) = receive(&first).expect("the answer comes back");
    assert_eq!(from, (two.public_address().expect("it has one"), 8055).into());
}

#[test]
fn port_restricted_nat_keeps_the_port_and_lets_only_answers_in() {
    let sandbox = sandbox(&one_vpc("  - { name: hidden, vpc: home, subnet: one, nat: port-restricted }"));
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let public = vm("hidden").public_address().expect("the router has one for it");
    let hidden = udp(&vm("hidden"), 8055);
    let (one, other_port, two) = (udp(&vm("out-1"), 7000), udp(&vm("out-1"), 7001), udp(&vm("out-2"), 7000));
    let address = |name: &str| vm(name).public_address().expect("it has one");
    two.send_to(b"unasked", (public, 8055)).expect("it is sent");
    hidden.send_to(b"hello", (address("out-1"), 7000)).expect("it is sent");
    let (_, mapped) = receive(&one).expect("the way out is open");
    assert_eq!(mapped, (public, 8055).into(), "the mapping keeps the port");
    other_port.send_to(b"wrong port", mapped).expect("it is sent");
    two.send_to(b"wrong address", mapped).expect("it is sent");
    one.send_to(b"answer", mapped).expect("it is sent");
    assert_eq!(receive(&hidden).expect("the answer comes").0, "answer", "and nothing that was not asked for");
    hidden.send_to(b"hello", (address("out-2"), 7000)).expect("it is sent");
    assert_eq!(receive(&two).expect("the way out is open").1, mapped, "one mapping serves every destination");
}

#[test]
fn the_gateway_is_a_vms_only_neighbour_however_many_it_talks_to() {
    let vm = |name: &str| format!("  - {{ name: {name}, vpc: home, subnet: one, ipv6: true }}\n");
    let sandbox = sandbox(&one_vpc(&[vm("a"), vm("b"), vm("c")].concat()));
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let a = vm("a");
    for other in [vm("b"), vm("c")] {
        assert!(pings(&a, other.private_address().expect("it has one")), "{} is in the same subnet", other.name());
        assert!(pings(&a, other.ipv6_address().expect("it has one")), "{} has IPv6 there", other.name());
    }
    for (family, gateway) in [("-4", "10.0.1.1"), ("-6", "2001:db8:1::1")] {
        let neighbours = a.run(["ip", family, "-o", "neigh", "show"]).expect("they can be listed");
        let addresses = neighbours.lines().filter_map(|line| line.split(' ').next());
        let others: Vec<&str> =
            addresses.filter(|address| *address != gateway && !address.starts_with("fe80:")).collect();
        assert!(others.is_empty(), "neighbours besides {gateway}: {others:?}");
    }
}

#[test]
fn kinds_of_nat_can_be_changed_while_it_runs() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let (to_vm, to_out) = (vm.public_address().expect("it has one"), out.public_address().expect("it has one"));
    assert!(pings(&vm, to_out) && pings(&out, to_vm), "one-to-one: both ways");
    vm.set_nat(NatKind::PortRestricted).expect("it can be changed");
    assert!(pings(&vm, to_out) && !pings(&out, to_vm), "port-restricted: outwards only");
    vm.set_nat(NatKind::None).expect("it can be changed");
    assert!(!pings(&vm, to_out) && !pings(&out, to_vm), "none: neither");
    assert!(vm.public_address().is_err(), "and no public address");
    vm.set_nat(NatKind::OneToOne).expect("it can be changed");
    let back = vm.public_address().expect("it has one again");
    assert!(pings(&vm, to_out) && pings(&out, back));
}

#[test]
fn a_security_group_admits_its_ports_and_answers() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let public = vm.public_address().expect("it has one");
    let (open, closed, outside) = (udp(&vm, 8055), udp(&vm, 8056), udp(&out, 7000));
    let send = |port: u16| outside.send_to(b"x", (public, port)).expect("it is sent");
    send(8056);
    send(8055);
    assert!(receive(&open).is_some() && receive(&closed).is_none());
    vm.set_security_group(Some(SecurityGroup { tcp: vec![], udp: vec![8056], icmp: false })).expect("it has a router");
    // A flow that was admitted goes on, as in the clouds: another source is a new flow.
    let outside = udp(&out, 7002);
    outside.send_to(b"x", (public, 8055)).expect("it is sent");
    outside.send_to(b"x", (public, 8056)).expect("it is sent");
    assert!(receive(&closed).is_some() && receive(&open).is_none());
    vm.set_security_group(None).expect("it has a router");
    let listener = inside(&vm, || std::net::TcpListener::bind("0.0.0.0:22").expect("the port is free"));
    inside(&out, || std::net::TcpStream::connect((public, 22)).expect("SSH's port is open by default"));
    drop(listener);
    assert!(out.set_security_group(None).is_err(), "a machine on the internet has none");
}

#[test]
fn a_block_takes_one_path_one_way_or_both() {
    let vms = "  - { name: a, vpc: home, subnet: one }\n  - { name: b, vpc: home, subnet: one }";
    let sandbox = sandbox(&one_vpc(vms));
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let (a, b, out) = (vm("a"), vm("b"), vm("out-1"));
    let (private, public) = (b.private_address().expect("it has one"), b.public_address().expect("it has one"));
    assert!(pings(&a, private) && pings(&a, public));
    sandbox.block("a", "b", BlockedPath::Private, Direction::BothWays).expect("there is a private path");
    assert!(!pings(&a, private) && pings(&a, public), "only the private path is a black hole");
    sandbox.unblock("a", "b", BlockedPath::Private, Direction::BothWays).expect("it was blocked");
    assert!(pings(&a, private));

    let (at_b, at_out) = (udp(&b, 8055), udp(&out, 7000));
    sandbox.block("out-1", "b", BlockedPath::Public, Direction::OneWay).expect("there is a public path");
    at_out.send_to(b"lost", (public, 8055)).expect("it is sent");
    at_b.send_to(b"there", (out.public_address().expect("it has one"), 7000)).expect("it is sent");
    assert!(receive(&at_out).is_some(), "the other way is open");
    assert!(receive(&at_b).is_none(), "the blocked way is a black hole");
    sandbox.unblock("out-1", "b", BlockedPath::Public, Direction::OneWay).expect("it was blocked");
    assert!(pings(&out, public));
    assert!(sandbox.block("a", "out-1", BlockedPath::Private, Direction::OneWay).is_err(), "there is no such path");
}

#[test]
fn ipv6_needs_no_translation_and_obeys_security_groups() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: two, ipv6: true }"));
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let (inner, outer) = (vm.ipv6_address().expect("it has one"), out.ipv6_address().expect("it has one"));
    assert!(pings(&vm, outer) && pings(&out, inner));
    vm.set_security_group(Some(SecurityGroup::default())).expect("it has a router");
    assert!(pings(&vm, outer) && !pings(&out, inner));
}

#[test]
fn peered_vpcs_reach_each_other_over_ipv6_too_but_not_a_third_one() {
    let vpc = |name: &str, n: u8| {
        format!(
            "
  - name: {name}
    provider: azure
    region: koreacentral
    cidrs: [10.{n}.0.0/16]
    ipv6: 2001:db8:{n}::/56
    security_group: {{ tcp: [], udp: [], icmp: true }}
    subnets: [{{ name: {name}-s, cidr: 10.{n}.1.0/24 }}]"
        )
    };
    let vm = |name: &str| format!("\n  - {{ name: in-{name}, vpc: {name}, subnet: {name}-s, ipv6: true, nat: none }}");
    let yaml = format!(
        "vpcs:{}{}{}\npeerings: [[a, b], [b, c]]\nvms:{}{}{}",
        vpc("a", 1),
        vpc("b", 2),
        vpc("c", 3),
        vm("a"),
        vm("b"),
        vm("c")
    );
    let sandbox = sandbox(&yaml);
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let v4 = |name: &str| vm(name).private_address().expect("it has one");
    assert!(pings(&vm("in-a"), v4("in-b")) && pings(&vm("in-c"), v4("in-b")));
    assert!(!pings(&vm("in-a"), v4("in-c")), "peering is not transitive");
    assert!(pings(&vm("in-a"), vm("in-b").ipv6_address().expect("it has one")));
    assert!(pings(&vm("in-a"), vm("in-c").ipv6_address().expect("it has one")), "over the WAN, where IPv6 has no NAT");
}

#[test]
fn the_host_reaches_a_machine_that_asks_for_it() {
    let sandbox = demo();
    let control = sandbox.vm("control").expect("it exists");
    let address = control.host_access().expect("the demo asks for it");
    let listener = inside(&control, || std::net::TcpListener::bind("0.0.0.0:8053").expect("the port is free"));
    std::net::TcpStream::connect((address, 8053)).expect("the host reaches it");
    drop(listener);
    assert!(sandbox.vm("aws-1").expect("it exists").host_access().is_err());
}
