//! Disks that are full, logs included: what runs goes on, what cannot be kept is refused or told, and all is well when there is room again.

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{AGENT, CONTROL, Servers, World, story},
};

use super::{SOON, UNREACHABLE, on, problems, refused, rest, standing};
use crate::clouds;

#[test]
fn an_agent_on_a_full_disk_forwards_and_restarts_and_says_so() {
    story(&clouds::small_disks(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["one", "small"], "prod")?;
        world.wait_mesh("prod", &["one", "small"])?;
        let small = world.address("prod", "small")?;
        fill(world, "small")?;

        // A change cannot be saved; it is applied and told.
        world.join_all(&["two"], "prod")?;
        world.wait_mesh("prod", &["one", "two", "small"])?;
        eventually("the agent to say that its disk is full", SOON, || {
            let told = problems(world, "small")?;
            ensure!(told.contains("No space left") && told.contains("traffic goes on"), "it says {told}");
            Ok(())
        })?;
        // Nor does it keep a killed agent from coming back.
        world.vm("small")?.kill_service(AGENT, 9)?;
        world.first_reply("one", small, SOON)?;

        empty(world, "small")?;
        world.wait_mesh("prod", &["one", "two", "small"])?;
        eventually("no problem to be left", SOON, || {
            let told = problems(world, "small")?;
            ensure!(told == "[]", "it says {told}");
            Ok(())
        })?;
        // What could not be saved is saved now: the agent knows the newcomer without the service.
        world.wait_saved("prod", &["one", "two", "small"])?;
        world.vm(CONTROL)?.stop_service("server")?;
        world.vm("small")?.kill_service(AGENT, 9)?;
        world.first_reply("two", small, SOON)?;
        Ok(())
    });
}

#[test]
fn a_server_on_a_full_disk_refuses_changes_and_goes_on_when_there_is_room() {
    story(&clouds::small_disks(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        world.join_all(&["one", "two"], "prod")?;
        world.wait_mesh("prod", &["one", "two"])?;
        world.start_agent("small")?;
        let token = world.token("prod")?;
        fill(world, CONTROL)?;

        // The store may have a little room left inside its file.
        let refusal = (0..200).find_map(|n| {
            let answer = world.admin().ask(["network", "create", &format!("n{n}"), "--hosts", "2"]);
            answer.map_or_else(|error| Some(Err(error)), |answer| (answer.code != 0).then_some(Ok(answer)))
        });
        let refusal = refusal.context("200 networks found room on a full disk")??;
        refused("a full store", &refusal, UNREACHABLE, &["store is full", "nothing was changed"])?;
        let before = standing(world)?;
        for _ in 0..3 {
            let answer = rest::call(world, Some(&world.admin().key()?), "POST", "networks", r#"{"networkId":"late"}"#)?;
            answer.is_problem("a full store over REST", 503, "store is full")?;
        }
        let join = on(world, "small", ["cladnet-agent", "join", &world.service_url(0)?, &token])?;
        refused("a join that cannot be written", &join, UNREACHABLE, &["store is full"])?;
        ensure!(standing(world)? == before, "what was refused happened: {before}, {}", standing(world)?);
        world.ping("one", world.address("prod", "two")?)?;

        empty(world, CONTROL)?;
        eventually("changes to be taken again", SOON, || {
            world.admin().run(["network", "create", "late", "--hosts", "2"]).map(drop)
        })?;
        world.join("small", "prod")?;
        world.wait_mesh("prod", &["one", "two", "small"])?;
        let now = standing(world)?;
        world.vm(CONTROL)?.kill_service("server", 9)?;
        eventually("the same to be there after a crash", SOON, || {
            let found = standing(world)?;
            ensure!(found == now, "before the crash {now}, after it {found}");
            Ok(())
        })
    });
}

/// Leaves no room on a machine's disk, not even for its logs.
fn fill(world: &World, vm: &str) -> Result<()> {
    let filled =
        world.vm(vm)?.run(["sh", "-c", "cat /dev/zero > /fill 2> /dev/null; df --output=avail / | tail -n 1"])?;
    ensure!(filled.trim() == "0", "{vm} still has room: {filled}");
    Ok(())
}

fn empty(world: &World, vm: &str) -> Result<()> {
    world.vm(vm)?.run(["rm", "/fill"])?;
    Ok(())
}
