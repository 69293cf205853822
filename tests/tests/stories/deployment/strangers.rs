//! Machines that are not what a deployment takes them for: one that says it is another host, one whose agent is another
//! installation's and silent, and one that joined by hand and can prove it.

use anyhow::{Context, Result, ensure};
use cladnet_tests::world::{AGENT, HostsFile, Servers, SshKey, World, story};
use serde_json::Value;

use super::{
    agents,
    road::{belongs_to_another, clouds},
};

fn alone(world: &World, key: &SshKey, vm: &str) -> Result<HostsFile> {
    let mut target = world.target(vm)?;
    target.location = [("region".to_owned(), "elsewhere".to_owned())].into();
    Ok(HostsFile::new(key, vec![target]))
}

/// What the service says of the host of a VM.
fn listed(world: &World, vm: &str) -> Result<Value> {
    let hosts = world.admin().json(["host", "list"])?;
    let found = hosts["hosts"].as_array().into_iter().flatten().find(|host| host["hostName"] == vm).cloned();
    found.with_context(|| format!("{vm} is no host: {hosts}"))
}

#[test]
fn a_machine_that_says_it_is_another_host_moves_nobody_but_itself() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        // One that joined by hand proves which host it is, and stays that one.
        world.start_agent("aws-1")?;
        world.join("aws-1", "prod")?;
        let joined = listed(world, "aws-1")?;
        let file = HostsFile::new(&key, vec![world.target("aws-1")?, world.target("gcp-1")?]).write(&key)?;
        world.deploy(&file, "prod", &[])?.ended(&[("aws-1", "done"), ("gcp-1", "done")])?;
        world.wait_mesh("prod", &["aws-1", "gcp-1"])?;
        let victim = listed(world, "aws-1")?;
        ensure!(victim["hostId"] == joined["hostId"], "it became another host: {victim}");
        ensure!(!world.admin().run(["token", "list"])?.contains("usable"), "a token is left");

        lie(world, "gcp-1", "aws-1")?;
        let file = alone(world, &key, "gcp-1")?.write(&key)?;
        world.deploy(&file, "prod", &[])?.ended(&[("gcp-1", "host-unproven")])?;
        let now = listed(world, "aws-1")?;
        ensure!(now["location"] == victim["location"], "the other's location was changed: {now}");

        world.deploy(&file, "prod", &["--uninstall"])?.ended(&[("gcp-1", "done")])?;
        ensure!(listed(world, "aws-1")?["networkIds"] == victim["networkIds"], "the other was taken out");
        ensure!(listed(world, "gcp-1").is_err(), "what the machine really was is still listed");
        Ok(())
    });
}

/// Root of `vm` puts a program in the agent's place that tells what the agent of `other` tells, and passes for the one that was
/// installed.
fn lie(world: &World, vm: &str, other: &str) -> Result<()> {
    let mut status = world.agent(other, ["status"])?;
    status.as_object_mut().context("a status")?.remove("pid");
    let vm = world.vm(vm)?;
    vm.run(["cp", "/usr/local/bin/cladnet-agent", "/root/cladnet-agent"])?;
    vm.write_file("/root/status", status.to_string().as_bytes(), 0o600)?;
    let agent = "#!/bin/sh
case \" $* \" in
*' run '*) exec sleep 100000 ;;
*' status '*) cat /root/status ;;
*' join '*) echo '{\"error\":{\"message\":\"it is a member already\"}}'; exit 4 ;;
*' leave '*) rm -rf /var/lib/cladnet-agent; echo '{}' ;;
*' ping '*) echo '{}' ;;
*) exec /root/cladnet-agent \"$@\" ;;
esac
";
    vm.write_file("/usr/local/bin/cladnet-agent.lie", agent.as_bytes(), 0o755)?;
    vm.run(["mv", "/usr/local/bin/cladnet-agent.lie", "/usr/local/bin/cladnet-agent"])?;
    let sum = "#!/bin/sh
case $1 in /usr/local/bin/cladnet-agent) set -- /root/cladnet-agent ;; esac
exec /usr/bin/sha256sum \"$@\"
";
    vm.write_file("/usr/local/bin/sha256sum", sum.as_bytes(), 0o755)?;
    Ok(vm.restart_service(AGENT)?)
}

#[test]
fn a_silent_agent_of_another_installation_stays_as_it_is() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        belongs_to_another(world, "gcp-1")?;
        let (vm, file) = (world.vm("gcp-1")?, alone(world, &key, "gcp-1")?.write(&key)?);
        let left_alone = |why: &str| -> Result<()> {
            let before = (agents(world, "gcp-1")?, files(world)?);
            for more in [&[][..], &["--upgrade"], &["--uninstall"]] {
                world.deploy(&file, "prod", more)?.ended(&[("gcp-1", "foreign-agent")])?;
                let after = (agents(world, "gcp-1")?, files(world)?);
                ensure!(after == before, "{why}, {more:?}: {before:?} became {after:?}");
            }
            Ok(())
        };
        vm.stop_service(AGENT)?;
        left_alone("stopped")?;

        // Somebody runs it by hand, with its state elsewhere.
        vm.run(["mv", "/var/lib/cladnet-agent", "/root/state"])?;
        let by_hand = ["/usr/local/bin/cladnet-agent", "run", "--state-dir", "/root/state", "--socket", "/root/socket"];
        vm.remove_service(AGENT)?;
        vm.add_service("by-hand", by_hand)?;
        left_alone("by hand")?;
        ensure!(agents(world, "gcp-1")?.len() == 1, "{:?} run", agents(world, "gcp-1")?);
        Ok(())
    });
}

/// Names and contents of what is installed there.
fn files(world: &World) -> Result<String> {
    let sums = "sha256sum /usr/local/bin/cladnet-agent /var/lib/cladnet-agent/identity.json /root/state/identity.json 2>/dev/null; true";
    Ok(world.vm("gcp-1")?.run(["sh", "-c", sums])?)
}
