//! How long traffic is away when its path dies, when it is taken back, and when the other end gets another public address: pings fifty
//! times a second all the while, and the longest time without a reply is the figure.
//!
//! A path that has failed has to prove itself for longer each time, so every trial that blocks one is of another pair.

use std::{thread, time::Duration};

use anyhow::{Context as _, Error, Result};
use cladnet_sandbox::{BlockedPath, Direction, Topology};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::Effort;
use crate::{
    report::{Better, Report, percentile},
    wait::eventually,
    world::{CONTROL, Servers, World},
};

const NETWORK: &str = "bench";

/// VMs of one VPC: enough for a pair per trial.
const NEAR: usize = 9;
/// VMs of another cloud, whose addresses change.
const FAR: usize = 3;

/// In seconds, for 95 % of the trials.
const DEAD_PATH_TARGET: f64 = 1.5;
const ADDRESS_TARGET: f64 = 3.0;

/// For failing, not a target.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let trials = match effort {
        Effort::Quick => 5,
        Effort::Normal | Effort::Long => 30,
    };
    let world = World::raise(&topology()?, Servers::One)?;
    world.admin().run(["network", "create", NETWORK, "--hosts", "50"])?;
    let names = world.vm_names()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.join_all(&names, NETWORK)?;
    world.wait_mesh(NETWORK, &names)?;

    let pairs: Vec<(usize, usize)> = (0..NEAR).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
    match trials_of(trials, |trial, random| dead_path(&world, pairs[trial % pairs.len()], random)) {
        Ok(times) => {
            let (left, returned): (Vec<_>, Vec<_>) = times.into_iter().unzip();
            add(report, "dead_path", &left, DEAD_PATH_TARGET);
            add(report, "path_taken_back", &returned, DEAD_PATH_TARGET);
        }
        Err(error) => miss(report, "dead_path", &error),
    }
    match trials_of(trials, |trial, random| address_change(&world, trial % FAR, trial % NEAR, random)) {
        Ok(times) => add(report, "address_change", &times, ADDRESS_TARGET),
        Err(error) => miss(report, "address_change", &error),
    }
    Ok(())
}

/// What each trial measured; its number is its seed.
fn trials_of<T>(trials: usize, one: impl Fn(usize, &mut StdRng) -> Result<T>) -> Result<Vec<T>> {
    let trial = |trial: usize| {
        let mut random = StdRng::seed_from_u64(trial as u64);
        one(trial, &mut random).with_context(|| format!("trial {trial}"))
    };
    (0..trials).map(trial).collect()
}

fn add(report: &mut Report, name: &str, times: &[Duration], target: f64) {
    let times: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    report.add(format!("{name}_p50"), percentile(&times, 50.0), "s", Better::Lower, None);
    report.add(format!("{name}_p95"), percentile(&times, 95.0), "s", Better::Lower, Some(target));
    report.add(format!("{name}_max"), percentile(&times, 100.0), "s", Better::Lower, None);
}

fn miss(report: &mut Report, name: &str, error: &Error) {
    report.miss(format!("{name}_p95"), "s", Better::Lower, format!("{error:#}"));
}

/// How long traffic was away when its path died, and when that was taken back after repair.
fn dead_path(world: &World, (a, b): (usize, usize), random: &mut StdRng) -> Result<(Duration, Duration)> {
    let (here, there) = (near(a), near(b));
    eventually("the private path to be used", DEADLINE, || by(world, &here, &there, "private"))?;
    let overlay = world.address(NETWORK, &there)?;
    let block = || {
        any_phase(random);
        Ok(world.sandbox().block(&here, &there, BlockedPath::Private, Direction::BothWays)?)
    };
    let away = world.longest_pause(&here, overlay, DEADLINE, block, || by(world, &here, &there, "public"))?;
    let unblock = || Ok(world.sandbox().unblock(&here, &there, BlockedPath::Private, Direction::BothWays)?);
    let back = world.longest_pause(&here, overlay, DEADLINE, unblock, || by(world, &here, &there, "private"))?;
    Ok((away, back))
}

fn by(world: &World, here: &str, there: &str, scope: &str) -> Result<()> {
    world.sends_by(NETWORK, here, there, scope)?;
    world.sends_by(NETWORK, there, here, scope)
}

fn address_change(world: &World, far: usize, near_by: usize, random: &mut StdRng) -> Result<Duration> {
    let (here, there) = (near(near_by), format!("far-{far}"));
    let overlay = world.address(NETWORK, &there)?;
    world.ping_soon(&here, overlay)?;
    let change = || {
        any_phase(random);
        world.vm(&there)?.readdress()?;
        Ok(())
    };
    world.longest_pause(&here, overlay, DEADLINE, change, || world.ping(&here, overlay).map(drop))
}

/// Waits for any part of the second in which agents look after their paths.
fn any_phase(random: &mut StdRng) {
    thread::park_timeout(Duration::from_millis(random.random_range(0..1000)));
}

fn near(n: usize) -> String {
    format!("near-{n}")
}

fn topology() -> Result<Topology> {
    let vms = |name: &str, count: usize| -> String {
        (0..count).map(|n| format!("  - {{ name: {name}-{n}, vpc: {name}, subnet: {name} }}\n")).collect()
    };
    let (near, far) = (vms("near", NEAR), vms("far", FAR));
    let text = format!(
        "vpcs:
  - name: near
    provider: aws
    region: ap-northeast-2
    account: \"111122223333\"
    cidrs: [10.0.0.0/16]
    subnets: [{{ name: near, cidr: 10.0.1.0/24, zone: ap-northeast-2a }}]
  - name: far
    provider: gcp
    region: asia-northeast1
    account: bench
    cidrs: [10.1.0.0/16]
    subnets: [{{ name: far, cidr: 10.1.1.0/24, zone: asia-northeast1-a }}]
vms:
{near}{far}internet:
  - {{ name: {CONTROL}, region: seoul, host_access: true }}
"
    );
    Ok(Topology::from_yaml(&text)?)
}
