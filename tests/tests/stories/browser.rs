//! The admin web in a real browser: Debian's Chromium, driven by the stories of `tests/web`, each in a world of its own.

use cladnet_sandbox::{SshChoice, Topology};
use cladnet_tests::{
    script,
    world::{SSH_USER, Servers, SshKey, World, story},
};
use serde_json::{Value, json};

use crate::clouds;

#[test]
fn an_operator_goes_the_whole_road_on_the_page() {
    with_ssh(clouds::overlapping(), "operations");
}

#[test]
fn a_viewer_is_offered_nothing_that_fails() {
    plainly(&clouds::control_only(), "roles");
}

#[test]
fn hostile_names_stay_text() {
    plainly(&clouds::pair(), "hostile");
}

#[test]
fn a_page_that_lost_its_server_is_fresh_again_by_itself() {
    plainly(&clouds::control_only(), "outage");
}

#[test]
fn a_page_that_gets_no_stream_asks_and_alarms_nobody() {
    plainly(&clouds::control_only(), "crowded");
}

#[test]
fn a_line_that_swallows_everything_is_noticed_and_left() {
    plainly(&clouds::control_only(), "silence");
}

#[test]
fn a_page_that_nobody_touches_rests() {
    plainly(&clouds::control_only(), "idle");
}

#[test]
fn a_call_that_failed_is_made_again_if_that_may_help() {
    plainly(&clouds::control_only(), "retry");
}

#[test]
fn a_deployment_whose_stream_is_refused_is_asked_for() {
    plainly(&clouds::control_only(), "polling");
}

#[test]
fn every_page_can_be_read_and_used_by_everybody() {
    with_ssh(clouds::pair(), "accessible");
}

#[test]
fn a_thousand_peers_are_found_and_sorted() {
    plainly(&clouds::control_only(), "thousand");
}

#[test]
fn the_page_speaks_korean_and_remembers_it() {
    plainly(&clouds::control_only(), "languages");
}

fn plainly(topology: &Topology, name: &str) {
    story(topology, Servers::One, |world| tell(name, world, &Value::Null));
}

/// Where agents can be brought by SSH with a key that the story is told.
fn with_ssh(mut topology: Topology, name: &str) {
    let key = SshKey::make().expect("a key");
    topology.ssh = Some(key.server().expect("the key was made"));
    topology.internet.iter_mut().for_each(|machine| machine.ssh = Some(SshChoice::Off));
    let given = json!({ "sshUser": SSH_USER, "sshKey": key.path() });
    story(&topology, Servers::One, |world| tell(name, world, &given));
}

fn tell(name: &str, world: &World, given: &Value) -> anyhow::Result<()> {
    script::run(&format!("stories/{name}.js"), world, given).map(drop)
}
