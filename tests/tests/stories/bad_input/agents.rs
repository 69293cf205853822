//! Machines that lack what an agent needs, and agents in each other's way.

use anyhow::{Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{AGENT, Servers, World, story},
};

use super::{
    CONFIGURATION, CONFLICT, DENIED, FAILED, SOON, UNREACHABLE, lasting_state, on, refused, state_files, unchanged,
};
use crate::clouds;

const CONFIGURATION_FILE: &str = "/etc/cladnet-agent/config.toml";

#[test]
fn an_agent_says_what_its_machine_lacks_and_disturbs_nobody() {
    story(&clouds::pair_and_bare(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["one", "two"], "prod")?;
        world.wait_mesh("prod", &["one", "two"])?;
        let (address, before) = (world.address("prod", "two")?, lasting_state(world, "two")?);
        let on_two = |command: &[&str]| on(world, "two", command.iter().copied());

        // An ordinary user.
        let user = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "cladnet-agent"];
        let as_user = |command: &str| on(world, "two", user.into_iter().chain([command]));
        refused("a daemon of a user", &as_user("run")?, DENIED, &["CAP_NET_ADMIN", "run this as root"])?;
        for command in ["status", "peers", "netcheck"] {
            refused(command, &as_user(command)?, DENIED, &["control.sock", "run this as root"])?;
        }

        // A second daemon, with the same state, and with one of its own on the same port.
        let second = on_two(&["cladnet-agent", "run"])?;
        refused("a second agent", &second, CONFLICT, &["another cladnet-agent (pid ", "/var/lib/cladnet-agent"])?;
        let aside = ["cladnet-agent", "run", "--state-dir", "/tmp/aside", "--socket", "/tmp/aside.sock"];
        refused("a busy port", &on_two(&aside)?, CONFLICT, &["UDP port 8055", "cladnet-agent (pid ", "another port"])?;

        // A configuration file with a key that there is not, a value that cannot be, and nothing that is TOML.
        for (text, words) in [
            ("# ports\nlisten_prot = 8056\n", ["line 2", "listen_prot", "`listen_port`"]),
            ("# ports\n\nlisten_port = 70000\n", ["line 3", "listen_port", "u16"]),
            ("listen_port = 8055\n]\n", ["line 2", CONFIGURATION_FILE, "TOML"]),
        ] {
            world.vm("two")?.write_file(CONFIGURATION_FILE, text.as_bytes(), 0o644)?;
            for command in [&["cladnet-agent", "run"][..], &["cladnet-agent", "--check-config"]] {
                let answer = on_two(command)?;
                refused(text, &answer, CONFIGURATION, &words)?;
                ensure!(answer.stderr.matches("TOML parse error").count() == 1, "told twice: {}", answer.stderr);
            }
        }
        world.vm("two")?.run(["rm", CONFIGURATION_FILE])?;
        let port = on_two(&["cladnet-agent", "--listen-port", "0", "run"])?;
        refused("port 0", &port, CONFIGURATION, &["listen_port", "1 to 65535"])?;

        unchanged(world, "two", &before)?;
        world.ping("one", address)?;
        without_tun(world)
    });
}

/// Without `/dev/net/tun` the daemon does not start and says why, as does `netcheck`, without a daemon.
fn without_tun(world: &World) -> Result<()> {
    let words = ["/dev/net/tun does not exist", "modprobe tun"];
    world.install("bare", "cladnet-agent")?;
    refused("no tun", &on(world, "bare", ["cladnet-agent", "run"])?, FAILED, &words)?;
    let url = world.service_url(0)?;
    let join = on(world, "bare", ["cladnet-agent", "join", &url, &world.token("prod")?])?;
    refused("no daemon", &join, UNREACHABLE, &["the daemon is not running", "systemctl start cladnet-agent"])?;
    let check = on(world, "bare", ["cladnet-agent", "netcheck"])?;
    ensure!(check.code == FAILED, "netcheck ended with {}", check.code);
    let told = words.iter().all(|word| check.stdout.contains(word));
    ensure!(told && check.stdout.contains("BAD"), "netcheck printed {}", check.stdout);
    ensure!(world.addresses("prod")?.len() == 2, "it became a peer");

    // The service manager starts it again and again; when there is a device, it runs.
    world.vm("bare")?.add_service(AGENT, ["/usr/local/bin/cladnet-agent", "run"])?;
    eventually("the log to say why", SOON, || {
        let log = world.vm("bare")?.service_log(AGENT)?;
        ensure!(words.iter().all(|word| log.contains(word)), "it says {log}");
        Ok(())
    })?;
    world.vm("bare")?.run(["sh", "-c", "mkdir -p /dev/net && mknod /dev/net/tun c 10 200"])?;
    world.wait_agent("bare")?;
    world.join("bare", "prod")?;
    world.wait_mesh("prod", &["bare", "one"])
}

#[test]
fn a_join_that_was_killed_or_failed_keeps_nobody_from_joining() {
    story(&clouds::pair(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.start_agent("one")?;
        let (url, token) = (world.service_url(0)?, world.token("prod")?);
        let join = |url: &str, seconds: &str| {
            on(world, "one", ["timeout", seconds, "cladnet-agent", "join", "--wait", seconds, url, &token])
        };

        // Nobody answers there, and it would go on asking for an hour.
        let script =
            format!("cladnet-agent join --wait 3600 https://192.0.2.99:8053 {token} >/dev/null 2>&1 & echo $!");
        let killed = world.vm("one")?.run(["sh", "-c", &script])?;
        eventually("the join to begin", SOON, || {
            ensure!(state_files(world, "one")?.contains("pending"), "it has kept no keys");
            Ok(())
        })?;
        world.vm("one")?.run(["kill", "-9", killed.trim()])?;
        refused("a join that fails", &join(&url.replace("8053", "9999"), "30")?, UNREACHABLE, &["cannot reach"])?;
        let joined = join(&url, "30")?;
        ensure!(joined.code == 0, "{joined:?}");
        ensure!(!state_files(world, "one")?.contains("pending"), "the keys of the attempt are still there");
        Ok(())
    });
}
