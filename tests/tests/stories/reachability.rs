//! Which way packets go: overlapping VPCs, NAT that admits only answers, IPv6 outside, addresses that change.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::PublicAddress;
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};

use crate::clouds;

/// For failing, not a target: the benchmarks have those.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn equal_ranges_in_two_clouds_are_private_inside_each_and_public_between() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "aws-2", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;

        let (private, public) = (world.vm("aws-2")?.private_address()?, world.vm("gcp-1")?.public_address()?);
        // The public path may have been proved first.
        for (to, scope, address) in [("aws-2", "private", private), ("gcp-1", "public", public)] {
            eventually(&format!("the {scope} path from aws-1 to {to}"), SOON, || {
                let found = path(world, "aws-1", to)?;
                ensure!(found == (scope.to_owned(), format!("{address}:8055")), "it is {found:?}");
                Ok(())
            })?;
        }
        world.explain_agrees("prod")
    });
}

#[test]
fn a_basic_network_uses_public_addresses_only() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "plain", "--hosts", "10", "--rule-type", "basic"])?;
        world.join_all(&["aws-1", "aws-2"], "plain")?;
        world.wait_mesh("plain", &["aws-1", "aws-2"])?;
        world.explain_agrees("plain")?;
        let inside = path_in(world, "plain", "aws-1", "aws-2")?;
        ensure!(inside.0 == "public", "{inside:?}");
        Ok(())
    });
}

#[test]
fn peers_behind_port_restricted_nat_meet_each_other() {
    story(&clouds::behind_nat(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["open-1", "hidden-1", "hidden-2"], "prod")?;
        world.wait_mesh("prod", &["open-1", "hidden-1", "hidden-2"])?;
        world.explain_agrees("prod")
    });
}

#[test]
fn peers_meet_over_ipv6_where_there_is_no_ipv4() {
    story(&clouds::ipv6_only(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let url = format!("https://[{}]:8053", world.vm("control")?.ipv6_address()?);
        for vm in ["six-1", "six-2"] {
            world.start_agent(vm)?;
            let token = world.token("prod")?;
            world.vm(vm)?.run(["cladnet-agent", "join", &url, &token])?;
        }
        world.wait_mesh("prod", &["six-1", "six-2"])?;
        let outside = path(world, "six-1", "six-2")?;
        ensure!(outside.0 == "public-v6", "{outside:?}");
        world.explain_agrees("prod")
    });
}

#[test]
fn traffic_follows_a_public_address_that_changes() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "gcp-1"])?;
        let overlay = world.address("prod", "gcp-1")?;

        let moved = world.vm("gcp-1")?.readdress()?;
        world.first_reply("aws-1", overlay, SOON)?;
        eventually("the path to name the new address", SOON, || {
            let (_, endpoint) = path(world, "aws-1", "gcp-1")?;
            ensure!(endpoint == format!("{moved}:8055"), "it is {endpoint}");
            Ok(())
        })?;

        let sleeper = world.vm("gcp-1")?;
        sleeper.suspend()?;
        let moved = sleeper.resume(PublicAddress::Change)?.context("no public address")?;
        world.first_reply("aws-1", overlay, SOON)?;
        eventually("the host's record to name the new address", SOON, || {
            let hosts = world.admin().run(["host", "list", "--output", "json"])?;
            ensure!(hosts.contains(&moved.to_string()), "{hosts}");
            Ok(())
        })?;
        world.explain_agrees("prod")
    });
}

fn path(world: &World, from: &str, to: &str) -> Result<(String, String)> {
    path_in(world, "prod", from, to)
}

/// Scope and endpoint of the path in use, as the explanation gives them.
fn path_in(world: &World, network: &str, from: &str, to: &str) -> Result<(String, String)> {
    let explained = world.admin().json(["path", "explain", network, from, to])?;
    let used = &explained["candidates"][0];
    let text = |field: &str| used[field].as_str().unwrap_or_default().to_owned();
    Ok((text("scope"), text("endpoint")))
}
