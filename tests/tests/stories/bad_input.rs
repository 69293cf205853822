//! What people get wrong, and what their machines lack: each gets an error that says what is wrong and what would be right, with an exit code
//! of its own kind, and nothing has changed afterwards.

mod agents;
mod disks;
mod networks;
mod rest;
mod routes;
mod servers;
mod state;
mod tokens;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Answer, World},
};
use serde_json::{Value, json};

/// For failing, not a target: the benchmarks have those.
const SOON: Duration = Duration::from_secs(30);

// Exit codes of both binaries.
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 3;
const CONFLICT: i32 = 4;
const DENIED: i32 = 5;
const UNREACHABLE: i32 = 6;
const CONFIGURATION: i32 = 64;

/// Runs a program on a machine, whatever comes of it.
fn on<'s>(world: &World, vm: &str, command: impl IntoIterator<Item = &'s str>) -> Result<Answer> {
    Ok(world.vm(vm)?.exec(command)?.into())
}

/// Holds if the command ended with this code and said all of these on standard error, in few words.
fn refused(what: &str, answer: &Answer, code: i32, words: &[&str]) -> Result<()> {
    ensure!(answer.code == code, "{what}: exit code {} instead of {code}: {}", answer.code, answer.stderr);
    for word in words {
        ensure!(answer.stderr.contains(word), "{what}: {word:?} is not in {:?}", answer.stderr);
    }
    ensure!(answer.stderr.len() < 600, "{what}: nobody reads that much: {}", answer.stderr);
    ensure!(!answer.stderr.contains("panicked"), "{what}: {}", answer.stderr);
    Ok(())
}

/// What an admin sees: all networks, with their settings, their peers' addresses and states, and all hosts.
fn standing(world: &World) -> Result<Value> {
    let networks = world.admin().json(["network", "list"])?;
    let ids = networks["networks"].as_array().into_iter().flatten().filter_map(|network| network["networkId"].as_str());
    let peers =
        ids.map(|id| Ok((id.to_owned(), json!(world.addresses(id)?)))).collect::<Result<serde_json::Map<_, _>>>()?;
    let hosts = world.admin().json(["host", "list"])?;
    let hosts: Vec<_> = hosts["hosts"].as_array().into_iter().flatten().map(|host| host["hostId"].clone()).collect();
    Ok(json!({ "networks": networks, "peers": peers, "hosts": hosts }))
}

/// Lists what the agent of a VM has on disk that makes it a host or a member: neither caches nor the ledger of its traffic, which are
/// saved at moments of their own.
const MEMBERSHIP_FILES: &str = "cd /var/lib/cladnet-agent 2>/dev/null && find . -type f ! -name lock ! -name 'metadata.json*' \
    ! -name 'tariffs.json*' ! -path './usage/*'";

/// What makes the agent of a VM a host or a member, each file with its checksum.
fn state_files(world: &World, vm: &str) -> Result<String> {
    let script = format!("{{ {MEMBERSHIP_FILES} -exec sha256sum {{}} + || true; }} | sort -k 2");
    Ok(world.vm(vm)?.run(["sh", "-c", &script])?)
}

/// As [`state_files`] where a member runs: it saves what the service tells it a moment after that came, so of a membership the
/// configuration is left out, once there is one, and so are generations before the last. Which files there are, the identity, the keys
/// and the wishes stay.
fn lasting_state(world: &World, vm: &str) -> Result<BTreeMap<String, Value>> {
    let script = format!("{MEMBERSHIP_FILES} ! -name '*.former'");
    eventually("a state with a configuration and nothing half replaced", SOON, || {
        let listed = world.vm(vm)?.run(["sh", "-c", &script])?;
        let passing = listed.lines().find(|file| file.ends_with(".new") || file.ends_with(".link"));
        ensure!(passing.is_none(), "there is {passing:?}");
        let whole = |file: &str| format!("/var/lib/cladnet-agent/{}", file.trim_start_matches("./"));
        listed.lines().map(|file| Ok((file.to_owned(), lasting(world, vm, &whole(file))?))).collect()
    })
}

/// A document of the state without the configuration in it, and without the checksum that follows from it.
fn lasting(world: &World, vm: &str, file: &str) -> Result<Value> {
    let mut document: Value = serde_json::from_slice(&world.vm(vm)?.read_file(file)?)?;
    if let Some(configuration) = document["body"].as_object_mut().and_then(|body| body.remove("snapshot")) {
        ensure!(configuration != "", "{file} holds no configuration");
        document["sha256"].take();
    }
    Ok(document)
}

/// Holds if nothing that lasts has changed in what the agent of a VM has on disk; tells files, since they hold keys.
fn unchanged(world: &World, vm: &str, before: &BTreeMap<String, Value>) -> Result<()> {
    let after = lasting_state(world, vm)?;
    let files = before.keys().chain(after.keys());
    let changed: Vec<_> = files.filter(|file| before.get(*file) != after.get(*file)).collect();
    ensure!(changed.is_empty(), "the state of {vm} changed: {changed:?}");
    Ok(())
}

/// The `problem`s that the agent of a VM tells, one text.
fn problems(world: &World, vm: &str) -> Result<String> {
    Ok(world.agent(vm, ["status"])?["problems"].to_string())
}

/// Stops the agent of a VM, lets `change` do something to it, and starts it again.
fn while_stopped(world: &World, vm: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
    world.vm(vm)?.stop_service(cladnet_tests::world::AGENT)?;
    change()?;
    world.vm(vm)?.start_service(cladnet_tests::world::AGENT)?;
    world.wait_agent(vm)
}
