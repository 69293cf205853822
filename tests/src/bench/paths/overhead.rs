//! What probing costs one host: packets and bytes that it puts on its wire beside the traffic of its users, with so many peers that are
//! idle, and with as many that it talks to. Requests, answers to the peers' own, handshakes and keepalives are all counted.
//!
//! More VMs than fit on a machine are played by the agent's own probing in virtual time: requests and answers only. The same with as
//! few peers as are there for real shows how far that can be relied on.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use cladnet_agent::simulation::{Load, requests_per_second};
use cladnet_sandbox::{Topology, WireCount};
use cladnet_tunnel::PROBE_LEN;

use super::Effort;
use crate::{
    report::{Better, Report},
    wait::eventually,
    world::{CONTROL, Servers, World},
};

const NETWORK: &str = "bench";

/// The host that is looked at.
const HOST: &str = "vm-0";

/// Packets a second with a thousand idle peers, and so with any fewer.
const TARGET: f64 = 5.0;

/// What the agents of a network that has just been raised ask at first is not what they ask for ever.
const SETTLED: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(30);

/// To each peer, by five pings a second.
const PINGS: u32 = 150;
/// An echo of 84 bytes, padded to 96, in a data message of WireGuard in a UDP datagram.
const PING_BYTES: u64 = 96 + 32 + 28;

/// For failing, not a target.
const MESH: Duration = Duration::from_secs(180);

/// In virtual time: long enough for all idle peers to be asked.
const LONG_WINDOW: Duration = Duration::from_secs(600);
/// Headers of IPv4 and UDP.
const HEADERS: usize = 28;

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    for peers in [10, 100, 1000] {
        in_virtual_time(peers, report);
    }
    with_peers(10, report).context("with 10 peers")?;
    match effort {
        // As many machines take minutes to raise and to join.
        Effort::Long => with_peers(100, report).context("with 100 peers"),
        Effort::Quick | Effort::Normal => {
            miss(100, "measured by --long only", report);
            Ok(())
        }
    }
}

/// Every request is answered, and every peer asks as much as it is asked.
fn in_virtual_time(peers: u32, report: &mut Report) {
    for (load, state, window, target) in
        [(Load::Idle, "idle", LONG_WINDOW, Some(TARGET)), (Load::Busy, "busy", WINDOW, None)]
    {
        let packets = 2.0 * requests_per_second(peers, load, window);
        let bytes = packets * (PROBE_LEN + HEADERS) as f64;
        report.add(format!("probing_virtual_{peers}_{state}_packets"), packets, "1/s", Better::Lower, target);
        report.add(format!("probing_virtual_{peers}_{state}_bytes"), bytes, "B/s", Better::Lower, None);
    }
}

fn miss(peers: usize, reason: &str, report: &mut Report) {
    for state in ["idle", "busy"] {
        report.miss(format!("probing_{peers}_{state}_packets"), "1/s", Better::Lower, reason);
        report.miss(format!("probing_{peers}_{state}_bytes"), "B/s", Better::Lower, reason);
    }
}

fn with_peers(peers: usize, report: &mut Report) -> Result<()> {
    let world = World::raise(&topology(peers + 1)?, Servers::One)?;
    world.admin().run(["network", "create", NETWORK, "--hosts", "250"])?;
    let names = world.vm_names()?;
    world.join_all(&names.iter().map(String::as_str).collect::<Vec<_>>(), NETWORK)?;
    eventually("every peer to answer", MESH, || ping_all(&world, peers, 1))?;

    thread::park_timeout(SETTLED);
    let idle = sent_meanwhile(&world, || {
        thread::park_timeout(WINDOW);
        Ok(())
    })?;
    add(report, peers, "idle", idle, Some(TARGET));

    let pings = u64::from(PINGS) * peers as u64;
    let busy = sent_meanwhile(&world, || ping_all(&world, peers, PINGS))?;
    let probing =
        WireCount { packets: busy.packets.saturating_sub(pings), bytes: busy.bytes.saturating_sub(pings * PING_BYTES) };
    add(report, peers, "busy", probing, None);
    Ok(())
}

fn add(report: &mut Report, peers: usize, state: &str, sent: WireCount, target: Option<f64>) {
    let rate = |count: u64| count as f64 / WINDOW.as_secs_f64();
    report.add(format!("probing_{peers}_{state}_packets"), rate(sent.packets), "1/s", Better::Lower, target);
    report.add(format!("probing_{peers}_{state}_bytes"), rate(sent.bytes), "B/s", Better::Lower, None);
}

/// What the host sends to its peers while something takes a [`WINDOW`].
fn sent_meanwhile(world: &World, what: impl FnOnce() -> Result<()>) -> Result<WireCount> {
    let host = world.vm(HOST)?;
    let control = IpAddr::V4(world.control_address()?);
    host.count_wire()?;
    what()?;
    let counts = host.wire_counts()?;
    let to_peers = counts.iter().filter(|(to, _)| **to != control).map(|(_, count)| count);
    Ok(to_peers.fold(WireCount::default(), |sum, count| WireCount {
        packets: sum.packets + count.packets,
        bytes: sum.bytes + count.bytes,
    }))
}

/// Pings all peers at once, five times a second, and holds if none lost everything.
fn ping_all(world: &World, peers: usize, count: u32) -> Result<()> {
    const SCRIPT: &str = "n=$1; shift; for peer; do ping -n -q -i 0.2 -W 2 -c \"$n\" \"$peer\" >/dev/null & done; \
                          failed=0; for job in $(jobs -p); do wait \"$job\" || failed=$((failed + 1)); done; echo $failed";
    let addresses = world.addresses(NETWORK)?;
    let others: Vec<String> =
        addresses.iter().filter(|(name, _)| *name != HOST).map(|(_, address)| address.to_string()).collect();
    ensure!(others.len() == peers, "{} of {peers} peers have addresses", others.len());
    let count = count.to_string();
    let command = ["bash", "-c", SCRIPT, "bash", &count].into_iter().chain(others.iter().map(String::as_str));
    let failed = world.vm(HOST)?.run(command)?;
    ensure!(failed.trim() == "0", "{} of {peers} peers do not answer", failed.trim());
    Ok(())
}

fn topology(count: usize) -> Result<Topology> {
    let vms: String = (0..count).map(|n| format!("  - {{ name: vm-{n}, vpc: home, subnet: home }}\n")).collect();
    let text = format!(
        "vpcs:
  - name: home
    provider: aws
    region: ap-northeast-2
    account: \"111122223333\"
    cidrs: [10.0.0.0/16]
    subnets: [{{ name: home, cidr: 10.0.0.0/20, zone: ap-northeast-2a }}]
vms:
{vms}internet:
  - {{ name: {CONTROL}, region: seoul, host_access: true }}
"
    );
    Ok(Topology::from_yaml(&text)?)
}
