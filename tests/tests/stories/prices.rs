//! Paths that cost least, by the shipped tariffs: inside a zone, between zones, between regions, and where a private path costs more.

use std::time::Duration;

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
        paid(world, ["aws-1", "aws-2"], "private", "0", "0")?;
        ensure!(explain(world, "aws-1", "aws-2")?["basic"]["price"]["usdPerGb"] == "0.02");
        // Two zones.
        paid(world, ["aws-1", "aws-3"], "private", "0.02", "0.02")?;
        // Two regions: it depends on the direction.
        paid(world, ["aws-1", "abroad"], "public", "0.08", "0.09")?;
        // Two clouds.
        paid(world, ["aws-1", "azure-1"], "public", "0.126", "0.12")?;
        // Two VNets that are peered, which costs, in one region, where public addresses cost nothing.
        paid(world, ["azure-1", "azure-2"], "public", "0", "0")?;
        eventually("the peered path to be measured and too dear", SOON, || {
            let explained = explain(world, "azure-1", "azure-2")?;
            let candidates = explained["candidates"].as_array().context("no candidates")?;
            let peered =
                candidates.iter().find(|candidate| candidate["scope"] == "private").context("none is private")?;
            ensure!(peered["price"]["usdPerGb"] == "0.02" && peered["rank"] == 2, "it is {peered}");
            Ok(())
        })?;
        each_pair(|from, to| explain_tells_what_the_agent_does(world, from, to))
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

        // What is allowed again is used again.
        world.admin().run(["network", "update", "prod", "--forbid", "none"])?;
        world.ping_soon("aws-1", addresses["abroad"])?;
        world.sends_by("prod", "aws-1", "abroad", "public")
    });
}

/// Holds once a pair's agents use this kind of path both ways, at these prices.
fn paid(world: &World, [one, other]: [&str; 2], scope: &str, there: &str, back: &str) -> Result<()> {
    eventually(&format!("{one} and {other} to use the {scope} path"), SOON, || {
        world.sends_by("prod", one, other, scope)?;
        world.sends_by("prod", other, one, scope)
    })?;
    for (from, to, price, return_price) in [(one, other, there, back), (other, one, back, there)] {
        let explained = explain(world, from, to)?;
        let best = &explained["candidates"][0];
        let told = [&best["price"]["usdPerGb"], &best["returnPrice"]["usdPerGb"]];
        ensure!(told == [price, return_price], "{from} to {to}: {told:?}, not {price} there and {return_price} back");
    }
    Ok(())
}

/// Holds once the first that is explained is the one in use.
fn explain_tells_what_the_agent_does(world: &World, from: &str, to: &str) -> Result<()> {
    eventually("explanation and agent to agree", SOON, || {
        let explained = explain(world, from, to)?;
        let peers = world.agent(from, ["peers", "prod"])?;
        let peer = peers.as_array().into_iter().flatten().find(|peer| peer["name"] == to).context("no such peer")?;
        let best = &explained["candidates"][0];
        ensure!(best["endpoint"] == peer["endpoint"], "{from} to {to}: {best} is told, {peer} is done");
        Ok(())
    })
}

fn explain(world: &World, from: &str, to: &str) -> Result<Value> {
    world.admin().json(["path", "explain", "prod", from, to])
}

fn each_pair(check: impl Fn(&str, &str) -> Result<()>) -> Result<()> {
    let pairs = VMS.iter().flat_map(|from| VMS.iter().filter(move |to| *to != from).map(move |to| (from, to)));
    pairs.into_iter().try_for_each(|(from, to)| check(from, to))
}
