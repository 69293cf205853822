//! Join: from the command on a VM to the first ping over the overlay, 150 ms away from the service and from the other peer,
//! on VMs whose metadata service never answers.

use std::time::{Duration, Instant};

use anyhow::Result;
use cladnet_sandbox::Topology;

use super::Effort;
use crate::{
    report::{Better, Report, percentile},
    world::{CONTROL, Servers, World},
};

const NETWORK: &str = "bench";

/// From the joining VMs to everything else, one way: a continent.
const ONE_WAY_MS: f64 = 75.0;

/// What a join may take, in seconds.
const TARGET: f64 = 2.0;

pub(super) fn measure(effort: Effort) -> Result<Report> {
    let joins = match effort {
        Effort::Quick => 5,
        Effort::Normal => 20,
        Effort::Long => 100,
    };
    let mut report = Report::new("join");
    let world = World::raise(&topology(joins)?, Servers::One)?;
    world.admin().run(["network", "create", NETWORK, "--hosts", "250"])?;
    world.join_all(&["anchor"], NETWORK)?;
    let anchor = world.address(NETWORK, "anchor")?;
    let mut samples = Vec::new();
    for n in 0..joins {
        let vm = format!("vm-{n}");
        world.start_agent(&vm)?;
        let begin = Instant::now();
        world.join(&vm, NETWORK)?;
        world.first_reply(&vm, anchor, Duration::from_secs(30))?;
        samples.push(begin.elapsed().as_secs_f64());
    }
    report.add("join_to_first_ping_p50", percentile(&samples, 50.0), "s", Better::Lower, None);
    report.add("join_to_first_ping_p95", percentile(&samples, 95.0), "s", Better::Lower, Some(TARGET));
    report.add("join_to_first_ping_max", percentile(&samples, 100.0), "s", Better::Lower, None);
    Ok(report)
}

fn topology(joins: usize) -> Result<Topology> {
    let vms: String =
        (0..joins).map(|n| format!("  - {{ name: vm-{n}, vpc: far, subnet: far, metadata: none }}\n")).collect();
    let text = format!(
        "vpcs:
  - name: near
    provider: aws
    region: ap-northeast-2
    cidrs: [10.0.0.0/16]
    subnets: [{{ name: near, cidr: 10.0.0.0/20 }}]
  - name: far
    provider: gcp
    region: us-central1
    cidrs: [10.0.0.0/16]
    subnets: [{{ name: far, cidr: 10.0.0.0/20 }}]
vms:
  - {{ name: anchor, vpc: near, subnet: near }}
{vms}internet:
  - {{ name: {CONTROL}, region: seoul, host_access: true }}
wan:
  links:
    - {{ between: [internet/seoul, gcp/us-central1], delay_ms: {ONE_WAY_MS} }}
    - {{ between: [aws/ap-northeast-2, gcp/us-central1], delay_ms: {ONE_WAY_MS} }}
"
    );
    Ok(Topology::from_yaml(&text)?)
}
