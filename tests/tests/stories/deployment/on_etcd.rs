//! A provisioner of its own on etcd, beside the services: keys that somebody must vouch for, upgrades, and taking up again
//! wherever it died.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cladnet_provisioner::FailPoint;
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, HostsFile, Servers, SshKey, Target, World, story},
};
use serde_json::Value;

use super::{agents, nothing_there, road::clouds};

const ETCD: Servers = Servers::OnEtcd { controllers: 1, services: 1 };
/// The world's own service of that name gives way to one that dies where it is told to.
const PROVISIONER: &str = "provisioner";
const MORTAL: &str = "cladnet-mortal-provisioner";
/// A debug agent is some 60 MB.
const DEADLINE: Duration = Duration::from_secs(90);
/// What `timeout` ends with when it had to end something.
const TIMED_OUT: i32 = 124;
const ALL: [&str; 3] = ["aws-1", "aws-2", "gcp-1"];
/// Where a provisioner may die, in the order in which it gets there.
const INSTALLING: [&str; 10] = [
    "claimed",
    "connected",
    "inspected",
    "uploaded",
    "installed",
    "token-made",
    "token-delivered",
    "joined",
    "settled",
    "verified",
];
const REMOVING: [&str; 2] = ["left", "removed"];

/// `aws-2` is reached through `aws-1`. Every host key is given but that of `gcp-1`.
fn hosts_file(world: &World, key: &SshKey, names: &[&str]) -> Result<String> {
    let target = |name: &&str| match *name {
        "aws-2" => world.target_behind("aws-1", "aws-2"),
        "gcp-1" => Ok(Target { host_key: None, ..world.target("gcp-1")? }),
        name => world.target(name),
    };
    HostsFile::new(key, names.iter().map(target).collect::<Result<_>>()?).write(key)
}

/// Waits until every machine is done.
fn wait_done(world: &World, id: &str) -> Result<Value> {
    eventually(&format!("{id} to be done"), DEADLINE, || {
        let seen = world.admin().json(["deployment", "show", id])?;
        ensure!(seen["done"] == seen["total"] && seen["claimed"] != true, "{seen:#}");
        Ok(seen)
    })
}

fn provisioner(world: &World) -> Result<Vec<String>> {
    let url = world.service_url(0)?;
    let program = format!("/usr/local/bin/{MORTAL}");
    let options = ["--etcd", "http://127.0.0.1:2379", "--secret-key-file", "/root/secret.key", "--service", &url];
    let files = ["--service-ca", "/root/ca.pem", "--api-key-file", "/root/provisioner.key"];
    Ok([program.as_str()].into_iter().chain(options).chain(files).map(str::to_owned).collect())
}

/// Runs a provisioner until it dies after a step, which it must reach.
fn die_after(world: &World, step: &str) -> Result<()> {
    let patience = DEADLINE.as_secs().to_string();
    let mortal = [provisioner(world)?, vec!["--die-after".to_owned(), step.to_owned()]].concat();
    let command = ["timeout".to_owned(), patience].into_iter().chain(mortal);
    let ended = world.vm(CONTROL)?.exec(command).with_context(|| step.to_owned())?;
    ensure!(ended.status.code() != Some(TIMED_OUT), "it does not come to {step}: {ended:?}");
    ensure!(!ended.status.success(), "it did not die after {step}: {ended:?}");
    Ok(())
}

/// Lets one provisioner after the other work on a deployment and die, each a step further than the last; then one that lives.
fn die_on_the_way(world: &World, id: &str, steps: &[&str]) -> Result<()> {
    for step in steps {
        die_after(world, step)?;
        for vm in ALL {
            let agents = agents(world, vm)?;
            ensure!(agents.len() < 2, "{step}: on {vm} run {agents:?}");
        }
    }
    world.vm(CONTROL)?.add_service(PROVISIONER, provisioner(world)?)?;
    wait_done(world, id)?;
    world.vm(CONTROL)?.remove_service(PROVISIONER)?;
    let tokens = world.admin().run(["token", "list"])?;
    ensure!(!tokens.contains("usable"), "a token is left: {tokens}");
    Ok(())
}

#[test]
fn agents_are_deployed_through_a_bastion_upgraded_and_taken_away() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), ETCD, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let file = hosts_file(world, &key, &ALL)?;

        let id = world.begin_deployment(&file, "prod", &[])?;
        let shown = eventually("gcp-1 to show its key", DEADLINE, || {
            let seen = world.admin().json(["deployment", "show", &id])?;
            let host = seen["hosts"].as_array().and_then(|hosts| hosts.iter().find(|host| host["name"] == "gcp-1"));
            let offered = host.and_then(|host| host["offeredFingerprint"].as_str()).unwrap_or_default().to_owned();
            ensure!(!offered.is_empty(), "{seen:#}");
            Ok(offered)
        })?;
        world.admin().run(["deployment", "confirm", &id, "gcp-1", &shown])?;
        wait_done(world, &id)?;
        world.wait_mesh("prod", &ALL)?;
        let told = world.admin().run(["deployment", "transcript", &id, "gcp-1"])?;
        ensure!(told.contains("joined") && !told.contains("cladnet1_"), "{told}");

        // Again, and with nothing to change, nothing is changed: the agents are not even restarted.
        let before = world.agent("aws-1", ["status"])?["pid"].clone();
        wait_done(world, &world.begin_deployment(&file, "prod", &[])?)?;
        wait_done(world, &world.begin_deployment(&file, "prod", &["--upgrade"])?)?;
        ensure!(world.agent("aws-1", ["status"])?["pid"] == before, "the agent was restarted");

        wait_done(world, &world.begin_deployment(&file, "prod", &["--uninstall"])?)?;
        ALL.iter().try_for_each(|vm| nothing_there(world, vm))?;
        let hosts = world.admin().json(["host", "list"])?;
        ensure!(hosts["hosts"].as_array().is_none_or(Vec::is_empty), "{hosts:#}");
        Ok(())
    });
}

#[test]
fn a_machine_whose_key_changed_is_not_touched() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), ETCD, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let file = hosts_file(world, &key, &["gcp-1"])?;
        let trusting = ["--accept-new-host-keys"];
        wait_done(world, &world.begin_deployment(&file, "prod", &trusting)?)?;
        world.vm("gcp-1")?.replace_ssh_host_key()?;
        let id = world.begin_deployment(&file, "prod", &trusting)?;
        eventually("the change to be told", DEADLINE, || {
            let seen = world.admin().json(["deployment", "show", &id])?;
            ensure!(seen["hosts"][0]["failure"] == "host-key-changed", "{seen:#}");
            Ok(())
        })?;
        let log = world.vm("gcp-1")?.service_log("sshd")?;
        ensure!(log.matches("Accepted publickey").count() == 1, "it was logged in to: {log}");
        Ok(())
    });
}

#[test]
fn killed_provisioners_are_followed_wherever_they_died() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), ETCD, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.vm(CONTROL)?.remove_service(PROVISIONER)?;
        world.install(CONTROL, MORTAL)?;
        let file = hosts_file(world, &key, &ALL)?;

        let id = world.begin_deployment(&file, "prod", &["--accept-new-host-keys"])?;
        die_on_the_way(world, &id, &INSTALLING)?;
        world.wait_mesh("prod", &ALL)?;
        let hosts = world.admin().json(["host", "list"])?;
        ensure!(hosts["hosts"].as_array().map(Vec::len) == Some(ALL.len()), "not one host for each machine: {hosts}");
        for vm in ALL {
            ensure!(agents(world, vm)?.len() == 1, "on {vm} run {:?}", agents(world, vm)?);
        }

        let id = world.begin_deployment(&file, "prod", &["--uninstall"])?;
        die_on_the_way(world, &id, &REMOVING)?;
        ALL.iter().try_for_each(|vm| nothing_there(world, vm))?;
        let covered = FailPoint::WORDS.iter().all(|(word, _)| INSTALLING.contains(word) || REMOVING.contains(word));
        ensure!(covered, "there are more places to die at");
        Ok(())
    });
}
