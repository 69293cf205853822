//! Getting to the service: what is missing, what is wrong, and which exit code says so.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::harness::{Outcome, Server, cladnet};

#[test]
fn what_is_missing_is_named_with_its_variable() {
    let server = Server::start();
    let (key, url) = (server.key_file(), server.url.as_str());
    Outcome::of(cladnet().arg("info")).refused(64, &["--service", "CLADNET_SERVICE"]);
    Outcome::of(cladnet().args(["info", "--service", url])).refused(64, &["--key-file", "CLADNET_KEY_FILE"]);
    Outcome::of(cladnet().args(["info", "--service", url, "--key-file"]).arg(key))
        .refused(64, &["--ca-file", "CLADNET_CA_FILE"]);
}

#[test]
fn the_environment_is_enough() {
    let server = Server::start();
    let mut command = cladnet();
    command.env("CLADNET_SERVICE", &server.url).env("CLADNET_KEY_FILE", server.key_file());
    command.env("CLADNET_CA_FILE", server.ca_file()).env("CLADNET_OUTPUT", "json").arg("info");
    assert!(Outcome::of(&mut command).ok().stdout.contains("\"role\": \"admin\""));
}

#[test]
fn an_address_without_https_is_wrong_usage() {
    Outcome::of(cladnet().args(["info", "--service", "http://127.0.0.1:1"])).refused(2, &["https://HOST:8053"]);
}

#[test]
fn a_service_that_is_not_there_is_unreachable() {
    let mut server = Server::start();
    server.stop();
    server.run(&["info"]).refused(6, &[&server.url, "cannot reach"]);
}

#[test]
fn the_authority_of_another_installation_is_not_trusted() {
    let (one, other) = (Server::start(), Server::start());
    fs::copy(other.ca_file(), one.ca_file()).unwrap();
    one.run(&["info"]).refused(6, &["not trusted"]);
}

#[test]
fn files_that_are_no_keys_or_certificates_are_wrong_configuration() {
    let server = Server::start();
    let empty = server.directory.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    server.run_with_key(&empty, &["info"]).refused(64, &["--key-file", "is empty"]);
    server.run_with_key("/nowhere/key".as_ref(), &["info"]).refused(64, &["--key-file", "/nowhere/key"]);
    fs::write(server.ca_file(), "no certificate").unwrap();
    server.run(&["info"]).refused(64, &["--ca-file"]);
}

#[test]
fn events_are_followed_until_the_service_stops_which_does_not_wait_for_that() {
    let mut server = Server::start();
    server.network("before", "172.20.0.0/24");
    let mut follower = server.command(&["event", "list", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("network.created  before")));
    server.network("after", "172.20.1.0/24");
    assert!(lines.any(|line| line.contains("network.created  after")));
    let asked = Instant::now();
    assert_eq!(server.stop(), 0);
    assert!(asked.elapsed() < Duration::from_secs(10), "the server took {:?} to stop", asked.elapsed());
    assert!(matches!(follower.wait().unwrap().code(), Some(1 | 6)), "a stream that ends is no success");
}

#[test]
fn completions_need_no_service() {
    for shell in ["bash", "zsh", "fish"] {
        let outcome = Outcome::of(cladnet().args(["completions", shell])).ok();
        assert!(outcome.stdout.contains("recommend"), "{shell}");
    }
}
