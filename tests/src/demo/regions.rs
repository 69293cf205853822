//! `--regions N`: a VM in each of the measured regions, in a network of the rule type `basic` and in one of `cost-prioritized`; the
//! round trips of both side by side, with the money of each.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, stdout},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::{
    Topology,
    regions::{Region, measured},
};
use serde_json::Value;

use super::say;
use crate::{
    heatmap::{Square, side_by_side},
    report::percentile,
    wait::eventually,
    world::{Servers, World},
};

/// The networks, each named after its rule type.
const NETWORKS: [&str; 2] = ["basic", "cost-prioritized"];

/// What each VM is taken to send to each other in a month.
const MONTHLY_GB: f64 = 100.0;

/// VMs that are joined at a time: more only wait for the machine.
const AT_A_TIME: usize = 4;

/// How long all pairs may take to answer; for failing, not a target.
const MESH: Duration = Duration::from_secs(120);

/// What the money of one network is.
struct Money {
    usd: f64,
    pairs: usize,
    /// Pairs whose price the tariff book does not know.
    unpriced: usize,
}

/// Returns the id that the sandbox had.
pub(super) fn tell(count: usize, check: bool, interrupted: &AtomicBool) -> Result<String> {
    let regions = measured();
    let regions = regions.get(..count).with_context(|| format!("there are {} regions", regions.len()))?;
    say(&format!("raising {count} VMs in {count} regions of AWS and GCP on this machine"));
    println!(
        "Round trips as measured for the 6th conference of Cloud-Barista; which regions these were is our choice."
    );
    let world = World::raise(&topology(regions), Servers::One)?;
    let told = show(&world, regions, check, interrupted);
    if told.is_err() && !interrupted.load(Ordering::SeqCst) {
        println!("logs: {}", world.save_logs()?.display());
    }
    told.map(|()| world.sandbox().id().to_owned())
}

fn topology(regions: &[Region]) -> Topology {
    let mut topology = Topology::regions();
    let is_there = |name: &str| regions.iter().any(|region| region.name == name);
    topology.vms.retain(|vm| is_there(&vm.name));
    topology.vpcs.retain(|vpc| is_there(&vpc.name));
    let sites = topology.vpcs.iter().map(|vpc| vpc.site()).chain(topology.internet.iter().map(|vm| vm.site()));
    let sites: Vec<String> = sites.collect();
    topology.wan.links.retain(|link| link.between.iter().all(|site| sites.contains(site)));
    topology
}

fn show(world: &World, regions: &[Region], check: bool, interrupted: &AtomicBool) -> Result<()> {
    for network in NETWORKS {
        world.admin().run(["network", "create", network, "--hosts", "50", "--rule-type", network])?;
    }
    let names: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
    say("starting the agents, and joining each to both networks");
    let begin = Instant::now();
    join(world, &names)?;
    println!("{} VMs in {:.1} s", names.len(), begin.elapsed().as_secs_f64());

    say("round trips in milliseconds, row to column");
    // The first round is for the handshakes.
    NETWORKS.iter().try_for_each(|network| round_trips(world, network, &names).map(drop))?;
    let (mut squares, mut money) = (Vec::new(), Vec::new());
    for network in NETWORKS {
        ensure!(!interrupted.load(Ordering::SeqCst), "interrupted");
        let measure = || round_trips(world, network, &names);
        let cells = if check {
            // All twenty agents share this machine's cores, and have more to do when they have just joined.
            eventually(&format!("usual round trips of {network}"), MESH, || {
                let cells = measure()?;
                resembles(regions, &cells).map(|()| cells)
            })?
        } else {
            measure()?
        };
        squares.push(Square { title: network, cells });
        money.push(priced(world, network)?);
    }
    print!("{}", side_by_side(&names, &squares, stdout().is_terminal()));
    say(&format!("{MONTHLY_GB} GB a month from each VM to each other"));
    for (network, Money { usd, pairs, unpriced }) in NETWORKS.iter().zip(&money) {
        println!(
            "{network:<18}{usd:>12.2} USD, and {unpriced} of {pairs} pairs whose price the tariff book does not know"
        );
    }
    if money[0].usd > 0.0 && money.iter().all(|one| (one.usd - money[0].usd).abs() < 0.005) {
        println!(
            "Between regions AWS and GCP take the same for private and public addresses, and to another cloud it is always the internet: \
             what a rule can save is inside regions, and where VPCs are peered."
        );
    }
    Ok(())
}

fn join(world: &World, names: &[&str]) -> Result<()> {
    names.chunks(AT_A_TIME).try_for_each(|names| {
        thread::scope(|scope| {
            let joining: Vec<_> = names
                .iter()
                .map(|name| {
                    scope.spawn(move || {
                        world.start_agent(name)?;
                        NETWORKS.iter().try_for_each(|network| world.join(name, network).map(drop))
                    })
                })
                .collect();
            joining.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a join panicked"))?)
        })
    })
}

/// The quickest of a few pings of each pair: what else the machine does is not the path.
fn round_trips(world: &World, network: &str, names: &[&str]) -> Result<Vec<Vec<Option<f64>>>> {
    let ends =
        |pair: &Value| ["sourceName", "destinationName"].map(|end| pair[end].as_str().unwrap_or_default().to_owned());
    let pairs = names.len() * (names.len() - 1);
    let results = eventually("a reply of every pair", MESH, || {
        // It fails while a pair is silent, and tells all the same.
        let test = ["--output", "json", "test", "connectivity", network, "--count", "5", "--interval", "500ms"];
        let answer = world.admin().ask(test)?;
        let told: Value = serde_json::from_str(&answer.stdout).with_context(|| answer.stderr.trim().to_owned())?;
        let results = told["results"].as_array().context("no results")?;
        let silent = results.iter().filter(|pair| pair["received"].as_u64().unwrap_or(0) == 0);
        let silent: Vec<_> = silent.map(|pair| ends(pair).join(" to ")).collect();
        ensure!(silent.is_empty(), "no reply from {}", silent.join(", "));
        ensure!(results.len() == pairs, "{} of {pairs} pairs were asked", results.len());
        Ok(results.clone())
    })?;
    let quickest = results.iter().filter_map(|pair| Some((ends(pair), pair["minUs"].as_f64()? / 1e3)));
    let quickest: BTreeMap<[String; 2], f64> = quickest.collect();
    let cell = |from: &str, to: &str| quickest.get(&[from.to_owned(), to.to_owned()]).copied();
    Ok(names.iter().map(|from| names.iter().map(|to| cell(from, to)).collect()).collect())
}

/// Holds if the pairs, taken together, are as quick as was measured: the figures of one pair are those of a busy machine.
fn resembles(regions: &[Region], cells: &[Vec<Option<f64>>]) -> Result<()> {
    let mut ratios = Vec::new();
    for (row, from) in regions.iter().enumerate() {
        for (column, to) in regions.iter().enumerate().filter(|(column, _)| *column != row) {
            let measured = (from.round_trips_ms[column] + to.round_trips_ms[row]) / 2.0;
            let found = cells[row][column].with_context(|| format!("{} has no reply of {}", from.name, to.name))?;
            ratios.push(found / measured);
        }
    }
    let ratio = percentile(&ratios, 50.0);
    ensure!((0.95..3.0).contains(&ratio), "half of them take more than {ratio:.2} times what was measured");
    Ok(())
}

/// What the paths in use cost, as the service tells.
fn priced(world: &World, network: &str) -> Result<Money> {
    let paths = world.admin().json(["path", "list", network])?;
    let paths = paths["paths"].as_array().context("no paths")?;
    let prices = paths.iter().filter_map(|path| path["usdPerGb"].as_str()?.parse::<f64>().ok());
    let prices: Vec<f64> = prices.collect();
    // Not `sum`, which makes -0 of nothing.
    let usd = prices.iter().fold(0.0, |sum, price| sum + price * MONTHLY_GB);
    Ok(Money { usd, pairs: paths.len(), unpriced: paths.len() - prices.len() })
}
