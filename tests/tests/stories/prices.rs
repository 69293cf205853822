//! Paths that cost least, by the shipped tariffs: inside a zone, between zones, between regions, and where a private path costs more.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};
use serde_json::Value;

use crate::clouds;

/// For failing, not a target: the benchmarks have those.
const SOON: Duration = Duration::from_secs(30);

const VMS: [&str; 6] = ["aws-1", "aws-2", "aws-3", "abroad", "azure-1", "azure-2"];

#[test]
fn every_pair_takes_the_path_that_costs_least_and_says_what_it_costs() {
    story(&clouds::priced(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&VMS, "prod")?;
        world.wait_mesh("prod", &VMS)?;

        // Two subnets of one zone, where cb-network's rule pays for public addresses.
        paid(world, ["aws-1", "aws-2"], "private", 0, 0)?;
        let ancestor = listed(&explain(world, "aws-1", "aws-2")?["basic"]["price"]);
        ensure!(ancestor == Some(20), "cb-network's rule pays {ancestor:?}");
        // Two zones: private and public cost the same.
        priced(world, ["aws-1", "aws-3"], 20, 20)?;
        // Two regions: it depends on the direction.
        paid(world, ["aws-1", "abroad"], "public", 80, 90)?;
        // Two clouds.
        paid(world, ["aws-1", "azure-1"], "public", 126, 120)?;
        // Two VNets that are peered, which costs, in one region, where public addresses cost nothing.
        paid(world, ["azure-1", "azure-2"], "public", 0, 0)?;
        eventually("the peered path to be measured and too dear", SOON, || {
            let explained = explain(world, "azure-1", "azure-2")?;
            let candidates = explained["candidates"].as_array().context("no candidates")?;
            let peered =
                candidates.iter().find(|candidate| candidate["scope"] == "private").context("none is private")?;
            ensure!(listed(&peered["price"]) == Some(20) && peered["rank"] == 2, "it is {peered}");
            Ok(())
        })?;
        world.explain_agrees("prod")
    });
}

#[test]
fn an_operators_prices_reach_agents_and_move_their_paths() {
    story(&clouds::priced(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["azure-1", "azure-2"], "prod")?;
        paid(world, ["azure-1", "azure-2"], "public", 0, 0)?;

        // By a contract of ours peering costs nothing, and public addresses do.
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("contract.toml");
        let contract = "[providers.azure]\nrules = [
            { class = 'peered-same-zone', sender = 0, receiver = 0 },
            { class = 'same-zone-public', sender = 0.03, receiver = 0 },
        ]";
        fs::write(&file, contract)?;
        world.admin().run(["tariff", "set", &file.display().to_string()])?;
        paid(world, ["azure-1", "azure-2"], "private", 0, 0)?;
        world.explain_agrees("prod")?;

        // An empty document takes them back.
        world.admin().run(["tariff", "set", "/dev/null"])?;
        paid(world, ["azure-1", "azure-2"], "public", 0, 0)?;
        world.explain_agrees("prod")
    });
}

#[test]
fn a_pair_without_a_path_that_is_allowed_has_none_and_says_why() {
    story(&clouds::priced(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10", "--forbid", "public"])?;
        world.join_all(&["aws-1", "aws-2", "abroad"], "prod")?;
        let addresses = world.addresses("prod")?;
        world.ping_soon("aws-1", addresses["aws-2"])?;
        world.sends_by("prod", "aws-1", "aws-2", "private")?;

        for (from, to) in [("aws-1", "abroad"), ("abroad", "aws-1")] {
            eventually("the agent to know no path", SOON, || world.sends_by("prod", from, to, ""))?;
            world.never_reaches(from, addresses[to])?;
            let explained = explain(world, from, to)?;
            let summary = explained["summary"].as_str().unwrap_or_default();
            ensure!(summary.contains("no path") && summary.contains("forbidden"), "it says {summary:?}");
        }
        world.explain_agrees("prod")?;

        // What is allowed again is used again.
        world.admin().run(["network", "update", "prod", "--forbid", "none"])?;
        world.ping_soon("aws-1", addresses["abroad"])?;
        world.sends_by("prod", "aws-1", "abroad", "public")?;
        world.explain_agrees("prod")
    });
}

/// Holds once a pair's agents use this kind of path both ways, at these prices; see [`listed`].
fn paid(world: &World, [one, other]: [&str; 2], scope: &str, there: u64, back: u64) -> Result<()> {
    eventually(&format!("{one} and {other} to use the {scope} path"), SOON, || {
        world.sends_by("prod", one, other, scope)?;
        world.sends_by("prod", other, one, scope)?;
        priced(world, [one, other], there, back)
    })
}

fn priced(world: &World, [one, other]: [&str; 2], there: u64, back: u64) -> Result<()> {
    for (from, to, price, return_price) in [(one, other, there, back), (other, one, back, there)] {
        eventually(&format!("the price from {from} to {to}"), SOON, || {
            let explained = explain(world, from, to)?;
            let best = &explained["candidates"][0];
            let told = [listed(&best["price"]), listed(&best["returnPrice"])];
            let wanted = [Some(price), Some(return_price)];
            ensure!(told == wanted, "{told:?} there and back, not {wanted:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// What a quote's tariff rules list, in thousandths of a USD: per GB or GiB, as each provider counts.
fn listed(quote: &Value) -> Option<u64> {
    let parts = quote["parts"].as_array()?.iter();
    let nano = parts.map(|part| part["listedNano"].as_str()?.parse::<u64>().ok());
    Some(nano.sum::<Option<u64>>()? / 1_000_000)
}

fn explain(world: &World, from: &str, to: &str) -> Result<Value> {
    world.admin().json(["path", "explain", "prod", from, to])
}
