//! Path rules: what they override for the pairs that they mean, on peers that live and connections that go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};
use serde_json::Value;

use crate::{
    clouds,
    encryption::transport,
    rules::{accept, apply, carries, connect, listen},
};

const SOON: Duration = Duration::from_secs(30);
const PORT: u16 = 7000;
const VMS: [&str; 4] = ["aws-1", "aws-2", "aws-3", "gcp-1"];

#[test]
fn a_rule_steers_the_pairs_that_it_means_and_costs_no_connection() {
    story(&clouds::neighbours(), Servers::One, |world| {
        raise(world)?;
        let listener = listen(world, "aws-2", PORT)?;
        let mut asked = connect(world, "aws-1", world.address("prod", "aws-2")?, PORT)?;
        let mut answered = accept(&listener, &asked)?;
        let mut goes_on = || {
            carries(&mut asked, &mut answered, SOON)?;
            carries(&mut answered, &mut asked, SOON)
        };
        sends(world, "aws-1", "aws-2", "private")?;

        apply(world, "rules: [{ id: outside, kind: path, from: role=web, to: role=db, prefer: public }]")?;
        sends(world, "aws-1", "aws-2", "public")?;
        goes_on()?;
        told(world, "aws-1", "aws-2", "scope public is preferred (rule outside)")?;
        // Another direction, and another peer.
        sends(world, "aws-2", "aws-1", "private")?;
        sends(world, "aws-1", "aws-3", "private")?;
        world.explain_agrees("prod")?;

        // Who loses the label is no longer meant.
        world.admin().run(["peer", "update", "prod", "aws-2", "--remove-label", "role"])?;
        sends(world, "aws-1", "aws-2", "private")?;
        goes_on()?;
        label(world, "aws-2", "db")?;
        sends(world, "aws-1", "aws-2", "public")?;

        apply(world, "rules: [{ id: plainly, kind: path, from: role=web, to: role=db, rule_type: basic }]")?;
        told(world, "aws-1", "aws-2", "rule plainly excludes")?;
        sends(world, "aws-1", "aws-2", "public")?;
        let explained = explain(world, "aws-1", "aws-2")?;
        ensure!(explained["ruleType"] == "basic" && explained["ruleIds"][0] == "plainly", "{explained}");
        let other = explain(world, "aws-1", "aws-3")?;
        ensure!(
            other["ruleType"] == "cost-prioritized" && other["ruleIds"].as_array().is_none_or(Vec::is_empty),
            "{other}"
        );

        // By address as by label.
        let address = world.address("prod", "aws-2")?;
        apply(world, &format!("rules: [{{ id: named, kind: path, to: {address}, forbid: [private] }}]"))?;
        told(world, "aws-1", "aws-2", "rule named excludes")?;
        sends(world, "aws-3", "aws-2", "public")?;
        world.explain_agrees("prod")?;

        apply(world, "rules: []")?;
        for from in ["aws-1", "aws-3"] {
            sends(world, from, "aws-2", "private")?;
        }
        goes_on()?;
        world.explain_agrees("prod")
    });
}

#[test]
fn a_rule_that_forbids_the_internet_leaves_its_pair_without_a_path_and_says_so() {
    story(&clouds::neighbours(), Servers::One, |world| {
        raise(world)?;
        let both = "rules:
  - { id: no-internet, kind: path, from: role=web, to: role=far, forbid: [public] }
  - { id: nor-back, kind: path, from: role=far, to: role=web, forbid: [public] }
";
        apply(world, both)?;
        for (from, to, rule) in [("aws-1", "gcp-1", "no-internet"), ("gcp-1", "aws-1", "nor-back")] {
            sends(world, from, to, "")?;
            let wanted = format!("that scope is forbidden (rule {rule})");
            told(world, from, to, &wanted)?;
            told(world, from, to, "no path")?;
            let peers = world.agent(from, ["peers"])?;
            let peer = peers.as_array().into_iter().flatten().find(|peer| peer["name"] == to);
            let reason = peer.and_then(|peer| peer["no_path"].as_str()).unwrap_or_default();
            ensure!(reason.contains(&wanted), "the agent says {reason:?}");
        }
        world.never_reaches("aws-1", world.address("prod", "gcp-1")?)?;
        world.explain_agrees("prod")?;
        // The pairs beside it.
        world.ping("aws-2", world.address("prod", "gcp-1")?)?;
        world.ping("aws-1", world.address("prod", "aws-2")?)?;

        label(world, "gcp-1", "near")?;
        world.ping_soon("aws-1", world.address("prod", "gcp-1")?)?;
        sends(world, "aws-1", "gcp-1", "public")?;
        world.explain_agrees("prod")
    });
}

#[test]
fn a_rule_decides_whether_one_pair_talks_in_clear() {
    story(&clouds::neighbours(), Servers::One, |world| {
        raise(world)?;
        travels(world, "aws-2", false)?;
        apply(world, "rules: [{ id: open, kind: path, from: role=web, to: role=db, encryption: public }]")?;
        travels(world, "aws-2", true)?;
        travels(world, "aws-3", false)?;
        explained(world, "aws-2", "clear: both hosts stand in one VPC, and rule open's policy is public")?;

        // Of the rules of both directions, `always` goes before.
        let document = "rules:
  - { id: open, kind: path, from: role=web, to: role=db, encryption: public }
  - { id: vault, kind: path, from: role=db, encryption: always }
";
        apply(world, document)?;
        travels(world, "aws-2", false)?;
        explained(world, "aws-2", "encrypted: rule vault's policy is always")?;

        world.admin().run(["network", "update", "prod", "--encryption", "public"])?;
        travels(world, "aws-3", true)?;
        travels(world, "aws-2", false)?;
        world.explain_agrees("prod")
    });
}

/// A network of four agents with the labels that the rules name.
fn raise(world: &World) -> Result<()> {
    world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
    world.join_all(&VMS, "prod")?;
    world.wait_mesh("prod", &VMS)?;
    for (vm, role) in [("aws-1", "web"), ("aws-2", "db"), ("gcp-1", "far")] {
        label(world, vm, role)?;
    }
    Ok(())
}

fn label(world: &World, vm: &str, role: &str) -> Result<()> {
    world.admin().run(["peer", "update", "prod", vm, "--label", &format!("role={role}")]).map(drop)
}

/// Waits until one VM sends to another over such a path; empty: over none.
fn sends(world: &World, from: &str, to: &str, scope: &str) -> Result<()> {
    eventually(&format!("{from} to send to {to} by {scope:?}"), SOON, || world.sends_by("prod", from, to, scope))
}

/// Waits until *explain* begins with a sentence that says this.
fn told(world: &World, from: &str, to: &str, wanted: &str) -> Result<()> {
    eventually(&format!("explain to say {wanted:?}"), SOON, || {
        let explained = explain(world, from, to)?;
        let summary = explained["summary"].as_str().context("no sentence")?;
        ensure!(summary.contains(wanted), "it says {summary:?}");
        Ok(())
    })
}

/// Waits until `aws-1` and another VM talk in clear, or do not.
fn travels(world: &World, other: &str, in_clear: bool) -> Result<()> {
    let to = world.address("prod", other)?;
    eventually(&format!("clear frames with {other} to be {in_clear}"), SOON, || {
        world.ping("aws-1", to)?;
        for (from, peer) in [("aws-1", other), (other, "aws-1")] {
            let told = transport(world, from, peer)?;
            ensure!((told == "clear") == in_clear, "{from} says {told} of {peer}");
        }
        Ok(())
    })
}

/// Waits until *explain* says this of the encryption between `aws-1` and another VM, which talk: a pair that does not is not
/// told as clear for long.
fn explained(world: &World, other: &str, wanted: &str) -> Result<()> {
    let to = world.address("prod", other)?;
    eventually(&format!("explain to say {wanted:?}"), SOON, || {
        world.ping("aws-1", to)?;
        let sentence = &explain(world, "aws-1", other)?["encryption"];
        ensure!(sentence == wanted, "it says {sentence}");
        Ok(())
    })
}

fn explain(world: &World, from: &str, to: &str) -> Result<Value> {
    world.admin().json(["path", "explain", "prod", from, to])
}
