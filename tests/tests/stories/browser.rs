//! The admin web in a real browser: Debian's Chromium, driven by the stories of `tests/web`, each in a world of its own.

mod script;

use cladnet_tests::world::{Servers, story};

use crate::clouds;

#[test]
fn a_page_that_lost_its_server_is_fresh_again_by_itself() {
    story(&clouds::control_only(), Servers::One, |world| script::run("outage", world));
}

#[test]
fn a_thousand_peers_are_found_and_sorted() {
    story(&clouds::control_only(), Servers::One, |world| script::run("thousand", world));
}

#[test]
fn the_page_speaks_korean_and_remembers_it() {
    story(&clouds::control_only(), Servers::One, |world| script::run("languages", world));
}
