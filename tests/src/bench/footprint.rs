//! Footprint: resident memory of an agent and of a server that have nothing to do, on the demo's clouds; and of an agent that knows a
//! thousand peers (plain ones, which cost an agent as much to know as any other).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::{ServiceState, Topology};

use super::Effort;
use crate::{
    report::{Better, Report},
    wait::eventually,
    world::{AGENT, CONTROL, Servers, World},
};

const NETWORK: &str = "bench";

/// What an agent may hold, in MB (10^6 bytes).
const AGENT_TARGET: f64 = 20.0;

pub(super) fn measure(effort: Effort) -> Result<Report> {
    let mut report = Report::new("footprint");
    let world = World::raise(&Topology::demo(), Servers::One)?;
    world.admin().run(["network", "create", NETWORK, "--hosts", "2000"])?;
    let names = world.vm_names()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.join_all(&names, NETWORK)?;
    world.wait_mesh(NETWORK, &names)?;
    let agent = resident_megabytes(&world, "aws-1", AGENT)?;
    report.add("agent_idle_5_peers", agent, "MB", Better::Lower, Some(AGENT_TARGET));
    report.add("server_idle_6_agents", resident_megabytes(&world, CONTROL, "server")?, "MB", Better::Lower, None);

    let peers = if effort == Effort::Quick { 100 } else { 1000 };
    add_plain_peers(&world, peers)?;
    let agent = resident_megabytes(&world, "aws-1", AGENT)?;
    report.add(format!("agent_knows_{peers}_peers"), agent, "MB", Better::Lower, Some(AGENT_TARGET));
    let server = resident_megabytes(&world, CONTROL, "server")?;
    report.add(format!("server_knows_{peers}_peers"), server, "MB", Better::Lower, None);
    Ok(report)
}

/// Adds peers that never answer, and waits until the agent of `aws-1` knows them.
fn add_plain_peers(world: &World, peers: usize) -> Result<()> {
    let before = known_peers(world)?;
    for n in 0..peers {
        let name = format!("plain-{n}");
        world.admin().run(["peer", "export", NETWORK, &name])?;
    }
    eventually("the agent to know every plain peer", Duration::from_secs(60), || {
        let known = known_peers(world)?;
        ensure!(known >= before + peers, "it knows {known}");
        Ok(())
    })
}

fn known_peers(world: &World) -> Result<usize> {
    Ok(world.agent("aws-1", ["peers"])?.as_array().context("the agent listed no peers")?.len())
}

/// Resident memory of a service's process.
fn resident_megabytes(world: &World, vm: &str, service: &str) -> Result<f64> {
    let vm = world.vm(vm)?;
    let services = vm.services()?;
    let status = services.iter().find(|status| status.name == service).context("no such service")?;
    let ServiceState::Running { pid } = status.state else { anyhow::bail!("{service} does not run") };
    let status = vm.run(["cat", &format!("/proc/{pid}/status")])?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}
