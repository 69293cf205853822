//! The bill beside what the wires carried.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{AGENT, CONTROL, Servers, World, story},
};
use serde_json::Value;

use crate::{clouds, encryption::inside};

/// Reports are ten seconds apart, and a killed service must come back.
const SOON: Duration = Duration::from_secs(60);
const PIECE: usize = 24 << 20;
const AGENTS: [&str; 3] = ["aws-1", "aws-2", "gcp-1"];
const PAIRS: [(&str, &str); 3] = [("aws-1", "aws-2"), ("aws-1", "gcp-1"), ("gcp-1", "aws-2")];

#[test]
fn the_bill_is_what_the_wires_carried_whoever_was_killed_meanwhile() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&AGENTS, "prod")?;
        world.wait_mesh("prod", &AGENTS)?;
        AGENTS.iter().try_for_each(|name| Ok::<_, anyhow::Error>(world.vm(name)?.count_wire()?))?;

        transfer_all(world)?;
        eventually("the bill to be what the wires carried", SOON, || agrees(world, 1))?;

        // Without the service the bytes stay with the agents, which are killed when they have saved them.
        world.vm(CONTROL)?.stop_service("server")?;
        transfer_all(world)?;
        for name in ["aws-1", "gcp-1"] {
            eventually("the bytes to be on disk", SOON, || is_saved(world, name))?;
            world.vm(name)?.kill_service(AGENT, 9)?;
        }
        world.vm(CONTROL)?.start_service("server")?;
        eventually("the bill to be complete again", SOON, || agrees(world, 2))?;
        world.vm(CONTROL)?.kill_service("server", 9)?;
        transfer_all(world)?;
        eventually("the bill after the service was killed", SOON, || agrees(world, 3))?;

        let classes = world.admin().json(["cost", "report", "--by", "class"])?;
        let line = |class: &str| lines(&classes).into_iter().find(|line| line["key"] == class);
        let zones = line("cross-zone-private").with_context(|| format!("no private bytes: {classes}"))?;
        ensure!(number(&zones["spentNanoUsd"])? > 0, "two zones cost nothing: {zones}");
        ensure!(line("internet-egress").is_some(), "no public bytes: {classes}");
        ensure!(number(&classes["total"]["unpricedBytes"])? == 0, "{classes}");
        Ok(())
    });
}

fn transfer_all(world: &World) -> Result<()> {
    PAIRS.iter().try_for_each(|(from, to)| transfer(world, from, to))
}

/// Sends a piece over the overlay, and waits until all of it has arrived.
fn transfer(world: &World, from: &str, to: &str) -> Result<()> {
    let overlay = overlay(world, to)?;
    let listener = inside(&world.vm(to)?, || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    let address = SocketAddrV4::new(overlay, listener.local_addr()?.port());
    let mut sender = inside(&world.vm(from)?, || Ok(TcpStream::connect(address)?))?;
    let (mut receiver, _) = listener.accept()?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || sender.write_all(&vec![7; PIECE]));
        let mut received = Vec::with_capacity(PIECE);
        receiver.read_to_end(&mut received)?;
        sending.join().map_err(|_| anyhow!("the sender panicked"))??;
        ensure!(received.len() == PIECE, "{} bytes arrived", received.len());
        Ok(())
    })
}

/// The address on the interface itself: the service may be away.
fn overlay(world: &World, name: &str) -> Result<Ipv4Addr> {
    let status = world.agent(name, ["status"])?;
    let address = status["networks"][0]["address"].as_str().with_context(|| format!("no address: {status}"))?;
    Ok(address.split('/').next().unwrap_or_default().parse()?)
}

/// Whether what the bill says of each host is what it put on its wire for its peers, within 1 %, and what was received is no
/// more than that. It is less by what a busy host drops before its agent has it, and all that so many rounds delivered.
fn agrees(world: &World, rounds: usize) -> Result<()> {
    let report = world.admin().json(["cost", "report", "--by", "host"])?;
    let mut peers = BTreeSet::new();
    for name in AGENTS {
        let vm = world.vm(name)?;
        peers.extend([IpAddr::from(vm.public_address()?), IpAddr::from(vm.private_address()?)]);
    }
    let mut carried = 0;
    for name in AGENTS {
        let counts = world.vm(name)?.wire_counts()?;
        let wire: u64 = counts.iter().filter(|(to, _)| peers.contains(to)).map(|(_, count)| count.bytes).sum();
        let line = lines(&report).into_iter().find(|line| line["name"] == name);
        let billed = number(&line.with_context(|| format!("no line of {name}: {report}"))?["sentBytes"])?;
        ensure!(is_near(billed, wire), "{name} is billed {billed} bytes and has sent {wire}");
        carried += wire;
    }
    let received = number(&report["total"]["receivedBytes"])?;
    let delivered = (rounds * PAIRS.len() * PIECE) as u64;
    let most = carried + carried / 100;
    ensure!((delivered..=most).contains(&received), "{received} bytes were received of {carried}");
    Ok(())
}

fn is_near(one: u64, other: u64) -> bool {
    one.abs_diff(other) * 100 <= other
}

/// Whether a host has what it sent since the last report on its disk.
fn is_saved(world: &World, name: &str) -> Result<()> {
    let text = world.vm(name)?.run(["sh", "-c", "cat /var/lib/cladnet-agent/usage/*.json"])?;
    let mut sent = 0;
    for day in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let body = &day?["body"];
        sent += [&body["waiting"], &body["reported"]["flows"]].into_iter().map(sent_of).sum::<u64>();
    }
    ensure!(sent >= PIECE as u64, "{sent} bytes are saved");
    Ok(())
}

fn sent_of(flows: &Value) -> u64 {
    let values =
        |value: &Value| value.as_object().into_iter().flat_map(|map| map.values().cloned()).collect::<Vec<_>>();
    let scopes = values(flows).iter().flat_map(values).collect::<Vec<_>>().iter().flat_map(values).collect::<Vec<_>>();
    scopes.iter().filter_map(|bytes| bytes[0].as_u64()).sum()
}

fn lines(report: &Value) -> Vec<Value> {
    report["lines"].as_array().cloned().unwrap_or_default()
}

/// Large numbers are text in proto3 JSON.
fn number(value: &Value) -> Result<u64> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .or_else(|| value.as_u64())
        .with_context(|| format!("no number: {value}"))
}
