//! Networks that cannot be, and changes that would hurt.

use anyhow::{Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{AGENT, Servers, World, story},
};

use super::{CONFLICT, NOT_FOUND, SOON, USAGE, refused, standing};
use crate::clouds;

/// Command, exit code, what must be said.
const REFUSALS: &[(&[&str], i32, &[&str])] = &[
    (&["create", "new", "--address-space", "banana"], USAGE, &["ipv4_address_space", "banana", "10.64.0.0/16"]),
    (&["create", "new", "--address-space", "172.21.0.0/33"], USAGE, &["ipv4_address_space", "172.21.0.0/33"]),
    (&["create", "new", "--address-space", "172.21.0.0"], USAGE, &["ipv4_address_space", "prefix length"]),
    (&["create", "new", "--address-space", "8.8.8.0/24"], USAGE, &["ipv4_address_space", "public", "10.0.0.0/8"]),
    (&["create", "new", "--address-space", "100.64.0.0/16"], USAGE, &["ipv4_address_space", "10.0.0.0/8"]),
    (&["create", "new", "--address-space", "fd00::/64"], USAGE, &["ipv4_address_space", "IPv6", "172.16.0.0/12"]),
    (&["create", "new", "--address-space", "172.21.0.0/31"], USAGE, &["ipv4_address_space", "/30"]),
    (&["create", "new", "--address-space", "172.21.0.1/32"], USAGE, &["ipv4_address_space", "/30"]),
    (&["create", "new", "--address-space", "172.21.0.7/24"], USAGE, &["ipv4_address_space", "172.21.0.0/24"]),
    (&["create", "new", "--address-space", "172.20.0.0/16"], USAGE, &["ipv4_address_space", "172.20.0.0/28", "taken"]),
    (&["create", "new", "--address-space", "172.20.0.8/29"], USAGE, &["ipv4_address_space", "172.20.0.0/28", "taken"]),
    (
        &["create", "new", "--address-space", "172.21.0.0/28", "--hosts", "15"],
        USAGE,
        &["ipv4_address_space", "14 hosts", "15"],
    ),
    (&["create", "new", "--hosts", "100000000"], CONFLICT, &["no address space is left", "100000000"]),
    (&["create", "new", "--hosts", "0"], USAGE, &["--hosts"]),
    (&["create", "taken", "--address-space", "172.21.0.0/24"], CONFLICT, &["taken", "another id"]),
    (&["create", "a/b"], USAGE, &["network_id", "'/'", "[a-z0-9-]"]),
    (&["create", "a b"], USAGE, &["network_id", "' '", "[a-z0-9-]"]),
    (&["create", "Prod"], USAGE, &["network_id", "'P'", "[a-z0-9-]"]),
    (&["create", "netzwärme"], USAGE, &["network_id", "[a-z0-9-]"]),
    (&["create", "../key"], USAGE, &["network_id", "[a-z0-9-]"]),
    (&["create", "new", "--rule-type", "cheapest"], USAGE, &["rule_type", "cheapest", "cost-prioritized"]),
    (&["create", "new", "--encryption", "never"], USAGE, &["encryption_policy", "never", "always"]),
    (&["update", "nowhere", "--name", "x"], NOT_FOUND, &["nowhere"]),
    (&["update", "taken", "--address-space", "172.20.0.0/31"], USAGE, &["ipv4_address_space", "/30"]),
    (&["update", "taken", "--address-space", "fd00::/64"], USAGE, &["ipv4_address_space", "IPv6"]),
    (&["update", "taken", "--address-space", "1.1.1.0/24"], USAGE, &["ipv4_address_space", "public"]),
    (
        &["update", "taken", "--address-space", "172.22.0.0/16"],
        USAGE,
        &["ipv4_address_space", "172.22.4.0/24", "other"],
    ),
    (&["update", "taken", "--rule-type", "fastest"], USAGE, &["rule_type", "latency-prioritized"]),
    (&["update", "taken", "--name", "x", "--expected-generation", "7"], CONFLICT, &["generation 1", "7"]),
    (&["update", "taken"], USAGE, &["nothing to change", "--address-space"]),
    (&["show", "nowhere"], NOT_FOUND, &["nowhere"]),
    (&["show", "take"], NOT_FOUND, &["take"]),
    (&["show", "a/b"], USAGE, &["network_id", "'/'"]),
    (&["delete", "nowhere", "--yes"], NOT_FOUND, &["nowhere"]),
];

#[test]
fn a_network_that_cannot_be_is_refused_with_its_field_and_nothing_changes() {
    story(&clouds::control_only(), Servers::One, |world| {
        world.admin().run(["network", "create", "taken", "--address-space", "172.20.0.0/28"])?;
        world.admin().run(["network", "create", "other", "--address-space", "172.22.4.0/24"])?;
        let before = standing(world)?;
        for (arguments, code, words) in REFUSALS {
            let answer = world.admin().ask(["network"].iter().chain(*arguments).copied())?;
            refused(&arguments.join(" "), &answer, *code, words)?;
        }
        let after = standing(world)?;
        ensure!(before == after, "before {before}, after {after}");
        Ok(())
    });
}

#[test]
fn an_address_space_grows_under_its_peers_and_strands_none() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--address-space", "10.1.0.0/29"])?;
        world.join_all(&["aws-1", "aws-2", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;
        let before = standing(world)?;
        let update = |space: &str| world.admin().ask(["network", "update", "prod", "--address-space", space]);

        // The third peer has .3, which would be the broadcast address.
        let shrunk = update("10.1.0.0/30")?;
        refused("shrinking", &shrunk, USAGE, &["ipv4_address_space", "gcp-1 (10.1.0.3)", "keeps them"])?;
        ensure!(!shrunk.stderr.contains("aws-1"), "aws-1 would keep its address: {}", shrunk.stderr);
        refused("moving", &update("172.30.0.0/24")?, USAGE, &["ipv4_address_space", "aws-1", "aws-2", "gcp-1"])?;
        // The VMs stand in 10.0.0.0/16.
        refused(
            "growing over a route",
            &update("10.0.0.0/15")?,
            USAGE,
            &["ipv4_address_space", "overlaps the route 10.0."],
        )?;
        let after = standing(world)?;
        ensure!(before == after, "before {before}, after {after}");

        let agents = pids(world)?;
        let grown = update("10.1.0.0/24")?;
        ensure!(grown.code == 0, "growing was refused: {}", grown.stderr);
        for vm in ["aws-1", "aws-2", "gcp-1"] {
            eventually(&format!("{vm} to know the larger space"), SOON, || has_prefix(world, vm, "/24"))?;
        }
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;
        ensure!(standing(world)?["peers"] == before["peers"], "peers have other addresses now");
        ensure!(pids(world)? == agents, "an agent was restarted");
        Ok(())
    });
}

fn pids(world: &World) -> Result<Vec<String>> {
    world.vm_names()?.iter().map(|vm| Ok(world.agent(vm, ["status"])?["pid"].to_string())).collect()
}

/// In what the agent says, and in the kernel.
fn has_prefix(world: &World, vm: &str, prefix: &str) -> Result<()> {
    let said = world.agent(vm, ["status"])?["networks"][0]["address_space"].to_string();
    ensure!(said.contains(prefix), "the agent says {said}");
    let addresses = world.vm(vm)?.run(["ip", "-4", "-o", "address", "show", "dev", "cbnet0"])?;
    ensure!(addresses.contains(prefix) && addresses.lines().count() == 1, "{AGENT} has {addresses}");
    Ok(())
}
