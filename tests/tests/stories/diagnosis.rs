//! What an agent says of itself and its peers, to people and to programs.

use std::time::Duration;

use anyhow::{Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{CONTROL, Servers, World, story},
};
use serde_json::Value;

use crate::clouds;

/// For failing, not a target.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_agent_says_who_it_is_whom_it_reaches_and_how() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "aws-2", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;
        let addresses = world.addresses("prod")?;

        let own = format!("{}:8055", world.vm("aws-1")?.public_address()?);
        let status = eventually("the agent to be connected and to know where it is", SOON, || {
            let status = world.agent("aws-1", ["status"])?;
            let is_known = status["endpoints"].as_array().is_some_and(|all| all.iter().any(|e| e["address"] == own));
            ensure!(is_known && status["location"]["provider"]["value"] == "aws", "{status}");
            ensure!(status["service"]["state"] == "connected", "{status}");
            Ok(status)
        })?;
        let network = &status["networks"][0];
        ensure!(network["network"] == "prod" && network["state"] == "tunneling" && network["peers"] == 2, "{status}");
        ensure!(network["interface"] == "cbnet0" && network["address"] == addresses["aws-1"].to_string(), "{status}");
        ensure!(status["problems"] == Value::Array(vec![]), "{status}");
        says(world, &["status"], &["connected", "aws", &own, "prod", "tunneling", "cbnet0"])?;

        let peers = world.agent("aws-1", ["peers"])?;
        let names: Vec<_> = peers.as_array().into_iter().flatten().filter_map(|peer| peer["name"].as_str()).collect();
        ensure!(names.len() == 2 && names.contains(&"aws-2") && names.contains(&"gcp-1"), "{peers}");
        says(world, &["peers", "prod"], &["aws-2", "gcp-1", &addresses["gcp-1"].to_string(), "ago"])?;

        let inside = format!("{}:8055", world.vm("aws-2")?.private_address()?);
        let outside = format!("{}:8055", world.vm("gcp-1")?.public_address()?);
        for (name, scope, endpoint) in [("aws-2", "private", &inside), ("gcp-1", "public", &outside)] {
            eventually("the path to be chosen", SOON, || world.sends_by("prod", "aws-1", name, scope))?;
            let paths = world.agent("aws-1", ["paths", "--probe"])?;
            let path = paths.as_array().into_iter().flatten().find(|path| path["name"] == name).cloned();
            let path = path.unwrap_or_default();
            ensure!(path["scope"] == scope && path["endpoint"] == **endpoint, "{name}: {paths}");
            ensure!(path["rtt_us"].as_u64().is_some_and(|rtt| rtt > 0), "{name}: {paths}");
        }
        says(world, &["paths"], &["aws-2", "private", &inside, "gcp-1", "public", &outside, "in use"])?;

        let ping = world.agent("aws-1", ["ping", "gcp-1", "--count", "3", "--interval", "50"])?;
        let received = ping["rtts_us"].as_array().map_or(0, Vec::len);
        ensure!(ping["sent"] == 3 && received == 3 && ping["figures"]["avg_us"].as_u64() > Some(0), "{ping}");
        let by_address = addresses["gcp-1"].to_string();
        says(
            world,
            &["ping", &by_address, "--count", "2", "--interval", "50"],
            &["gcp-1", "2 sent, 2 received", "avg"],
        )?;

        eventually("netcheck to find all well", SOON, || {
            let checks = world.agent("aws-1", ["netcheck"])?;
            let checks = checks.as_array().cloned().unwrap_or_default();
            let bad: Vec<_> = checks.iter().filter(|check| check["outcome"] != "good").collect();
            ensure!(checks.len() >= 7 && bad.is_empty(), "{bad:?} of {} checks", checks.len());
            Ok(())
        })?;
        says(world, &["netcheck"], &["/dev/net/tun", "UDP 8055", "1:1", "service", "aws"])?;

        refuses(world, &["ping", "nobody"], 3, "no peer nobody")?;
        refuses(world, &["peers", "test"], 3, "not in network test")?;
        refuses(world, &["up", "test"], 3, "not in network test")?;
        refuses(world, &["frobnicate"], 2, "frobnicate")?;
        world.agent("gcp-1", ["down", "prod"])?;
        refuses(world, &["ping", "gcp-1", "--count", "1"], 1, "")?;
        world.agent("gcp-1", ["up", "prod"])?;
        world.ping_soon("aws-1", addresses["gcp-1"])?;
        Ok(())
    });
}

#[test]
fn netcheck_tells_each_machine_how_it_is_seen_from_outside() {
    story(&clouds::behind_nat(), Servers::OnEtcd { controllers: 1, services: 2 }, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let urls = [world.service_url(0)?, world.service_url(1)?];
        // In one line for people. What a daemon tells it has to find out first, each thing by itself.
        let told = |vm: &str, code: i32, words: &[&str]| {
            eventually(&format!("netcheck on {vm} to say {words:?}"), SOON, || {
                let output = world.vm(vm)?.exec(["cladnet-agent", "netcheck"])?;
                let printed = String::from_utf8_lossy(&output.stdout);
                let line = printed.lines().find(|line| words.iter().all(|word| line.contains(word)));
                ensure!(line.is_some() && output.status.code() == Some(code), "{}: {printed}", output.status);
                Ok(())
            })
        };
        // A public address of its own, and one that only answers come in by: from inside both look the same.
        for (vm, metadata) in [("open-1", "ok"), ("hidden-1", "location.toml")] {
            world.install(vm, "cladnet-agent")?;
            told(vm, 1, &["BAD", "daemon", "not running"])?;
            world.start_agent(vm)?;
            told(vm, 0, &["public IPv4", "not enrolled"])?;
            world.vm(vm)?.run(["cladnet-agent", "join", &urls.join(","), &world.token("prod")?])?;
            let seen = format!("{}:8055", world.vm(vm)?.public_address()?);
            told(vm, 0, &["ok", "public IPv4", &seen])?;
            told(vm, 0, &["ok", "NAT", "keeps the port", "strangers", "only one address"])?;
            told(vm, 0, &["metadata", metadata])?;
            for url in &urls {
                told(vm, 0, &["ok", "service", url, "reached"])?;
            }
        }
        world.vm(CONTROL)?.stop_service("service-1")?;
        told("hidden-1", 1, &["BAD", "service", &urls[1]])?;
        told("hidden-1", 1, &["ok", "service", &urls[0], "reached"])
    });
}

#[test]
fn a_rebooted_machine_is_back_by_itself() {
    story(&clouds::overlapping(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["aws-1", "gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "gcp-1"])?;
        let address = world.address("prod", "gcp-1")?;
        world.vm("gcp-1")?.reboot()?;
        world.first_reply("aws-1", address, SOON)?;
        world.wait_agent("gcp-1")?;
        eventually("the service to see it again", SOON, || {
            let status = world.agent("gcp-1", ["status"])?;
            ensure!(status["service"]["state"] == "connected", "{}", status["service"]);
            ensure!(status["problems"] == Value::Array(vec![]), "{}", status["problems"]);
            Ok(())
        })
    });
}

/// Holds if a command on aws-1 prints all of these for people.
fn says(world: &World, arguments: &[&str], words: &[&str]) -> Result<()> {
    let printed = world.vm("aws-1")?.run(["cladnet-agent"].iter().chain(arguments))?;
    for word in words {
        ensure!(printed.contains(word), "{arguments:?} does not say {word:?}: {printed}");
    }
    Ok(())
}

fn refuses(world: &World, arguments: &[&str], code: i32, word: &str) -> Result<()> {
    let output = world.vm("aws-1")?.exec(["cladnet-agent"].iter().chain(arguments))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code) && told.contains(word), "{arguments:?}: {}: {told}", output.status);
    Ok(())
}
