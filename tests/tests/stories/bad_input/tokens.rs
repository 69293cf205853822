//! Tokens that do not admit, and services that are not the token's.

use std::{process::Stdio, time::Instant};

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Answer, SERVICE_PORT, Servers, World, story},
};
use serde_json::Value;

use super::{CONFLICT, DENIED, SOON, UNREACHABLE, USAGE, lasting_state, on, refused, standing, state_files, unchanged};
use crate::clouds;

#[test]
fn a_token_that_does_not_admit_is_refused_and_nothing_changes() {
    story(&clouds::pair(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.start_agent("one")?;
        world.start_agent("two")?;
        let url = world.service_url(0)?;
        let join = |vm: &str, url: &str, token: &str| on(world, vm, ["cladnet-agent", "join", url, token]);
        let good = world.token("prod")?;
        let (before, files) = (standing(world)?, state_files(world, "one")?);

        let text = |token: &str, words: &[&str]| refused(token, &join("one", &url, token)?, USAGE, words);
        text("banana", &["token", "cladnet1_"])?;
        text(&good[..good.len() - 5], &["token", "cut short", "copy it again"])?;
        let mistyped = good.replacen(&good[12..14], if &good[12..14] == "aa" { "bb" } else { "aa" }, 1);
        text(&mistyped, &["token", "mistyped", "copy it again"])?;

        let at = |url: &str, code: i32, words: &[&str]| refused(url, &join("one", url, &good)?, code, words);
        at(&url.replace("https", "http"), USAGE, &["service URL", "https://HOST:8053"])?;
        at("banana", USAGE, &["service URL", "https://HOST:8053"])?;
        let nobody = url.replace("8053", "9999");
        at(&nobody, UNREACHABLE, &["cannot reach the service", &nobody])?;
        let begin = Instant::now();
        at("https://192.0.2.99:8053", UNREACHABLE, &["https://192.0.2.99:8053", "no answer"])?;
        ensure!(begin.elapsed() < SOON, "it took {:?} to say that nobody answers", begin.elapsed());

        let revoked = made(world, &["token", "create", "prod"])?;
        world.admin().run(["token", "revoke", &id_of(&revoked)?])?;
        refused("revoked", &join("one", &url, &secret_of(&revoked)?)?, DENIED, &["join token", "revoked", "new one"])?;
        let expired = made(world, &["token", "create", "prod", "--ttl", "1s"])?;
        eventually("the token to expire", SOON, || {
            let tokens = world.admin().json(["token", "list"])?;
            let mut tokens = tokens["tokens"].as_array().into_iter().flatten();
            let token = tokens.find(|token| token["tokenId"] == expired["token"]["tokenId"]).context("it is gone")?;
            ensure!(token["state"] == "expired", "it is {}", token["state"]);
            Ok(())
        })?;
        refused("expired", &join("one", &url, &secret_of(&expired)?)?, DENIED, &["join token", "expired", "new one"])?;

        ensure!(standing(world)? == before, "something changed: {before}, {}", standing(world)?);
        let found = state_files(world, "one")?;
        ensure!(found == files, "the agent's files were {files:?}, and are {found:?}");

        // The good one is still good, once, for one of two that come at the same moment.
        let racers = ["one", "two"].map(|vm| -> Result<_> {
            let mut command = world.vm(vm)?.command(["cladnet-agent", "join", &url, &good])?;
            Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
        });
        let mut losers = Vec::new();
        for (vm, racer) in ["one", "two"].into_iter().zip(racers) {
            let answer = Answer::from(racer?.wait_with_output()?);
            if answer.code != 0 {
                refused("used", &answer, DENIED, &["join token", "used up", "new one"])?;
                losers.push(vm);
            }
        }
        ensure!(losers.len() == 1, "of two joins with one token {losers:?} failed");
        ensure!(world.addresses("prod")?.len() == 1, "the loser is a peer");
        ensure!(state_files(world, losers[0])?.is_empty(), "the loser kept {}", state_files(world, losers[0])?);

        // The winner needs no second membership, and the token for it is not spent.
        let winner = if losers == ["one"] { "two" } else { "one" };
        let again = world.token("prod")?;
        refused("a second membership", &join(winner, &url, &again)?, CONFLICT, &["member of network prod already"])?;
        world.vm(losers[0])?.run(["cladnet-agent", "join", &url, &again])?;
        world.wait_mesh("prod", &["one", "two"])
    });
}

#[test]
fn a_host_belongs_to_one_installation_and_sends_nothing_to_another() {
    story(&clouds::two_installations(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        let other = Other::start(world)?;
        let foreign = other.token()?;
        let (url, other_url) = (world.service_url(0)?, other.url()?);
        world.start_agent("one")?;
        world.start_agent("two")?;
        world.join("one", "prod")?;
        let (before, state) = (standing(world)?, lasting_state(world, "one")?);
        let join = |vm: &str, url: &str, token: &str| on(world, vm, ["cladnet-agent", "join", url, token]);

        // A token of the other installation, on a host of this one.
        let words = ["this host belongs to", "leave"];
        refused("a foreign token", &join("one", &other_url, &foreign)?, CONFLICT, &words)?;
        refused("a foreign token here", &join("one", &url, &foreign)?, CONFLICT, &words)?;
        // On a fresh host, with the wrong service, the token is not shown to it.
        let words = ["authority", "token"];
        refused("the wrong service", &join("two", &url, &foreign)?, DENIED, &words)?;
        refused("the wrong token", &join("two", &other_url, &world.token("prod")?)?, DENIED, &words)?;
        // Nor does an admin's key go to a service whose authority is another.
        let admin = on(
            world,
            "other",
            [
                "cladnet",
                "--service",
                &url,
                "--key-file",
                "/root/admin.key",
                "--ca-file",
                "/var/lib/cladnet/ca.pem",
                "network",
                "list",
            ],
        )?;
        refused("an admin's wrong authority", &admin, UNREACHABLE, &["another authority", "--ca-file", "ca.pem"])?;

        ensure!(standing(world)? == before, "something changed: {before}, {}", standing(world)?);
        unchanged(world, "one", &state)?;
        ensure!(state_files(world, "two")?.is_empty(), "the fresh host kept {}", state_files(world, "two")?);

        // It was right all the time, there.
        world.vm("two")?.run(["cladnet-agent", "join", &other_url, &foreign])?;
        // And after it has left, a host may go to the other.
        world.agent("one", ["leave", "--all"])?;
        world.vm("one")?.run(["cladnet-agent", "join", &other_url, &other.token()?])?;
        eventually("the host to be gone here", SOON, || {
            ensure!(world.addresses("prod")?.is_empty(), "it is not");
            Ok(())
        })
    });
}

/// A second installation of cladnet, on the machine `other`.
struct Other<'a> {
    world: &'a World,
}

impl<'a> Other<'a> {
    const MACHINE: &'static str = "other";

    fn start(world: &'a World) -> Result<Self> {
        world.install(Self::MACHINE, "cladnet")?;
        let command = ["/usr/local/bin/cladnet", "server", "--data-dir", "/var/lib/cladnet"];
        let command = command.into_iter().chain(["--admin-key-file", "/root/admin.key"]);
        world.vm(Self::MACHINE)?.add_service("server", command)?;
        let other = Self { world };
        eventually("the other installation", SOON, || other.run("network create theirs --hosts 10"))?;
        Ok(other)
    }

    fn url(&self) -> Result<String> {
        Ok(format!("https://{}:{SERVICE_PORT}", self.world.vm(Self::MACHINE)?.public_address()?))
    }

    fn token(&self) -> Result<String> {
        Ok(self.run("token create theirs")?.trim().to_owned())
    }

    fn run(&self, arguments: &str) -> Result<String> {
        let own = "cladnet --service https://localhost --key-file /root/admin.key --ca-file /var/lib/cladnet/ca.pem";
        Ok(self.world.vm(Self::MACHINE)?.run(own.split(' ').chain(arguments.split(' ')))?)
    }
}

/// The answer of an admin's command, as JSON.
fn made(world: &World, arguments: &[&str]) -> Result<Value> {
    let answer = world.admin().ask(["--output", "json"].iter().chain(arguments).copied())?;
    serde_json::from_str(&answer.stdout).with_context(|| answer.stderr)
}

fn id_of(token: &Value) -> Result<String> {
    Ok(token["token"]["tokenId"].as_str().context("no id")?.to_owned())
}

fn secret_of(token: &Value) -> Result<String> {
    Ok(token["secret"].as_str().context("no secret")?.to_owned())
}
