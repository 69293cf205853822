//! An address space where the host has a route of its own.

use anyhow::{Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};
use serde_json::Value;

use super::{FAILED, SOON, on, refused};
use crate::clouds;

#[test]
fn a_network_over_a_route_of_the_host_fails_by_name_and_others_work() {
    story(&clouds::pair(), Servers::One, |world| {
        world.admin().run(["network", "create", "wide", "--address-space", "172.20.0.0/16"])?;
        world.admin().run(["network", "create", "clear", "--address-space", "172.24.0.0/24"])?;
        world.join_all(&["one"], "wide")?;
        world.join("one", "clear")?;
        world.vm("two")?.run(["ip", "route", "add", "172.20.7.0/24", "via", "10.0.1.1"])?;
        world.start_agent("two")?;

        let url = world.service_url(0)?;
        let join = on(world, "two", ["cladnet-agent", "join", &url, &world.token("wide")?])?;
        refused("joining over a route", &join, FAILED, &["172.20.0.0/16", "172.20.7.0/24 on eth0", "address space"])?;
        let said = |status: &Value| status["reason"].as_str().is_some_and(|reason| reason.contains("172.20.7.0/24"));
        let seen_here = network(world, "two", "wide")?;
        ensure!(seen_here["state"] == "failed" && said(&seen_here), "the agent says {seen_here}");
        eventually("the admin to see why", SOON, || {
            let peer = world.admin().run(["peer", "show", "wide", "two"])?;
            ensure!(peer.contains("failed") && peer.contains("172.20.7.0/24"), "the peer is {peer}");
            Ok(())
        })?;
        let routes = world.vm("two")?.run(["ip", "route", "get", "172.20.7.9"])?;
        ensure!(routes.contains("dev eth0"), "traffic of the host's route goes elsewhere: {routes}");

        // The same host is a good member of a network that is in nobody's way.
        world.join("two", "clear")?;
        world.wait_mesh("clear", &["one", "two"])?;

        // And of the first, once its route is gone; nobody has to tell the agent.
        world.vm("two")?.run(["ip", "route", "del", "172.20.7.0/24"])?;
        world.wait_mesh("wide", &["one", "two"])?;
        let now = network(world, "two", "wide")?;
        ensure!(now["state"] == "tunneling", "the agent says {now}");
        Ok(())
    });
}

fn network(world: &World, vm: &str, id: &str) -> Result<Value> {
    let status = world.agent(vm, ["status"])?;
    let mut networks = status["networks"].as_array().into_iter().flatten();
    Ok(networks.find(|network| network["network"] == id).cloned().unwrap_or_default())
}
