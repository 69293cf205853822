//! State files that are damaged, and state that is another machine's.

use std::{io::Write as _, process::Stdio};

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};

use super::{CONFIGURATION, SOON, on, problems, refused, state_files, while_stopped};
use crate::clouds;

const STATE: &str = "/var/lib/cladnet-agent";

#[test]
fn a_damaged_state_file_costs_no_more_than_what_was_in_it() {
    story(&clouds::pair(), Servers::One, |world| {
        for network in ["red", "blue"] {
            world.admin().run(["network", "create", network, "--hosts", "10"])?;
        }
        world.join_all(&["one", "two"], "red")?;
        world.join("one", "blue")?;
        world.join("two", "blue")?;
        world.wait_mesh("blue", &["one", "two"])?;
        let (red, blue) = (world.address("red", "two")?, world.address("blue", "two")?);
        let sh = |script: &str| world.vm("two")?.run(["sh", "-c", script]).map(drop).map_err(anyhow::Error::from);

        // The newest generation: the one before it is good enough.
        while_stopped(world, "two", || sh(&format!("echo garbage > {STATE}/networks/red.json")))?;
        world.first_reply("one", red, SOON)?;
        ensure!(problems(world, "two")? == "[]", "there are problems: {}", problems(world, "two")?);

        // Both: that network is lost here, told by name, and no other.
        while_stopped(world, "two", || sh(&format!("cd {STATE}/networks; echo {{ | tee red.json > red.json.former")))?;
        world.first_reply("one", blue, SOON)?;
        world.never_reaches("one", red)?;
        let told = problems(world, "two")?;
        ensure!(told.contains(&format!("{STATE}/networks/red.json")), "which file? {told}");
        ensure!(told.contains("corrupt") && told.contains("join it again"), "what to do? {told}");
        ensure!(world.addresses("red")?.contains_key("two"), "a damaged file ended a membership");

        // The advice that was given with it works.
        world.agent("two", ["leave", "red"])?;
        ensure!(problems(world, "two")? == "[]", "there are problems: {}", problems(world, "two")?);
        ensure!(!world.addresses("red")?.contains_key("two"), "the membership is still there");
        world.join("two", "red")?;
        world.wait_mesh("red", &["one", "two"])?;
        let red = world.address("red", "two")?;

        // The identity: nothing runs over it and nothing replaces it, until it is brought back.
        while_stopped(world, "two", || {
            sh(&format!("cp -a {STATE} /root/good; cd {STATE}; rm -f *.former; echo garbage > identity.json"))
        })?;
        let told = problems(world, "two")?;
        ensure!(told.contains(&format!("{STATE}/identity.json")) && told.contains("bring the file back"), "{told}");
        let before = state_files(world, "two")?;
        let join = on(world, "two", ["cladnet-agent", "join", &world.service_url(0)?, &world.token("red")?])?;
        refused("a damaged identity", &join, CONFIGURATION, &["identity.json", "leave --all"])?;
        ensure!(state_files(world, "two")? == before, "the damaged file was touched");
        while_stopped(world, "two", || sh(&format!("rm -r {STATE}; cp -a /root/good {STATE}")))?;
        world.first_reply("one", red, SOON)?;
        world.first_reply("one", blue, SOON)?;
        Ok(())
    });
}

#[test]
fn a_copied_disk_is_no_second_host() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "aws-2"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2"])?;
        let address = world.address("prod", "aws-1")?;

        world.start_agent("gcp-1")?;
        while_stopped(world, "gcp-1", || copy_state(world, "aws-1", "gcp-1"))?;

        let told = problems(world, "gcp-1")?;
        ensure!(told.contains("belongs to another machine") && told.contains("leave --all"), "{told}");
        let before = state_files(world, "gcp-1")?;
        let join = on(world, "gcp-1", ["cladnet-agent", "join", &world.service_url(0)?, &world.token("prod")?])?;
        refused("a copied disk", &join, CONFIGURATION, &["another machine", "two machines must not be one host"])?;
        ensure!(state_files(world, "gcp-1")? == before, "the copied state was touched");
        ensure!(!world.vm("gcp-1")?.run(["ls", "/sys/class/net"])?.contains("cbnet"), "it raised an interface");

        // Giving the copy up does not harm the original.
        world.agent("gcp-1", ["leave", "--all"])?;
        world.join("gcp-1", "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;
        ensure!(world.address("prod", "aws-1")? == address, "the original has another address");
        eventually("the original to be online", SOON, || {
            let status = world.agent("aws-1", ["status"])?;
            ensure!(status["service"]["state"] == "connected", "{}", status["service"]);
            Ok(())
        })
    });
}

fn copy_state(world: &World, from: &str, to: &str) -> Result<()> {
    let packed = world.vm(from)?.exec(["tar", "-cC", "/var/lib", "cladnet-agent"])?.stdout;
    let mut unpack = world.vm(to)?.command(["tar", "-xC", "/var/lib"])?.stdin(Stdio::piped()).spawn()?;
    unpack.stdin.take().context("no standard input")?.write_all(&packed)?;
    ensure!(unpack.wait()?.success(), "the state could not be unpacked");
    Ok(())
}
