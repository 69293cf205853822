//! Agents by SSH: `cladnet deploy` from the machine of the control plane to real SSH servers, with what can go wrong on the way.

mod faults;
mod on_etcd;
mod road;
mod strangers;
mod upgrade;

use anyhow::{Result, ensure};
use cladnet_sandbox::Topology;
use cladnet_tests::world::{AGENT, SshKey, World};

/// A topology whose machines let `key` in, the control planes left out.
fn with_ssh(key: &SshKey, vpcs_and_vms: &str) -> Topology {
    let control = "internet:
  - { name: control, region: seoul, host_access: true, ssh: off }
  - { name: other, region: seoul, ssh: off }
";
    let mut topology = Topology::from_yaml(&format!("{vpcs_and_vms}{control}")).expect("the topology is valid");
    topology.ssh = Some(key.server().expect("the key was made"));
    topology
}

/// Process ids of the agents that run on a VM.
fn agents(world: &World, vm: &str) -> Result<Vec<String>> {
    let output = world.vm(vm)?.exec(["pgrep", "-f", "^/usr/local/bin/cladnet-agent run"])?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Holds if nothing of an agent is on a VM: no service, no process, no file, no interface.
fn nothing_there(world: &World, vm: &str) -> Result<()> {
    let services = world.vm(vm)?.services()?;
    ensure!(services.iter().all(|service| service.name != AGENT), "{vm} still has the service");
    ensure!(agents(world, vm)?.is_empty(), "an agent runs on {vm}");
    let find = "ls -d /usr/local/bin/cladnet* /etc/cladnet* /var/lib/cladnet* /run/cladnet-agent \
        /home/debian/.cladnet-deploy /sys/class/net/cbnet* 2>/dev/null || true";
    let left = world.vm(vm)?.run(["sh", "-c", find])?;
    ensure!(left.is_empty(), "on {vm} there is still {left}");
    Ok(())
}
