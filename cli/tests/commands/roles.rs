//! The server roles: settings that are wrong, and a life from start to stop.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use tempfile::TempDir;

use crate::harness::{Outcome, Server, cladnet};

#[test]
fn a_server_makes_its_installation_once_and_stops_on_sigterm() {
    let mut server = Server::start();
    let key = fs::read_to_string(server.key_file()).unwrap();
    assert_eq!(fs::metadata(server.key_file()).unwrap().permissions().mode() & 0o777, 0o600);
    let authority = fs::read(server.ca_file()).unwrap();
    server.restart();
    assert_eq!(fs::read_to_string(server.key_file()).unwrap(), key);
    assert_eq!(fs::read(server.ca_file()).unwrap(), authority);
    assert_eq!(server.json(&["info"])["role"], "admin");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_data_directory_serves_one_process() {
    let server = Server::start();
    let data = server.directory.path().join("data");
    let second = Outcome::of(cladnet().args(["server", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data));
    second.refused(4, &["in use by pid"]);
}

#[test]
fn a_busy_port_is_told_with_its_flag() {
    let server = Server::start();
    let address = server.url.strip_prefix("https://").unwrap();
    let other = TempDir::new().unwrap();
    let data = other.path().join("data");
    let second = Outcome::of(cladnet().args(["server", "--listen", address, "--data-dir"]).arg(&data));
    second.refused(4, &[address, "in use", "--listen"]);
    assert!(!data.exists(), "a refused start changes nothing");
}

#[test]
fn wrong_settings_are_refused_before_anything_is_made() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let check = |arguments: &[&str], code: i32, words: &[&str]| {
        let mut command = cladnet();
        command.arg("server").args(arguments);
        Outcome::of(&mut command).refused(code, words);
        assert!(!data.exists(), "{arguments:?} made the data directory");
    };
    let data = data.to_str().unwrap();
    check(&[], 64, &["--data-dir"]);
    check(&["--data-dir", data, "--insecure-http", "0.0.0.0:80"], 64, &["--insecure-http", "loopback"]);
    check(&["--data-dir", data, "--tls-cert", "/x"], 64, &["--tls-key"]);
    check(&["--data-dir", data, "--tls-cert", "/x", "--tls-key", "/y"], 64, &["/y"]);
    check(&["--data-dir", data, "--tls-name", "no name"], 64, &["--tls-name", "no name"]);
    check(&["--data-dir", data, "--secret-key-file", "/x"], 64, &["--secret-key-file", "/x"]);
    check(&["--data-dir", data, "--log", "no=such=filter"], 64, &["--log"]);
    check(&["--data-dir", data, "--listen", "everywhere"], 2, &["--listen", "everywhere"]);
    check(&["--data-dir", data, "--stun-listen", "no"], 2, &["--stun-listen", "off"]);
    check(&["--data-dir", data, "--config", "/x"], 64, &["--config", "/x"]);
}

#[test]
fn a_wrong_key_of_the_file_is_told_with_its_line() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server.toml");
    fs::write(&file, "data-dir = '/nowhere'\nlisten-on = '[::]:1'\n").unwrap();
    let wrong = Outcome::of(cladnet().args(["server", "--check-config", "--config"]).arg(&file));
    wrong.refused(64, &["line 2", "listen-on", "`listen`"]);
}

#[test]
fn the_file_yields_to_the_environment_and_that_to_flags() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server.toml");
    fs::write(&file, "data-dir = '/nowhere'\ninsecure-http = '192.0.2.1:1'\n").unwrap();
    let check = |change: fn(&mut Command)| {
        let mut command = cladnet();
        change(command.args(["server", "--check-config", "--config"]).arg(&file));
        Outcome::of(&mut command)
    };
    check(|_| ()).refused(64, &["192.0.2.1:1"]);
    let environment = check(|command| {
        command.env("CLADNET_INSECURE_HTTP", "192.0.2.2:2");
    });
    environment.refused(64, &["192.0.2.2:2"]);
    let both = check(|command| {
        command.env("CLADNET_INSECURE_HTTP", "192.0.2.2:2").args(["--insecure-http", "127.0.0.1:3"]);
    });
    assert!(both.ok().stdout.contains("right"));
}

#[test]
fn roles_on_etcd_say_what_they_miss() {
    let directory = TempDir::new().unwrap();
    let key = directory.path().join("secret.key");
    fs::write(&key, "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n").unwrap();
    let (key, wrong) = (key.to_str().unwrap(), directory.path().join("wrong.key"));
    fs::write(&wrong, "short\n").unwrap();
    let check = |arguments: &[&str], words: &[&str]| {
        Outcome::of(cladnet().args(arguments).arg("--check-config")).refused(64, words);
    };
    check(&["controller"], &["--etcd"]);
    check(&["service", "--etcd", "http://127.0.0.1:1"], &["--secret-key-file", "openssl rand"]);
    check(&["service", "--etcd", "http://127.0.0.1:1", "--secret-key-file", wrong.to_str().unwrap()], &["32 bytes"]);
    check(&["provisioner", "--etcd", "http://127.0.0.1:1"], &["--deployment-key-file", "--secret-key-file"]);
    check(
        &["provisioner", "--etcd", "http://127.0.0.1:1", "--deployment-key-file", "/x"],
        &["--deployment-key-file", "/x"],
    );
    check(&["provisioner", "--etcd", "http://127.0.0.1:1", "--deployment-key-file", key], &["--service"]);
    check(&["provisioner", "--etcd", "http://127.0.0.1:1", "--secret-key-file", key], &["--service"]);
    let service = ["--service", "https://127.0.0.1:1", "--api-key-file", key, "--service-ca", key];
    check(
        &[&["provisioner", "--etcd", "http://127.0.0.1:1", "--secret-key-file", key][..], &service].concat(),
        &["--ca-file"],
    );
    check(&["controller", "--etcd", "127.0.0.1:1"], &["--etcd", "https://HOST:PORT"]);
    check(&["controller", "--etcd", "https://127.0.0.1:1"], &["--etcd-ca"]);
    check(&["controller", "--etcd", "http://127.0.0.1:1", "--etcd-user", "root"], &["--etcd-password-file"]);
    check(&["controller", "--etcd", "http://127.0.0.1:1", "--etcd-cert", "/x"], &["--etcd-key"]);
    let right = Outcome::of(cladnet().args([
        "service",
        "--etcd",
        "http://127.0.0.1:1,http://127.0.0.1:2",
        "--secret-key-file",
        key,
        "--check-config",
    ]));
    right.ok();
}

#[test]
fn an_etcd_that_does_not_answer_is_unreachable() {
    let outcome = Outcome::of(cladnet().args(["controller", "--etcd", "http://127.0.0.1:1"]));
    outcome.refused(6, &["store unavailable"]);
}

#[test]
fn a_store_that_is_not_ours_or_damaged_is_left_as_it_is() {
    let mut server = Server::start();
    server.stop();
    let data = server.directory.path().join("data");
    let store = data.join("store.redb");
    for content in [b"somebody else's file".as_slice(), b""] {
        fs::write(&store, content).unwrap();
        let start = Outcome::of(cladnet().args(["server", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data));
        start.refused(1, &["store.redb", "restore a backup"]);
        assert_eq!(fs::read(&store).unwrap(), content);
    }
    let file = server.directory.path().join("file");
    fs::write(&file, "").unwrap();
    let start = Outcome::of(cladnet().args(["server", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&file));
    start.refused(1, &["data directory", file.to_str().unwrap()]);
}
