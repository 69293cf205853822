//! A machine without the agent: what `cladnet peer export` writes, read by Debian's `wg-quick` and `wireguard-go`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};

use crate::clouds;

/// Where `wg-quick` looks, and what it calls the interface.
const FILE: &str = "/etc/wireguard/wg0.conf";

/// For failing, not a target.
const SOON: Duration = Duration::from_secs(30);

/// The port that the clouds let in.
const PORT: u16 = 8055;

#[test]
fn a_machine_with_plain_wireguard_is_a_peer() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "aws-2"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2"])?;

        let file = world.admin().run(["peer", "export", "prod", "gcp-1"])?;
        wireguard_up(world, "gcp-1", &file)?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;

        let secret = file.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).context("no private key")?;
        let peers = world.admin().run(["peer", "list", "prod", "--output", "json"])?;
        ensure!(!peers.contains(secret), "the private key left the admin's machine");

        let overlay = world.address("prod", "gcp-1")?;
        world.admin().run(["peer", "remove", "prod", "gcp-1", "--yes"])?;
        eventually("the removed machine to be cut off", SOON, || world.never_reaches("aws-1", overlay))
    });
}

#[test]
fn a_machine_in_the_vpc_of_agents_reaches_them_and_others() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "gcp-1"])?;
        let file = world.admin().run(["peer", "export", "prod", "aws-2"])?;
        wireguard_up(world, "aws-2", &file)?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])
    });
}

#[test]
fn a_machine_may_keep_its_own_key_and_have_a_fixed_place() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1"], "prod")?;
        let (secret, public) = own_key(world, "gcp-1")?;
        let place = format!("{}:{PORT}", world.vm("gcp-1")?.public_address()?);
        let file =
            world.admin().run(["peer", "export", "prod", "gcp-1", "--public-key", &public, "--endpoint", &place])?;
        ensure!(!file.lines().any(|line| line.starts_with("PrivateKey")), "{file}");
        let own = format!("[Interface]\nPrivateKey = {secret}\nListenPort = {PORT}");
        wireguard_up(world, "gcp-1", &file.replace("[Interface]", &own))?;
        world.wait_mesh("prod", &["aws-1", "gcp-1"])
    });
}

pub(crate) fn wireguard_up(world: &World, vm: &str, file: &str) -> Result<()> {
    let vm = world.vm(vm)?;
    vm.write_file(FILE, file.as_bytes(), 0o600)?;
    vm.run(["wg-quick", "up", "wg0"]).context("wg-quick refused the file")?;
    Ok(())
}

fn own_key(world: &World, vm: &str) -> Result<(String, String)> {
    let vm = world.vm(vm)?;
    let secret = vm.run(["wg", "genkey"])?.trim().to_owned();
    let public = vm.run(["/bin/sh", "-c", &format!("echo {secret} | wg pubkey")])?.trim().to_owned();
    Ok((secret, public))
}
