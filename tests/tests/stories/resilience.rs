//! What happens when parts die: every component is killed, the control plane is absent, replicas take over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::PublicAddress;
use cladnet_tests::{
    wait::eventually,
    world::{AGENT, CONTROL, Servers, World, story},
};

use crate::clouds;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_killed_agent_comes_back_and_its_peers_notice_nothing_for_long() {
    story(&clouds::overlapping(), Servers::One, |world| {
        prod(world, &["aws-1", "gcp-1"])?;
        let overlay = world.address("prod", "gcp-1")?;
        for _ in 0..3 {
            world.vm("gcp-1")?.kill_service(AGENT, 9)?;
            world.first_reply("aws-1", overlay, SOON)?;
        }
        Ok(())
    });
}

#[test]
fn the_mesh_outlives_the_control_plane_and_restarts_without_it() {
    story(&clouds::overlapping(), Servers::One, |world| {
        prod(world, &["aws-1", "aws-2", "gcp-1"])?;
        let addresses = world.addresses("prod")?;
        world.wait_saved("prod", &["aws-1", "aws-2", "gcp-1"])?;
        world.vm(CONTROL)?.stop_service("server")?;

        world.ping("aws-1", addresses["gcp-1"])?;
        for vm in ["aws-1", "gcp-1"] {
            world.vm(vm)?.kill_service(AGENT, 9)?;
        }
        world.first_reply("aws-1", addresses["gcp-1"], SOON)?;
        world.vm("aws-2")?.reboot()?;
        world.first_reply("aws-1", addresses["aws-2"], SOON)?;

        let join = world.vm("aws-1")?.exec(["cladnet-agent", "status"])?;
        ensure!(join.status.success(), "the agent does not answer without the service");

        world.vm(CONTROL)?.start_service("server")?;
        eventually("all to be online again", SOON, || all_online(world, 3))
    });
}

#[test]
fn a_killed_server_is_back_and_joins_go_on() {
    story(&clouds::overlapping(), Servers::One, |world| {
        prod(world, &["aws-1", "aws-2"])?;
        for _ in 0..3 {
            world.vm(CONTROL)?.kill_service("server", 9)?;
            eventually("the service to answer", SOON, || world.admin().run(["network", "list"]).map(drop))?;
        }
        world.join_all(&["gcp-1"], "prod")?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])
    });
}

#[test]
fn two_replicas_serve_agents_of_one_network_and_each_may_die() {
    story(&clouds::overlapping(), Servers::OnEtcd { controllers: 2, services: 2 }, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        for (vm, replica) in [("aws-1", 0), ("gcp-1", 1)] {
            world.start_agent(vm)?;
            world.join_at(vm, "prod", replica)?;
        }
        world.wait_mesh("prod", &["aws-1", "gcp-1"])?;
        ["aws-1", "gcp-1"].iter().try_for_each(|vm| world.wait_online("prod", vm))?;

        // The admin talks to the replica that does not hold gcp-1's stream.
        let down = world.admin_at(0).json(["peer", "down", "prod", "gcp-1"])?;
        ensure!(down["results"][0]["outcome"] == "acknowledged", "{down}");
        let up = world.admin_at(0).json(["peer", "up", "prod", "gcp-1"])?;
        ensure!(up["results"][0]["outcome"] == "acknowledged", "{up}");
        let test = world.admin_at(0).json(["test", "connectivity", "prod", "--count", "2"])?;
        ensure!(test["results"].as_array().is_some_and(|pairs| pairs.len() == 2), "{test}");

        // A join works while the leading controller and one replica are dead.
        let control = world.vm(CONTROL)?;
        let leader = leading_controller(world)?;
        control.stop_service(&leader)?;
        control.kill_service("service-0", 9)?;
        world.start_agent("aws-2")?;
        let token = eventually("a token from the other replica", SOON, || {
            let answer = world.admin_at(1).json(["token", "create", "prod"])?;
            Ok(answer["secret"].as_str().context("no secret")?.to_owned())
        })?;
        world.vm("aws-2")?.run(["cladnet-agent", "join", &world.service_url(1)?, &token])?;
        world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])?;

        // etcd itself dies and comes back; the mesh does not care.
        control.kill_service("etcd", 9)?;
        world.ping("aws-1", world_address(world, "gcp-1")?)?;
        eventually("the replicas to serve again", SOON, || world.admin_at(1).run(["network", "list"]).map(drop))
    });
}

#[test]
fn a_vm_that_resumes_with_another_address_is_explained_by_that_one_only() {
    story(&clouds::overlapping(), Servers::One, |world| {
        prod(world, &["aws-1", "gcp-1"])?;
        let overlay = world.address("prod", "gcp-1")?;
        let sleeper = world.vm("gcp-1")?;
        let mut stale = vec![sleeper.public_address()?.to_string()];
        for _ in 0..2 {
            sleeper.suspend()?;
            let moved = sleeper.resume(PublicAddress::Change)?.context("no public address")?.to_string();
            world.first_reply("aws-1", overlay, SOON)?;
            eventually("the new address among the candidates", SOON, || {
                let candidates = candidates(world, "aws-1", "gcp-1")?;
                ensure!(candidates.contains(&moved), "{moved} is not in {candidates:?}");
                let left = candidates.iter().find(|address| stale.contains(address));
                ensure!(left.is_none(), "{left:?} is still there: {candidates:?}");
                Ok(())
            })?;
            // It does not come back by what the agent says of itself, in reports and after a restart.
            stale.push(moved);
            let current = stale.len() - 1;
            sleeper.kill_service(AGENT, 9)?;
            world.wait_agent("gcp-1")?;
            world.first_reply("aws-1", overlay, SOON)?;
            eventually("all to be online", SOON, || all_online(world, 2))?;
            let candidates = candidates(world, "aws-1", "gcp-1")?;
            ensure!(!candidates.iter().any(|address| stale[..current].contains(address)), "{stale:?}: {candidates:?}");
        }
        Ok(())
    });
}

/// The addresses that the path from one VM to another might go to, as the admin is told.
fn candidates(world: &World, from: &str, to: &str) -> Result<Vec<String>> {
    let explained = world.admin().json(["path", "explain", "prod", from, to])?;
    let candidates = explained["candidates"].as_array().context("no candidates")?;
    let endpoints = candidates.iter().filter_map(|candidate| candidate["endpoint"].as_str());
    Ok(endpoints.filter_map(|endpoint| Some(endpoint.rsplit_once(':')?.0.to_owned())).collect())
}

fn prod(world: &World, vms: &[&str]) -> Result<()> {
    world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
    world.join_all(vms, "prod")?;
    world.wait_mesh("prod", vms)
}

fn world_address(world: &World, vm: &str) -> Result<std::net::Ipv4Addr> {
    eventually("an address", SOON, || world.address("prod", vm))
}

fn all_online(world: &World, wanted: usize) -> Result<()> {
    let peers = world.admin().json(["peer", "list", "prod"])?;
    let peers = peers["peers"].as_array().cloned().unwrap_or_default();
    let online = peers.iter().filter(|peer| peer["online"] == true).count();
    ensure!(online == wanted, "{online} of {wanted} are online");
    Ok(())
}

fn leading_controller(world: &World) -> Result<String> {
    let control = world.vm(CONTROL)?;
    let names = world.server_names();
    let controllers = names.into_iter().filter(|name| name.starts_with("controller"));
    let mut leading = controllers.filter(|name| control.service_log(name).is_ok_and(|log| log.contains("elected")));
    leading.next().context("no controller was elected")
}
