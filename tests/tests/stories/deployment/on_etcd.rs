//! A provisioner of its own on etcd, beside the services: keys that somebody must vouch for, upgrades, and taking up again
//! wherever it died.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
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
/// A provisioner that died is followed after 10 s; a debug agent is some 60 MB.
const DEADLINE: Duration = Duration::from_secs(90);
const ALL: [&str; 3] = ["aws-1", "aws-2", "gcp-1"];

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

/// Runs a provisioner until it dies after a step.
fn die_after(world: &World, step: &str) -> Result<()> {
    let command = [provisioner(world)?, vec!["--die-after".to_owned(), step.to_owned()]].concat();
    let ended = world.vm(CONTROL)?.exec(command)?;
    ensure!(!ended.status.success(), "it did not die after {step}: {ended:?}");
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
fn a_killed_provisioner_is_followed_wherever_it_died() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), ETCD, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.vm(CONTROL)?.remove_service(PROVISIONER)?;
        world.install(CONTROL, MORTAL)?;
        let file = hosts_file(world, &key, &["aws-1"])?;
        for step in ["uploaded", "installed", "token-delivered", "joined", "left", "removed"] {
            let is_removal = matches!(step, "left" | "removed");
            let id = world.begin_deployment(&file, "prod", if is_removal { &["--uninstall"] } else { &[] })?;
            die_after(world, step).with_context(|| step.to_owned())?;
            world.vm(CONTROL)?.add_service(PROVISIONER, provisioner(world)?)?;
            wait_done(world, &id).with_context(|| step.to_owned())?;
            if is_removal {
                nothing_there(world, "aws-1").context(step)?;
            } else {
                ensure!(agents(world, "aws-1")?.len() == 1, "{step}: {:?} run", agents(world, "aws-1")?);
            }
            let tokens = world.admin().run(["token", "list"])?;
            ensure!(!tokens.contains("usable"), "{step}: a token is left: {tokens}");
            // For the next step: the machine as it was at first, or an agent to take away.
            let more: &[&str] = if is_removal { &[] } else { &["--uninstall"] };
            if step != "joined" {
                wait_done(world, &world.begin_deployment(&file, "prod", more)?)?;
            }
            world.vm(CONTROL)?.remove_service(PROVISIONER)?;
        }
        Ok(())
    });
}
