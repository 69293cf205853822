//! Coming and going: join, leave, removal, deletion, several networks on one host, networks whose ids begin alike.

use std::time::Duration;

use anyhow::{Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};

use crate::clouds;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn joined_peers_ping_and_one_that_leaves_is_gone_everywhere() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10", "--rule-type", "cost-prioritized"])?;
        world.join_all(&["aws-1", "aws-2", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;
        let left = world.address("prod", "gcp-1")?;

        world.agent("gcp-1", ["leave", "prod"])?;

        gone(world, "prod", "gcp-1")?;
        eventually("aws-1 to forget gcp-1", SOON, || world.never_reaches("aws-1", left))?;
        world.ping("aws-1", world.address("prod", "aws-2")?)?;
        ensure!(!links(world, "gcp-1")?.contains("cbnet0"), "gcp-1 still has its interface");

        // The same machine may come back, and gets its old address, which nobody else had meanwhile.
        world.join("gcp-1", "prod")?;
        world.wait_mesh("prod", &["aws-1", "gcp-1"])
    });
}

#[test]
fn a_removed_peer_is_cut_off_and_a_deleted_network_leaves_no_interface() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "aws-2", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;
        let removed = world.address("prod", "gcp-1")?;

        world.admin().run(["peer", "remove", "prod", "gcp-1", "--yes"])?;
        eventually("aws-1 to cut gcp-1 off", SOON, || world.never_reaches("aws-1", removed))?;
        eventually("gcp-1 to take its interface down", SOON, || no_interface(world, "gcp-1", "cbnet0"))?;

        let refused = world.admin().ask(["network", "delete", "prod", "--yes"])?;
        ensure!(refused.code == 4, "deleting a network with peers: {refused:?}");
        world.admin().run(["network", "delete", "prod", "--force", "--yes"])?;
        for vm in ["aws-1", "aws-2"] {
            eventually("the interface to go", SOON, || no_interface(world, vm, "cbnet0"))?;
        }
        ensure!(world.admin().ask(["network", "show", "prod"])?.code == 3, "the network is still there");
        Ok(())
    });
}

#[test]
fn two_networks_on_one_host_are_apart() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "red", "--hosts", "10"])?;
        world.admin().run(["network", "create", "blue", "--hosts", "10"])?;
        world.join_all(&["aws-1", "gcp-1"], "red")?;
        world.join("aws-1", "blue")?;
        world.start_agent("aws-2")?;
        world.join("aws-2", "blue")?;
        world.wait_mesh("red", &["aws-1", "gcp-1"])?;
        world.wait_mesh("blue", &["aws-1", "aws-2"])?;
        let found = links(world, "aws-1")?;
        ensure!(found.contains("cbnet0") && found.contains("cbnet1"), "aws-1 has {found}");

        // gcp-1 is not in blue, and aws-2 not in red; aws-1, in both, forwards nothing between them.
        world.never_reaches("gcp-1", world.address("blue", "aws-2")?)?;

        world.agent("aws-1", ["leave", "red"])?;
        world.ping("aws-1", world.address("blue", "aws-2")?)?;
        Ok(())
    });
}

#[test]
fn a_network_never_sees_another_whose_id_begins_like_its_own() {
    story(&clouds::overlapping(), Servers::One, |world| {
        for network in ["mcis1", "mcis10", "mcis1-dev"] {
            world.admin().run(["network", "create", network, "--hosts", "10"])?;
        }
        world.join_all(&["aws-1", "aws-2"], "mcis10")?;
        world.start_agent("gcp-1")?;
        world.join("gcp-1", "mcis1")?;
        world.wait_mesh("mcis10", &["aws-1", "aws-2"])?;
        eventually("gcp-1 to have an address", SOON, || world.address("mcis1", "gcp-1"))?;
        let of_mcis1 = world.addresses("mcis1")?;
        ensure!(of_mcis1.keys().eq(["gcp-1"]), "mcis1 sees {of_mcis1:?}");
        ensure!(world.addresses("mcis1-dev")?.is_empty(), "mcis1-dev has peers");

        world.admin().run(["network", "delete", "mcis1", "--force", "--yes"])?;
        eventually("gcp-1 to be out", SOON, || no_interface(world, "gcp-1", "cbnet0"))?;
        world.ping("aws-1", world.address("mcis10", "aws-2")?)?;
        Ok(())
    });
}

#[test]
fn a_peer_that_is_taken_down_is_silent_until_it_is_taken_up() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "gcp-1"])?;
        let address = world.address("prod", "gcp-1")?;
        world.wait_online("prod", "gcp-1")?;

        let down = world.admin().json(["peer", "down", "prod", "gcp-1"])?;
        ensure!(down["results"][0]["outcome"] == "acknowledged", "{down}");
        world.never_reaches("aws-1", address)?;

        // Down outlives the agent.
        world.vm("gcp-1")?.kill_service("cladnet-agent", 9)?;
        world.wait_online("prod", "gcp-1")?;
        world.never_reaches("aws-1", address)?;

        let up = world.admin().json(["peer", "up", "prod", "gcp-1"])?;
        ensure!(up["results"][0]["outcome"] == "acknowledged", "{up}");
        world.ping_soon("aws-1", address)?;
        Ok(())
    });
}

fn gone(world: &World, network: &str, vm: &str) -> Result<()> {
    eventually(&format!("{vm} to be gone from {network}"), SOON, || {
        ensure!(!world.addresses(network)?.contains_key(vm), "it is still listed");
        Ok(())
    })
}

fn links(world: &World, vm: &str) -> Result<String> {
    Ok(world.vm(vm)?.run(["ls", "/sys/class/net"])?)
}

fn no_interface(world: &World, vm: &str, name: &str) -> Result<()> {
    let found = links(world, vm)?;
    ensure!(!found.split_whitespace().any(|link| link == name), "{vm} has {found}");
    Ok(())
}
