//! Deploy: how many VMs a minute get their agents over SSH, from the command to the last overlay verified, and how long the same
//! command takes when all of it is done already; every VM 40 ms away from the server.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cladnet_sandbox::Topology;

use super::Effort;
use crate::{
    report::{Better, Report},
    world::{CONTROL, HostsFile, Servers, SshKey, World},
};

const NETWORK: &str = "bench";

/// From the server to the VMs, one way.
const ONE_WAY_MS: f64 = 20.0;

/// As many as are asked for are worked on at once, so that the figure is of the work and not of the queue.
const AT_A_TIME: &str = "30";

pub(super) fn measure(effort: Effort) -> Result<Report> {
    let sizes: &[usize] = match effort {
        Effort::Quick => &[3, 10],
        Effort::Normal => &[3, 10, 30],
        Effort::Long => &[3, 10, 30, 100],
    };
    let key = SshKey::make()?;
    let world = World::raise(&topology(sizes.iter().sum(), &key)?, Servers::One)?;
    world.admin().run(["network", "create", NETWORK, "--hosts", "250"])?;
    let mut report = Report::new("deploy");
    let mut first = 0;
    for size in sizes {
        let vms: Vec<String> = (first..first + size).map(vm).collect();
        first += size;
        let minutes = deploy(&world, &key, &vms)?.as_secs_f64() / 60.0;
        report.add(format!("hosts_per_minute_{size}"), vms.len() as f64 / minutes, "1/min", Better::Higher, None);
        let again = deploy(&world, &key, &vms)?.as_secs_f64();
        report.add(format!("again_{size}_s"), again, "s", Better::Lower, None);
    }
    Ok(report)
}

/// Agents onto VMs, and how long that took.
fn deploy(world: &World, key: &SshKey, vms: &[String]) -> Result<Duration> {
    let targets = vms.iter().map(|vm| world.target(vm)).collect::<Result<_>>()?;
    let file = HostsFile::new(key, targets).write(key)?;
    let begin = Instant::now();
    let deployed = world.deploy(&file, NETWORK, &["--concurrency", AT_A_TIME])?;
    let took = begin.elapsed();
    let wanted: Vec<(&str, &str)> = vms.iter().map(|vm| (vm.as_str(), "done")).collect();
    deployed.ended(&wanted).context("a deployment that did not go well measures nothing")?;
    Ok(took)
}

fn vm(n: usize) -> String {
    format!("vm-{n}")
}

fn topology(count: usize, key: &SshKey) -> Result<Topology> {
    let vms: String = (0..count).map(|n| format!("  - {{ name: {}, vpc: far, subnet: far }}\n", vm(n))).collect();
    let text = format!(
        "vpcs:
  - name: far
    provider: gcp
    region: us-central1
    cidrs: [10.0.0.0/16]
    subnets: [{{ name: far, cidr: 10.0.0.0/20 }}]
vms:
{vms}internet:
  - {{ name: {CONTROL}, region: seoul, host_access: true, ssh: off }}
wan:
  links:
    - {{ between: [internet/seoul, gcp/us-central1], delay_ms: {ONE_WAY_MS} }}
"
    );
    let mut topology = Topology::from_yaml(&text)?;
    topology.ssh = Some(key.server()?);
    Ok(topology)
}
