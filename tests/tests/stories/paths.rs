//! Paths that fail, lose or move while packets use them: how soon traffic is elsewhere, and that it stays where it works.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::{BlockedPath, Direction, PublicAddress};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};

use crate::clouds;

const SOON: Duration = Duration::from_secs(30);
/// Of the service that sends packets all the time.
const PINGER: &str = "pinger";
/// Between two of its packets.
const PING_INTERVAL: f64 = 0.02;
/// Without any packet that is answered: a dead path is left by then.
const MOST_SILENCE: f64 = 1.5;
/// The same after a change of address, which nobody tells.
const MOST_SILENCE_AFTER_MOVE: f64 = 3.0;

#[test]
fn a_blocked_private_path_is_left_under_traffic_and_taken_back_after_repair() {
    story(&clouds::pair(), Servers::One, |world| {
        let overlay = prod(world, ["one", "two"])?;
        settled(world, "one", "two", "private")?;
        start_pinging(world, "one", overlay)?;

        for direction in [Direction::BothWays, Direction::OneWay] {
            world.sandbox().block("one", "two", BlockedPath::Private, direction)?;
            settled(world, "one", "two", "public")?;
            world.sandbox().unblock("one", "two", BlockedPath::Private, direction)?;
            settled(world, "one", "two", "private")?;
            settled(world, "two", "one", "private")?;
        }
        let silence = longest_silence(world, "one")?;
        println!("longest silence over a blocked path: {silence:.3} s");
        ensure!(silence <= MOST_SILENCE, "{silence} s without an answer");
        world.explain_agrees("prod")
    });
}

#[test]
fn a_lossy_path_is_no_reason_to_flap_whichever_way_it_loses() {
    story(&clouds::pair(), Servers::One, |world| {
        let overlay = prod(world, ["one", "two"])?;
        settled(world, "one", "two", "private")?;
        settled(world, "two", "one", "private")?;
        start_pinging(world, "one", overlay)?;
        for (vms, percent) in [(["one", "two"].as_slice(), 20), (&["one"], 30), (&["two"], 30)] {
            let before = [path_changes(world, "one")?, path_changes(world, "two")?];
            for vm in vms {
                lose(world, vm, percent)?;
            }
            let sent = pings(world, "one")?;
            eventually("answers of ten seconds", 4 * SOON, || {
                let sent = pings(world, "one")? - sent;
                ensure!(sent >= (10.0 / PING_INTERVAL) as usize, "only {sent} answers");
                Ok(())
            })?;
            for vm in vms {
                world.vm(vm)?.run(["nft", "delete", "table", "inet", "lossy"])?;
            }
            let after = [path_changes(world, "one")?, path_changes(world, "two")?];
            ensure!(before == after, "{percent} % lost at {vms:?}: paths changed from {before:?} to {after:?} times");
        }
        world.explain_agrees("prod")
    });
}

#[test]
fn traffic_is_back_soon_after_a_public_address_changed() {
    story(&clouds::overlapping(), Servers::One, |world| {
        let overlay = prod(world, ["aws-1", "gcp-1"])?;
        settled(world, "aws-1", "gcp-1", "public")?;
        start_pinging(world, "aws-1", overlay)?;
        for mover in ["gcp-1", "aws-1", "gcp-1"] {
            let moved = world.vm(mover)?.readdress()?;
            let other = if mover == "aws-1" { "gcp-1" } else { "aws-1" };
            eventually("the path to the new address", SOON, || {
                let endpoint = path(world, other, mover)?.1;
                ensure!(endpoint == format!("{moved}:8055"), "it goes to {endpoint}");
                Ok(())
            })?;
            world.first_reply("aws-1", overlay, SOON)?;
        }
        let silence = longest_silence(world, "aws-1")?;
        println!("longest silence over changes of address: {silence:.3} s");
        ensure!(silence <= MOST_SILENCE_AFTER_MOVE, "{silence} s without an answer");
        world.explain_agrees("prod")
    });
}

#[test]
fn a_resumed_vm_is_reached_at_its_new_address() {
    story(&clouds::overlapping(), Servers::One, |world| {
        let overlay = prod(world, ["aws-1", "gcp-1"])?;
        settled(world, "aws-1", "gcp-1", "public")?;
        start_pinging(world, "aws-1", overlay)?;
        let sleeper = world.vm("gcp-1")?;
        sleeper.suspend()?;
        world.never_reaches("aws-1", overlay)?;
        sleeper.resume(PublicAddress::Change)?.context("no public address")?;
        let took = world.first_reply("aws-1", overlay, SOON)?;
        println!("reached {took:?} after it was resumed");
        ensure!(took <= Duration::from_secs_f64(MOST_SILENCE_AFTER_MOVE), "{took:?} after it was resumed");
        world.explain_agrees("prod")
    });
}

/// A network of two; the overlay address of the second.
fn prod(world: &World, vms: [&str; 2]) -> Result<Ipv4Addr> {
    world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
    world.join_all(&vms, "prod")?;
    world.wait_mesh("prod", &vms)?;
    world.address("prod", vms[1])
}

/// Sends packets until the world ends.
fn start_pinging(world: &World, from: &str, to: Ipv4Addr) -> Result<()> {
    let interval = format!("-i{PING_INTERVAL}");
    world.vm(from)?.add_service(PINGER, ["ping", "-n", "-D", &interval, &to.to_string()])?;
    eventually("the first answers", SOON, || {
        let answered = pings(world, from)?;
        ensure!(answered > 10, "{answered} answers");
        Ok(())
    })
}

/// A packet that was answered.
struct Answer {
    number: u32,
    /// When the answer came, in seconds.
    at: f64,
}

fn answers(world: &World, from: &str) -> Result<Vec<Answer>> {
    let log = world.vm(from)?.service_log(PINGER)?;
    let lines = log.lines().filter(|line| line.contains("bytes from"));
    let answer = |line: &str| {
        let (at, rest) = line.strip_prefix('[')?.split_once(']')?;
        let number = rest.split_once("icmp_seq=")?.1.split(' ').next()?;
        Some(Answer { number: number.parse().ok()?, at: at.parse().ok()? })
    };
    Ok(lines.filter_map(answer).collect())
}

fn pings(world: &World, from: &str) -> Result<usize> {
    Ok(answers(world, from)?.len())
}

/// In seconds, by the most packets in a row that were not answered, and the time from one to the next as it usually is: while
/// the sender itself waits for a busy machine, no path is silent.
fn longest_silence(world: &World, from: &str) -> Result<f64> {
    let answers = answers(world, from)?;
    let pairs = || answers.windows(2).map(|pair| (&pair[0], &pair[1]));
    let lost = pairs().map(|(before, after)| after.number.saturating_sub(before.number + 1)).max();
    let mut pace: Vec<f64> = pairs().map(|(before, after)| after.at - before.at).collect();
    pace.sort_by(f64::total_cmp);
    Ok(f64::from(lost.context("nothing was answered")? + 1) * pace[pace.len() / 2])
}

/// Waits until the agent of one VM reaches another over such a path.
fn settled(world: &World, from: &str, to: &str, scope: &str) -> Result<()> {
    eventually(&format!("the {scope} path from {from} to {to}"), SOON, || {
        let (found, endpoint) = path(world, from, to)?;
        ensure!(found == scope, "it is {found}, to {endpoint}");
        Ok(())
    })
}

/// Scope and endpoint of the path in use, as the agent says.
fn path(world: &World, from: &str, to: &str) -> Result<(String, String)> {
    let peers = world.agent(from, ["peers"])?;
    let peer = peers.as_array().and_then(|peers| peers.iter().find(|peer| peer["name"] == to));
    let peer = peer.with_context(|| format!("{from} does not know {to}"))?;
    let text = |field: &str| peer[field].as_str().unwrap_or_default().to_owned();
    Ok((text("scope"), text("endpoint")))
}

fn path_changes(world: &World, vm: &str) -> Result<u64> {
    let status = world.agent(vm, ["status"])?;
    status["probes"]["path_changes"].as_u64().context("the agent does not count")
}

/// Loses a share of what reaches a VM over private paths.
fn lose(world: &World, vm: &str, percent: u32) -> Result<()> {
    let rule = format!("ip saddr 10.0.0.0/16 udp dport 8055 numgen random mod 100 < {percent} drop");
    let rules = format!("table inet lossy {{\nchain input {{\ntype filter hook input priority 0\n{rule}\n}}\n}}\n");
    world.vm(vm)?.write_file("/tmp/lossy.nft", rules.as_bytes(), 0o600)?;
    world.vm(vm)?.run(["nft", "-f", "/tmp/lossy.nft"]).map(drop).map_err(Into::into)
}
