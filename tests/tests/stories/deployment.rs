//! Agents onto machines over SSH: installed, reached through a bastion, upgraded, taken away, and taken up again wherever
//! the provisioner died.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::Topology;
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, Servers, World, story},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::clouds;

const ETCD: Servers = Servers::OnEtcd { controllers: 1, services: 1 };
const PROVISIONER: &str = "cladnet-mortal-provisioner";
/// A provisioner that died is followed after 10 s; a debug agent is some 60 MB.
const DEADLINE: Duration = Duration::from_secs(90);
const ALL: [&str; 3] = ["aws-1", "aws-2", "gcp-1"];

/// What an admin has on the own machine: a key and a file of machines.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = directory.path().join("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.expect("ssh-keygen is installed").success());
        Self(directory)
    }

    fn topology(&self) -> Topology {
        let public = fs::read_to_string(self.path("key.pub")).expect("it was made");
        clouds::with_ssh(public.trim())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `aws-2` has no public SSH; it is reached through `aws-1`. Every host key is given but that of `gcp-1`.
    fn hosts_file(&self, world: &World, names: &[&str]) -> Result<PathBuf> {
        let mut text = "defaults: { user: debian, key: key }\nhosts:\n".to_owned();
        for name in names {
            let vm = world.vm(name)?;
            let (address, more) = match *name {
                "aws-2" => (vm.private_address()?, ", bastion: aws-1"),
                "gcp-1" => {
                    (vm.public_address()?, ", labels: { tier: db }, location: { provider: gcp, region: europe }")
                }
                _ => (vm.public_address()?, ""),
            };
            write!(text, "  - {{ name: {name}, address: {address}{more}")?;
            if *name != "gcp-1" {
                write!(text, ", host_key: \"{}\"", vm.ssh_host_key()?.trim())?;
            }
            text += " }\n";
        }
        let file = self.path("hosts.yaml");
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// Begins a deployment and returns its id.
fn deploy(world: &World, file: &Path, options: &[&str]) -> Result<String> {
    let file = file.to_str().context("a path is text")?;
    let arguments = ["--output", "json", "deploy", "--network", "prod", "--no-wait", "-f", file];
    let answer = world.admin().ask(arguments.iter().chain(options).copied())?;
    ensure!(answer.code == 0, "not begun: {answer:?}");
    let begun: Value = serde_json::from_str(&answer.stdout)?;
    Ok(begun["deploymentId"].as_str().context("it has no id")?.to_owned())
}

/// Waits until every machine is done.
fn wait_done(world: &World, id: &str) -> Result<Value> {
    eventually(&format!("{id} to be done"), DEADLINE, || {
        let seen = world.admin().json(["deployment", "show", id])?;
        ensure!(seen["done"] == seen["total"] && seen["claimed"] != true, "{seen:#}");
        Ok(seen)
    })
}

fn prepare(world: &World) -> Result<()> {
    world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
    let control = world.vm(CONTROL)?;
    let key = world.admin().json(["key", "create", "--role", "provisioner"])?;
    let secret = key["secret"].as_str().context("the answer holds no secret")?;
    control.write_file("/root/provisioner.key", secret.as_bytes(), 0o600)?;
    world.install(CONTROL, "cladnet-agent")?;
    world.install(CONTROL, PROVISIONER)
}

fn provisioner(world: &World) -> Result<Vec<String>> {
    let url = world.service_url(0)?;
    let program = format!("/usr/local/bin/{PROVISIONER}");
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

/// What a deployment leaves on a machine, one line each.
fn traces(world: &World, vm: &str) -> Result<String> {
    let script = "ls -d /usr/local/bin/cladnet-agent* /etc/cladnet-agent /var/lib/cladnet-agent /home/debian/.cladnet-deploy \
                  2>/dev/null; cladnet-init status cladnet-agent 2>/dev/null; true";
    Ok(world.vm(vm)?.run(["sh", "-c", script])?)
}

fn agents(world: &World, vm: &str) -> Result<usize> {
    let running = world.vm(vm)?.run(["ps", "-A", "-o", "args="])?;
    Ok(running.lines().filter(|line| line.starts_with("/usr/local/bin/cladnet-agent run")).count())
}

#[test]
fn agents_are_deployed_through_a_bastion_upgraded_and_taken_away() {
    let desk = Desk::new();
    story(&desk.topology(), ETCD, |world| {
        prepare(world)?;
        world.vm(CONTROL)?.add_service("provisioner", provisioner(world)?)?;
        let file = desk.hosts_file(world, &ALL)?;

        let id = deploy(world, &file, &[])?;
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
        wait_done(world, &deploy(world, &file, &[])?)?;
        wait_done(world, &deploy(world, &file, &["--upgrade"])?)?;
        ensure!(world.agent("aws-1", ["status"])?["pid"] == before, "the agent was restarted");

        wait_done(world, &deploy(world, &file, &["--uninstall"])?)?;
        for vm in ALL {
            ensure!(traces(world, vm)?.is_empty(), "{vm}: {}", traces(world, vm)?);
        }
        let hosts = world.admin().json(["host", "list"])?;
        ensure!(hosts["hosts"].as_array().is_none_or(Vec::is_empty), "{hosts:#}");
        Ok(())
    });
}

#[test]
fn a_machine_whose_key_changed_is_not_touched() {
    let desk = Desk::new();
    story(&desk.topology(), ETCD, |world| {
        prepare(world)?;
        world.vm(CONTROL)?.add_service("provisioner", provisioner(world)?)?;
        let file = desk.hosts_file(world, &["gcp-1"])?;
        let trusting = ["--accept-new-host-keys"];
        wait_done(world, &deploy(world, &file, &trusting)?)?;
        world.vm("gcp-1")?.replace_ssh_host_key()?;
        let id = deploy(world, &file, &trusting)?;
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
    let desk = Desk::new();
    story(&desk.topology(), ETCD, |world| {
        prepare(world)?;
        let file = desk.hosts_file(world, &["aws-1"])?;
        for step in ["uploaded", "installed", "token-delivered", "joined", "left", "removed"] {
            let is_removal = matches!(step, "left" | "removed");
            let id = deploy(world, &file, if is_removal { &["--uninstall"] } else { &[] })?;
            die_after(world, step).with_context(|| step.to_owned())?;
            world.vm(CONTROL)?.add_service("provisioner", provisioner(world)?)?;
            wait_done(world, &id).with_context(|| step.to_owned())?;
            if is_removal {
                ensure!(traces(world, "aws-1")?.is_empty(), "{step}: {}", traces(world, "aws-1")?);
            } else {
                ensure!(agents(world, "aws-1")? == 1, "{step}: {} agents run", agents(world, "aws-1")?);
            }
            let tokens = world.admin().run(["token", "list"])?;
            ensure!(!tokens.contains("usable"), "{step}: a token is left: {tokens}");
            // For the next step: the machine as it was at first, or an agent to take away.
            let more: &[&str] = if is_removal { &[] } else { &["--uninstall"] };
            if step != "joined" {
                wait_done(world, &deploy(world, &file, more)?)?;
            }
            world.vm(CONTROL)?.remove_service("provisioner")?;
        }
        Ok(())
    });
}
