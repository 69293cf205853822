//! The bill beside what the wires carried.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream},
    thread::{ScopedJoinHandle, scope},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{AGENT, CONTROL, Servers, World, story},
};
use serde_json::Value;

use crate::{clouds, encryption::inside, plain::wireguard_up};

/// Reports are ten seconds apart, and a killed service must come back.
const SOON: Duration = Duration::from_secs(60);
const PIECE: usize = 24 << 20;
/// So much of its traffic a `kill -9` may lose.
const LOST: Duration = Duration::from_secs(1);
const KILLS: usize = 3;
const AGENTS: [&str; 3] = ["aws-1", "aws-2", "gcp-1"];
const PAIRS: [(&str, &str); 3] = [("aws-1", "aws-2"), ("aws-1", "gcp-1"), ("gcp-1", "aws-2")];

#[test]
fn the_bill_is_what_the_wires_carried_whoever_was_killed_meanwhile() {
    story(&clouds::overlapping_across_zones(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&AGENTS, "prod")?;
        world.wait_mesh("prod", &AGENTS)?;
        AGENTS.iter().try_for_each(|name| Ok::<_, anyhow::Error>(world.vm(name)?.count_wire()?))?;

        transfer_all(world)?;
        eventually("the bill to be what the wires carried", SOON, || agrees(world, 1))?;

        // Without the service the bytes stay with the agents, which are killed when they have saved all of them.
        let report = world.admin().json(["cost", "report", "--by", "host"])?;
        world.vm(CONTROL)?.stop_service("server")?;
        transfer_all(world)?;
        for name in ["aws-1", "gcp-1"] {
            let counted = billed(&report, name)?;
            eventually("the bytes to be on disk", SOON, || is_saved(world, name, counted))?;
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
        is_counted_before_the_end(world, "aws-1", "gcp-1")
    });
}

#[test]
fn an_agent_that_is_killed_in_traffic_loses_no_more_than_a_second_of_it() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&AGENTS, "prod")?;
        world.wait_mesh("prod", &AGENTS)?;
        world.vm("aws-1")?.count_wire()?;
        let mut last_seconds = 0;
        for _ in 0..KILLS {
            last_seconds += kill_in_traffic(world, "aws-1", "gcp-1")?;
            world.wait_mesh("prod", &AGENTS)?;
        }
        eventually("all but the last seconds to be billed", SOON, || {
            let report = world.admin().json(["cost", "report", "--by", "host"])?;
            let (wire, billed) = (wire(world, "aws-1")?, billed(&report, "aws-1")?);
            let slack = wire / 100;
            let what = format!(
                "{billed} bytes are billed of {wire}, of which {last_seconds} passed within a second of a kill"
            );
            ensure!(billed + last_seconds + slack >= wire && billed <= wire + slack, "{what}");
            println!("{what}");
            Ok(())
        })
    });
}

#[test]
fn a_host_that_leaves_is_billed_all_and_a_plain_peer_what_agents_counted() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "aws-2"], "prod")?;
        wireguard_up(world, "gcp-1", &world.admin().run(["peer", "export", "prod", "gcp-1"])?)?;
        world.wait_mesh("prod", &AGENTS)?;
        ["aws-1", "gcp-1"].iter().try_for_each(|name| Ok::<_, anyhow::Error>(world.vm(name)?.count_wire()?))?;
        let status = world.agent("aws-1", ["status"])?;
        let leaving = status["host"]["id"].as_str().with_context(|| format!("no host: {status}"))?;
        transfer_at(world, "aws-1", "gcp-1", world.address("prod", "gcp-1")?)?;
        transfer_at(world, "gcp-1", "aws-1", world.address("prod", "aws-1")?)?;

        let left = world.agent("aws-1", ["leave", "--all"])?;
        ensure!(left["warning"].is_null(), "{left}");
        let report = world.admin().json(["cost", "report", "--by", "host"])?;
        let (wire_of_agent, billed_to_agent) = (wire(world, "aws-1")?, billed(&report, leaving)?);
        ensure!(
            is_near(billed_to_agent, wire_of_agent),
            "{leaving} is billed {billed_to_agent} of {wire_of_agent} bytes"
        );
        let (wire_of_plain, billed_to_plain) = (wire(world, "gcp-1")?, billed(&report, "gcp-1")?);
        let heard = PIECE as u64..=wire_of_plain + wire_of_plain / 100;
        ensure!(heard.contains(&billed_to_plain), "gcp-1 is billed {billed_to_plain} of {wire_of_plain} bytes");
        Ok(())
    });
}

#[test]
fn a_network_that_is_left_while_the_service_is_away_is_billed_when_it_is_back() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&AGENTS, "prod")?;
        world.wait_mesh("prod", &AGENTS)?;
        world.vm("aws-1")?.count_wire()?;
        world.vm(CONTROL)?.stop_service("server")?;
        transfer(world, "aws-1", "gcp-1")?;
        world.agent("aws-1", ["leave", "prod"])?;
        world.vm(CONTROL)?.start_service("server")?;
        eventually("what was sent before to be billed", SOON, || {
            let report = world.admin().json(["cost", "report", "--by", "host"])?;
            let (wire, billed) = (wire(world, "aws-1")?, billed(&report, "aws-1")?);
            ensure!(is_near(billed, wire), "aws-1 is billed {billed} bytes and has sent {wire}");
            Ok(())
        })
    });
}

/// Stops the sender's agent after a transfer: it says before it ends whether the service has counted all, which on a busy machine it
/// need not have, and then that is so.
fn is_counted_before_the_end(world: &World, from: &str, to: &str) -> Result<()> {
    transfer(world, from, to)?;
    world.vm(from)?.stop_service(AGENT)?;
    let log = world.vm(from)?.service_log(AGENT)?;
    let is_counted = log.contains("the service has counted what was carried");
    ensure!(is_counted || log.contains("left for the next start to report"), "it ended without a word of its bytes");
    let report = world.admin().json(["cost", "report", "--by", "host"])?;
    let (wire, billed) = (wire(world, from)?, billed(&report, from)?);
    println!("{billed} bytes are billed of {wire} when {from} has ended");
    ensure!(!is_counted || is_near(billed, wire), "{from} is billed {billed} bytes and has sent {wire}");
    Ok(())
}

/// Kills the sender's agent while it sends; what had passed on its wire in the second before that.
fn kill_in_traffic(world: &World, from: &str, to: &str) -> Result<u64> {
    let (sender, receiver) = connection(world, from, to, overlay(world, to)?)?;
    scope(|scope| {
        let ends = [sender.try_clone()?, receiver.try_clone()?];
        let flooding = flood(scope, sender, receiver);
        let killed = kill_watched(world, from);
        for end in ends {
            end.shutdown(Shutdown::Both).or_else(|error| match error.kind() {
                ErrorKind::NotConnected => Ok(()), // the other end was told first
                _ => Err(error),
            })?;
        }
        for thread in flooding {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?;
        }
        killed
    })
}

/// Threads that send and read until the connection is shut down.
fn flood<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    mut sender: TcpStream,
    mut receiver: TcpStream,
) -> [ScopedJoinHandle<'scope, ()>; 2] {
    let piece = vec![7; 1 << 16];
    let sending = scope.spawn(move || while sender.write_all(&piece).is_ok() {});
    let mut room = vec![0; 1 << 16];
    let reading = scope.spawn(move || while matches!(receiver.read(&mut room), Ok(1..)) {});
    [sending, reading]
}

fn kill_watched(world: &World, from: &str) -> Result<u64> {
    let (begun, before) = (Instant::now(), wire(world, from)?);
    let mut seen = vec![(begun, before)];
    eventually("traffic of some seconds", SOON, || {
        seen.push((Instant::now(), wire(world, from)?));
        ensure!(begun.elapsed() > 3 * LOST, "it is {:?} old", begun.elapsed());
        Ok(())
    })?;
    let killing = Instant::now();
    world.vm(from)?.kill_service(AGENT, 9)?;
    let after = wire(world, from)?;
    let a_second_before = seen.iter().rev().find(|(at, _)| *at + LOST <= killing).map_or(before, |(_, bytes)| *bytes);
    ensure!(after - before > PIECE as u64 / 8, "only {} bytes were sent", after - before);
    Ok(after - a_second_before)
}

fn transfer_all(world: &World) -> Result<()> {
    PAIRS.iter().try_for_each(|(from, to)| transfer(world, from, to))
}

/// Sends a piece over the overlay, and waits until all of it has arrived.
fn transfer(world: &World, from: &str, to: &str) -> Result<()> {
    transfer_at(world, from, to, overlay(world, to)?)
}

fn transfer_at(world: &World, from: &str, to: &str, address: Ipv4Addr) -> Result<()> {
    let (mut sender, mut receiver) = connection(world, from, to, address)?;
    scope(|scope| {
        let sending = scope.spawn(move || sender.write_all(&vec![7; PIECE]));
        let mut received = Vec::with_capacity(PIECE);
        receiver.read_to_end(&mut received)?;
        sending.join().map_err(|_| anyhow!("the sender panicked"))??;
        ensure!(received.len() == PIECE, "{} bytes arrived", received.len());
        Ok(())
    })
}

/// Over the overlay: its two ends.
fn connection(world: &World, from: &str, to: &str, address: Ipv4Addr) -> Result<(TcpStream, TcpStream)> {
    let listener = inside(&world.vm(to)?, || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    let address = SocketAddrV4::new(address, listener.local_addr()?.port());
    let sender = inside(&world.vm(from)?, || Ok(TcpStream::connect(address)?))?;
    Ok((sender, listener.accept()?.0))
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
    let mut carried = 0;
    for name in AGENTS {
        let (wire, billed) = (wire(world, name)?, billed(&report, name)?);
        ensure!(is_near(billed, wire), "{name} is billed {billed} bytes and has sent {wire}");
        carried += wire;
    }
    let received = number(&report["total"]["receivedBytes"])?;
    let delivered = (rounds * PAIRS.len() * PIECE) as u64;
    let most = carried + carried / 100;
    ensure!((delivered..=most).contains(&received), "{received} bytes were received of {carried}");
    Ok(())
}

/// What a host has put on its wire for the others.
fn wire(world: &World, name: &str) -> Result<u64> {
    let mut peers = BTreeSet::new();
    for name in AGENTS {
        let vm = world.vm(name)?;
        peers.extend([IpAddr::from(vm.public_address()?), IpAddr::from(vm.private_address()?)]);
    }
    let counts = world.vm(name)?.wire_counts()?;
    Ok(counts.iter().filter(|(to, _)| peers.contains(to)).map(|(_, count)| count.bytes).sum())
}

/// What a host has sent, by a report by hosts; one that is gone has its id alone.
fn billed(report: &Value, name: &str) -> Result<u64> {
    let line = lines(report).into_iter().find(|line| line["name"] == name || line["key"] == name);
    number(&line.with_context(|| format!("no line of {name}: {report}"))?["sentBytes"])
}

fn is_near(one: u64, other: u64) -> bool {
    one.abs_diff(other) * 100 <= other
}

/// Whether a host has on its disk all that it sent and the service has not counted. Not before: a kill loses what was sent since
/// the last look, up to half a second, and the faster the traffic, the more that is.
fn is_saved(world: &World, name: &str, counted: u64) -> Result<()> {
    let text = world.vm(name)?.run(["sh", "-c", "cat /var/lib/cladnet-agent/usage/*.json"])?;
    let mut saved = 0;
    for day in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let body = &day?["body"];
        saved += [&body["waiting"], &body["reported"]["flows"]].into_iter().map(sent_of).sum::<u64>();
    }
    let wire = wire(world, name)?;
    ensure!(is_near(counted + saved, wire), "{counted} bytes were counted, {saved} are saved, and {wire} were sent");
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
