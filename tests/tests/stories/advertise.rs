//! Subnets behind peers: a machine without an agent, reached from another cloud through its neighbour.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{AGENT, Servers, World, story},
};

use crate::{
    clouds,
    encryption::wire::inside,
    rules::{carries, connect, listen},
};

/// For failing, not a target.
const SOON: Duration = Duration::from_secs(30);
/// The subnet of `aws-1`, where `aws-3` has no agent.
const SUBNET: &str = "10.0.1.0/24";
const PORT: u16 = 5432;
/// What is left of the tunnel's MTU without headers of IPv4 and TCP.
const LONGEST_SEGMENT: u32 = 1380;
const CONFIGURATION: &str = "/etc/cladnet-agent/config.toml";

#[test]
fn a_machine_without_an_agent_is_reached_through_its_neighbour() {
    story(&clouds::neighbours(), Servers::One, |world| {
        raise(world)?;
        forward(world, false)?;
        let bare = world.vm("aws-3")?.private_address()?;
        world.never_reaches("gcp-1", bare)?;

        advertise(world, "vpc", SUBNET)?;
        eventually("the gateway to say what is missing", SOON, || told(world, "aws-1", "forwarding is off on"))?;
        world.never_reaches("gcp-1", bare)?;
        forward(world, true)?;
        reaches(world, bare)?;
        eventually("an end of the problem", SOON, || none_told(world, "aws-1"))?;
        none_told(world, "aws-2").context("a neighbour in the subnet has nothing to complain of")?;

        // The network's rules hold for what is behind a peer.
        let deny = ["rule", "add", "prod", "access", "--id", "shut", "--action", "deny", "--to", SUBNET];
        world.admin().run(deny)?;
        eventually("the rule to be in force", SOON, || world.never_reaches("gcp-1", bare))?;
        world.ping("gcp-1", world.address("prod", "aws-1")?).context("the rule names the subnet alone")?;
        world.admin().run(["rule", "remove", "prod", "shut"])?;
        reaches(world, bare)?;

        for signal in [9, 15] {
            world.vm("aws-1")?.kill_service(AGENT, signal)?;
            world.wait_agent("aws-1")?;
            reaches(world, bare)?;
        }
        // A firewall that starts anew takes everybody's tables away.
        world.vm("aws-1")?.run(["nft", "flush", "ruleset"])?;
        reaches(world, bare)?;

        world.admin().run(["rule", "remove", "prod", "vpc"])?;
        eventually("the end of the subnet", SOON, || world.never_reaches("gcp-1", bare))?;
        eventually("the end of the table", SOON, || {
            let tables = world.vm("aws-1")?.run(["nft", "list", "tables"])?;
            ensure!(!tables.contains("cladnet"), "{tables}");
            Ok(())
        })
    });
}

#[test]
fn a_subnet_that_somebody_has_is_left_out_and_told_and_the_others_work() {
    story(&clouds::neighbours(), Servers::One, |world| {
        world.vm("aws-1")?.write_file(CONFIGURATION, b"set_forwarding = true\n", 0o644)?;
        raise(world)?;
        forward(world, false)?;
        advertise(world, "theirs", "10.8.0.0/16")?;
        advertise(world, "vpc", SUBNET)?;
        reaches(world, world.vm("aws-3")?.private_address()?).context("the agent may turn forwarding on")?;
        eventually("the conflict to be told", SOON, || {
            told(world, "gcp-1", "subnet 10.8.0.0/16 behind aws-1")?;
            told(world, "gcp-1", "overlaps this host's own route")
        })?;
        eventually("the admin to be warned", SOON, || {
            let rules = world.admin().run(["rule", "list", "prod"])?;
            ensure!(rules.contains("warning: gcp-1 does not use 10.8.0.0/16 of rule theirs"), "{rules}");
            Ok(())
        })?;
        let router = world.vm("gcp-1")?.run(["ip", "route", "show", "10.8.0.0/16"])?;
        ensure!(!router.contains("cbnet"), "its own network was taken from it: {router}");
        world.admin().run(["rule", "remove", "prod", "theirs"])?;
        eventually("an end of the conflict", SOON, || none_told(world, "gcp-1"))
    });
}

#[test]
fn what_an_operator_wishes_waits_for_an_admin_who_may_map_it() {
    story(&clouds::neighbours(), Servers::One, |world| {
        let wish = format!("advertise = [{SUBNET:?}]\nset_forwarding = true\n");
        world.vm("aws-1")?.write_file(CONFIGURATION, wish.as_bytes(), 0o644)?;
        raise(world)?;
        let bare = world.vm("aws-3")?.private_address()?;
        eventually("the wish to be told", SOON, || {
            let rules = world.admin().run(["rule", "list", "prod"])?;
            ensure!(rules.contains(&format!("pending: {SUBNET} behind aws-1")), "{rules}");
            Ok(())
        })?;
        world.never_reaches("gcp-1", bare)?;

        advertise_as(world, "vpc", SUBNET, ["--mapped", "10.200.1.0/24"])?;
        let [.., last] = bare.octets();
        reaches(world, Ipv4Addr::new(10, 200, 1, last))?;
        world.never_reaches("gcp-1", bare).context("the others know it by another prefix")?;
        let rules = world.admin().run(["rule", "list", "prod"])?;
        ensure!(!rules.contains("pending"), "{rules}");
        Ok(())
    });
}

#[test]
fn a_flow_into_a_subnet_outlives_the_gateways_agent() {
    story(&clouds::neighbours(), Servers::One, |world| {
        world.vm("aws-1")?.write_file(CONFIGURATION, b"set_forwarding = true\n", 0o644)?;
        raise(world)?;
        forward(world, false)?;
        let (bare, gateway) = (world.vm("aws-3")?.private_address()?, world.vm("aws-1")?.private_address()?);
        let listener = listen(world, "aws-3", PORT)?;
        advertise(world, "vpc", SUBNET)?;
        reaches(world, bare)?;
        count_answers(world)?;
        let mut asks = connect(world, "gcp-1", bare, PORT)?;
        let (mut served, from) = eventually("the connection", SOON, || Ok(listener.accept()?))?;
        ensure!(answers(world, "heard")? > 0, "no answer came through the tunnel");
        ensure!(answers(world, "longer")? == 0, "the subnet's end knows nothing of the tunnel's MTU");
        ensure!(from.ip() == gateway, "the subnet sees {from}");
        carries(&mut asks, &mut served, SOON)?;

        let mut goes_on = |served: &mut TcpStream| -> Result<()> {
            world.wait_agent("aws-1")?;
            let mut read = [0; 5];
            asks.set_read_timeout(Some(SOON))?;
            asks.read_exact(&mut read).context("what was sent meanwhile is lost")?;
            carries(&mut asks, served, SOON).context("the flow has ended with the agent")?;
            let tables = world.vm("aws-1")?.run(["nft", "list", "tables"])?;
            ensure!(tables.matches("cladnet").count() == 1, "{tables}");
            Ok(())
        };
        world.vm("aws-1")?.kill_service(AGENT, 9)?;
        served.write_all(b"goods").context("while nobody forwards")?;
        goes_on(&mut served).context("after a kill")?;

        // As for an update.
        world.vm("aws-1")?.stop_service(AGENT)?;
        let left = forwarding(world)?;
        ensure!(left.is_empty(), "forwards without an agent: {left}");
        served.write_all(b"goods").context("while nobody forwards")?;
        world.vm("aws-1")?.start_service(AGENT)?;
        goes_on(&mut served).context("after a restart")?;

        ensure!(!forwarding(world)?.is_empty(), "the agent has turned it on");
        world.agent("aws-1", ["leave"])?;
        let tables = world.vm("aws-1")?.run(["nft", "list", "tables"])?;
        ensure!(!tables.contains("cladnet"), "left behind: {tables}");
        let left = forwarding(world)?;
        ensure!(left.is_empty(), "still forwards: {left}");
        Ok(())
    });
}

#[test]
fn without_translation_the_subnet_sees_who_sends() {
    story(&clouds::neighbours(), Servers::One, |world| {
        world.vm("aws-1")?.write_file(CONFIGURATION, b"set_forwarding = true\n", 0o644)?;
        raise(world)?;
        let (bare, client) = (world.vm("aws-3")?.private_address()?, world.address("prod", "gcp-1")?);
        let open = |vm: &str, port: u16| inside(&world.vm(vm)?, || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?));
        let (sender, receiver) = (open("gcp-1", 0)?, open("aws-3", PORT)?);
        receiver.set_nonblocking(true)?;
        advertise_as(world, "vpc", SUBNET, ["--no-snat", "--comment="])?;
        let from = eventually("a datagram", SOON, || {
            sender.send_to(b"goods", (bare, PORT))?;
            Ok(receiver.recv_from(&mut [0; 5])?.1)
        })?;
        ensure!(from.ip() == client, "the subnet sees {from}");
        Ok(())
    });
}

/// A network of a gateway, its neighbour and a machine in another cloud; one more neighbour has no agent.
fn raise(world: &World) -> Result<()> {
    world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
    world.join_all(&["aws-1", "aws-2", "gcp-1"], "prod")?;
    world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])
}

fn advertise(world: &World, id: &str, prefix: &str) -> Result<()> {
    advertise_as(world, id, prefix, ["--comment", ""])
}

/// With one more option.
fn advertise_as(world: &World, id: &str, prefix: &str, [name, value]: [&str; 2]) -> Result<()> {
    let via = "cladnet/name=aws-1";
    let rule = ["rule", "add", "prod", "advertise", "--id", id, "--prefix", prefix, "--via", via, name, value];
    world.admin().run(rule).map(drop)
}

/// Counts on `gcp-1` how many ends behind the tunnel answer its calls, and how many want segments that are too long for it.
fn count_answers(world: &World) -> Result<()> {
    let answer = "add rule ip answers in iifname cbnet0 tcp flags & (syn | ack) == (syn | ack)";
    let table = format!(
        "add table ip answers; add counter ip answers heard; add counter ip answers longer;
         add chain ip answers in {{ type filter hook input priority 0; }};
         {answer} counter name heard; {answer} tcp option maxseg size > {LONGEST_SEGMENT} counter name longer"
    );
    world.vm("gcp-1")?.run(["nft", &table])?;
    Ok(())
}

fn answers(world: &World, counter: &str) -> Result<u64> {
    let text = world.vm("gcp-1")?.run(["nft", "list", "counter", "ip", "answers", counter])?;
    let mut words = text.split_ascii_whitespace().skip_while(|word| *word != "packets");
    Ok(words.nth(1).with_context(|| format!("no count in {text}"))?.parse()?)
}

fn reaches(world: &World, bare: Ipv4Addr) -> Result<()> {
    world.ping_soon("gcp-1", bare).map(drop)
}

/// Turns forwarding on or off on the gateway, as an operator does.
fn forward(world: &World, on: bool) -> Result<()> {
    let setting = format!("net.ipv4.ip_forward={}", u8::from(on));
    world.vm("aws-1")?.run(["sysctl", "-w", &setting])?;
    Ok(())
}

/// The interfaces of the gateway that forward.
fn forwarding(world: &World) -> Result<String> {
    Ok(world.vm("aws-1")?.run(["sh", "-c", "grep -l 1 /proc/sys/net/ipv4/conf/*/forwarding || true"])?)
}

/// Holds if the agent of a VM tells of such a problem.
fn told(world: &World, vm: &str, part: &str) -> Result<()> {
    let status = world.agent(vm, ["status"])?;
    let problems = status["problems"].as_array().cloned().unwrap_or_default();
    let is_told = problems.iter().filter_map(|problem| problem.as_str()).any(|problem| problem.contains(part));
    ensure!(is_told, "{vm} says {problems:?}");
    Ok(())
}

fn none_told(world: &World, vm: &str) -> Result<()> {
    let status = world.agent(vm, ["status"])?;
    ensure!(status["problems"].as_array().is_some_and(Vec::is_empty), "{vm} says {}", status["problems"]);
    Ok(())
}
