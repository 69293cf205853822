//! What can be read on the wire: a network's policy, inside a VPC and outside, and what a neighbour cannot make of it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, Servers, World, story},
};

use crate::clouds;

pub(crate) mod wire;

pub(crate) use wire::inside;
use wire::{Tap, forge};

const SOON: Duration = Duration::from_secs(30);
/// As many bytes as ping repeats.
const TEXT: &[u8; 16] = b"cladnet-secrecy!";
const AGENTS: [&str; 3] = ["aws-1", "aws-2", "gcp-1"];
/// The type of a clear frame.
const FRAME: u8 = 0xc2;

#[test]
fn packets_are_in_clear_inside_a_vpc_and_nowhere_else() {
    story(&clouds::neighbours(), Servers::One, |world| {
        raise(world)?;
        let mut tap = Tap::open(&world.vm("aws-2")?)?;
        let work = tempfile::tempdir()?;
        let file = work.path().join("wan.pcap");
        world.sandbox().start_capture(&file)?;
        say(world, "aws-1", world.address("prod", "aws-2")?)?;
        say(world, "aws-1", world.address("prod", "gcp-1")?)?;
        say(world, "gcp-1", world.address("prod", "aws-2")?)?;
        world.sandbox().stop_capture()?;
        ensure!(count(&tap.datagrams()?.concat()) > 0, "nothing was in clear inside the VPC");
        let outside = fs::read(&file)?;
        ensure!(!outside.is_empty() && count(&outside) == 0, "there was plaintext outside the VPC");

        // The same capture sees what does go in clear.
        world.sandbox().start_capture(&file)?;
        say(world, "aws-1", world.vm(CONTROL)?.public_address()?)?;
        world.sandbox().stop_capture()?;
        ensure!(count(&fs::read(&file)?) > 0, "the capture sees nothing");

        let explained = explain(world, "aws-1", "gcp-1")?;
        ensure!(explained == "encrypted: outside a VPC everything is", "{explained}");
        told_as_clear(world)
    });
}

/// Holds if the agent says that it talks in clear with its neighbour, for as long as they talk.
fn told_as_clear(world: &World) -> Result<()> {
    let to = world.address("prod", "aws-2")?;
    eventually("one peer to be told as clear", SOON, || {
        world.ping("aws-1", to)?;
        let table = world.vm("aws-1")?.run(["cladnet-agent", "peers"])?;
        ensure!(table.contains("clear: ") && table.contains("encrypted: "), "{table}");
        let status = world.agent("aws-1", ["status"])?;
        ensure!(status["networks"][0]["clear_peers"] == 1, "{status}");
        Ok(())
    })
}

#[test]
fn a_policy_that_changes_costs_no_connection_and_always_leaves_no_plaintext() {
    story(&clouds::neighbours(), Servers::One, |world| {
        raise(world)?;
        let to = world.address("prod", "aws-2")?;
        let is_over = AtomicBool::new(false);
        let listener = inside(&world.vm("aws-2")?, || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7000))?))?;
        let mut sender = inside(&world.vm("aws-1")?, || {
            Ok(TcpStream::connect(std::net::SocketAddr::V4(SocketAddrV4::new(to, 7000)))?)
        })?;
        let (mut receiver, _) = listener.accept()?;
        let (sent, received) = thread::scope(|scope| {
            let sending = scope.spawn(|| -> Result<u64> {
                let (chunk, mut sent) = (TEXT.repeat(512), 0);
                while !is_over.load(Ordering::Relaxed) {
                    sender.write_all(&chunk).context("the connection was lost")?;
                    sent += chunk.len() as u64;
                }
                sender.shutdown(std::net::Shutdown::Write)?;
                Ok(sent)
            });
            let receiving = scope.spawn(|| -> Result<u64> {
                let (mut buffer, mut received) = (vec![0; 1 << 16], 0);
                loop {
                    match receiver.read(&mut buffer).context("the connection was lost")? {
                        0 => return Ok(received),
                        len => received += len as u64,
                    }
                }
            });
            let toggled = (0..3).try_for_each(|_| {
                set_policy(world, "always")?;
                wait_for(world, false)?;
                none_in_clear(world)?;
                set_policy(world, "public")?;
                wait_for(world, true)
            });
            is_over.store(true, Ordering::Relaxed);
            let (sent, received) = (sending.join(), receiving.join());
            toggled?;
            match (sent, received) {
                (Ok(sent), Ok(received)) => Ok((sent?, received?)),
                _ => bail!("a side of the connection panicked"),
            }
        })?;
        ensure!(sent > 0 && sent == received, "{sent} bytes were sent and {received} received");

        set_policy(world, "always")?;
        wait_for(world, false)?;
        none_in_clear(world)?;
        let explained = explain(world, "aws-1", "aws-2")?;
        ensure!(explained == "encrypted: the network's policy is always", "{explained}");
        Ok(())
    });
}

#[test]
fn a_neighbours_forged_frames_are_refused() {
    story(&clouds::neighbours(), Servers::One, |world| {
        raise(world)?;
        let (peer, target) = (world.vm("aws-1")?.private_address()?, world.vm("aws-2")?.private_address()?);
        let (neighbour, stranger) = (world.vm("aws-3")?, world.address("prod", "gcp-1")?);
        let mut tap = Tap::open(&world.vm("aws-2")?)?;
        say(world, "aws-1", world.address("prod", "aws-2")?)?;
        let heard = tap.datagrams()?;
        let number = frame_number(&heard, world, "aws-2")?;
        let stale = heard.into_iter().find(|datagram| datagram[..8] == number).context("no frame was heard")?;

        let fresh = {
            let mut fresh = stale.clone();
            fresh[9] = fresh[9].wrapping_add(1); // 256 counters later
            fresh
        };
        let mut foreign = fresh.clone();
        foreign[28..32].copy_from_slice(&stranger.octets());
        let mut guessed = fresh.clone();
        let token = guessed.len() - 16;
        guessed[token..].fill(0);
        let own = neighbour.private_address()?;
        let forgeries = [
            ("replay", peer, &stale),
            ("foreign_source", peer, &foreign),
            ("clear_stale", peer, &guessed),
            ("clear_refused", own, &fresh),
        ];
        for (reason, source, datagram) in forgeries {
            let before = discarded(world, "aws-2", reason)?;
            eventually(&format!("a forged frame to be counted as {reason}"), SOON, || {
                // Without traffic the endpoint would not be proved for long, and the frame refused for that.
                world.ping("aws-1", world.address("prod", "aws-2")?)?;
                forge(&neighbour, source, target, datagram)?;
                ensure!(discarded(world, "aws-2", reason)? > before, "it is not");
                Ok(())
            })?;
        }
        Ok(())
    });
}

/// A network of policy `public` whose pair inside the VPC talks in clear.
fn raise(world: &World) -> Result<()> {
    world.admin().run(["network", "create", "prod", "--hosts", "10", "--encryption", "public"])?;
    world.join_all(&AGENTS, "prod")?;
    world.wait_mesh("prod", &AGENTS)?;
    wait_for(world, true)
}

fn set_policy(world: &World, policy: &str) -> Result<()> {
    world.admin().run(["network", "update", "prod", "--encryption", policy]).map(drop)
}

/// Keeps the pair inside the VPC talking until both say that they talk in clear, or that they do not.
fn wait_for(world: &World, clear: bool) -> Result<()> {
    let to = world.address("prod", "aws-2")?;
    eventually(if clear { "clear frames" } else { "an end of clear frames" }, SOON, || {
        world.ping("aws-1", to)?;
        for (from, peer) in [("aws-1", "aws-2"), ("aws-2", "aws-1")] {
            let told = transport(world, from, peer)?;
            ensure!((told == "clear") == clear, "{from} says {told} of {peer}");
        }
        Ok(())
    })
}

/// Holds if what the pair says from now on cannot be read.
fn none_in_clear(world: &World) -> Result<()> {
    // What was sent before has arrived when this is answered.
    world.ping("aws-1", world.address("prod", "aws-2")?)?;
    let mut tap = Tap::open(&world.vm("aws-2")?)?;
    say(world, "aws-1", world.address("prod", "aws-2")?)?;
    let heard = tap.datagrams()?.concat();
    ensure!(!heard.is_empty() && count(&heard) == 0, "{} plaintexts in {} bytes", count(&heard), heard.len());
    Ok(())
}

/// Pings with the text as payload, over and over.
fn say(world: &World, from: &str, to: Ipv4Addr) -> Result<()> {
    let pattern: String = TEXT.iter().map(|byte| format!("{byte:02x}")).collect();
    world.vm(from)?.run(["ping", "-n", "-c3", "-i0.2", "-s400", "-p", &pattern, &to.to_string()])?;
    Ok(())
}

fn count(bytes: &[u8]) -> usize {
    bytes.windows(TEXT.len()).filter(|window| window == TEXT).count()
}

/// How the agent of one VM sends to another.
pub(crate) fn transport(world: &World, from: &str, to: &str) -> Result<String> {
    let peers = world.agent(from, ["peers"])?;
    let peer = peers.as_array().into_iter().flatten().find(|peer| peer["name"] == to);
    let told = peer.and_then(|peer| peer["transport"].as_str());
    Ok(told.with_context(|| format!("{from} tells nothing of {to}: {peers}"))?.to_owned())
}

fn explain(world: &World, from: &str, to: &str) -> Result<String> {
    let explained = world.admin().json(["path", "explain", "prod", from, to])?;
    Ok(explained["encryption"].as_str().context("no sentence about encryption")?.to_owned())
}

fn discarded(world: &World, vm: &str, reason: &str) -> Result<u64> {
    Ok(world.agent(vm, ["status"])?["discards"][reason].as_u64().unwrap_or_default())
}

/// The head of the frames that a VM receives, which ends in what it is addressed by.
fn frame_number(heard: &[Vec<u8>], world: &World, vm: &str) -> Result<[u8; 8]> {
    let overlay = world.address("prod", vm)?.octets();
    let is_to_it = |datagram: &&Vec<u8>| datagram[0] == FRAME && datagram.get(32..36) == Some(&overlay[..]);
    let frame = heard.iter().find(is_to_it).context("no frame was heard")?;
    Ok(*frame.first_chunk().context("a frame has a head")?)
}
