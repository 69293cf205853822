//! The admin web in a real browser: Debian's Chromium, driven by the stories of `tests/web`, each in a world of its own.

mod script;

use cladnet_tests::world::{Servers, story};

use crate::clouds;

#[test]
fn an_operator_goes_the_whole_road_on_the_page() {
    story(&clouds::overlapping(), Servers::One, |world| script::run("operations", world));
}

#[test]
fn a_viewer_is_offered_nothing_that_fails() {
    story(&clouds::control_only(), Servers::One, |world| script::run("roles", world));
}

#[test]
fn hostile_names_stay_text() {
    story(&clouds::pair(), Servers::One, |world| script::run("hostile", world));
}

#[test]
fn a_page_that_lost_its_server_is_fresh_again_by_itself() {
    story(&clouds::control_only(), Servers::One, |world| script::run("outage", world));
}

#[test]
fn every_page_can_be_read_and_used_by_everybody() {
    story(&clouds::pair(), Servers::One, |world| script::run("accessible", world));
}

#[test]
fn a_thousand_peers_are_found_and_sorted() {
    story(&clouds::control_only(), Servers::One, |world| script::run("thousand", world));
}

#[test]
fn the_page_speaks_korean_and_remembers_it() {
    story(&clouds::control_only(), Servers::One, |world| script::run("languages", world));
}
