//! Agents of other releases: older ones are replaced where they are, newer ones are left alone. The other releases are this
//! one's agent with another version written into it.

use anyhow::{Context, Result, ensure};
use cladnet_tests::world::{AGENT, HostsFile, Servers, SshKey, World, binary, story};
use serde_json::Value;

use super::{agents, road::clouds};

const THIS: &str = env!("CARGO_PKG_VERSION");
const PROGRAM: &str = "/usr/local/bin/cladnet-agent";
const TWO: [&str; 2] = ["aws-1", "gcp-1"];

#[test]
fn older_agents_are_replaced_and_newer_ones_are_left() {
    let key = SshKey::make().expect("a key");
    story(&clouds(&key), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.deploy(&file(world, &key, &TWO)?, "prod", &[])?.ended(&TWO.map(|vm| (vm, "done")))?;

        let older = like_this("0.0.");
        TWO.iter().try_for_each(|vm| replace(world, vm, &older))?;
        world.wait_mesh("prod", &TWO)?;
        let before = TWO.iter().map(|vm| identity(world, vm)).collect::<Result<Vec<_>>>()?;
        ensure!(before.iter().all(|(.., version)| *version == older), "they do not say that they are old: {before:?}");
        // Whichever way one asks for it.
        for (vm, more) in [("aws-1", &["--upgrade"][..]), ("gcp-1", &[])] {
            let upgraded = world.deploy(&file(world, &key, &[vm])?, "prod", more)?;
            upgraded.ended(&[(vm, "done")])?;
            ensure!(upgraded.host(vm)?["agentVersion"] == THIS, "{}", upgraded.shown);
        }
        for (vm, (host, address, _)) in TWO.iter().zip(before) {
            let now = identity(world, vm)?;
            ensure!(now == (host, address, THIS.to_owned()), "{vm} is now {now:?}");
            ensure!(agents(world, vm)?.len() == 1, "on {vm} run {:?}", agents(world, vm)?);
        }
        world.wait_mesh("prod", &TWO)?;

        replace(world, "gcp-1", &like_this("9.0."))?;
        let theirs = agents(world, "gcp-1")?;
        for more in [&[][..], &["--upgrade"]] {
            world
                .deploy(&file(world, &key, &TWO)?, "prod", more)?
                .ended(&[("aws-1", "done"), ("gcp-1", "newer-agent")])?;
            ensure!(agents(world, "gcp-1")? == theirs, "it was touched");
        }
        Ok(())
    });
}

fn file(world: &World, key: &SshKey, vms: &[&str]) -> Result<String> {
    HostsFile::new(key, vms.iter().map(|vm| world.target(vm)).collect::<Result<_>>()?).write(key)
}

/// A version that begins so and has the length of this one.
fn like_this(beginning: &str) -> String {
    format!("{beginning}1{}", "0".repeat(THIS.len() - beginning.len() - 1))
}

/// Puts an agent of that version in the place of the one that runs.
fn replace(world: &World, vm: &str, version: &str) -> Result<()> {
    let mut program = std::fs::read(binary("cladnet-agent")?)?;
    let mut from = 0;
    while let Some(found) = program[from..].windows(THIS.len()).position(|bytes| bytes == THIS.as_bytes()) {
        program[from + found..from + found + THIS.len()].copy_from_slice(version.as_bytes());
        from += found + THIS.len();
    }
    world.vm(vm)?.write_file(PROGRAM, &program, 0o755)?;
    world.vm(vm)?.restart_service(AGENT)?;
    world.wait_agent(vm)
}

/// Who a machine is: host, overlay address, and the version of its agent.
fn identity(world: &World, vm: &str) -> Result<(String, String, String)> {
    let status = world.agent(vm, ["status"])?;
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("{status}"));
    Ok((text(&status["host"]["id"])?, text(&status["networks"][0]["address"])?, text(&status["version"])?))
}
