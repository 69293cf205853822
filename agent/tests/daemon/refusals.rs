//! What the agent refuses: each with its own exit code, a sentence that says what would be right, and nothing changed.

use std::{fs, net::UdpSocket, process::Command};

use cladnet_model::{CA_HASH_BYTES, JoinToken, SECRET_BYTES, Secret};

use crate::machine::{Machine, outcome};

const DENIED: i32 = 5;
const CONFLICT: i32 = 4;
const UNREACHABLE: i32 = 6;
const USAGE: i32 = 2;
const CONFIGURATION: i32 = 64;

fn token() -> String {
    JoinToken::new([1; 10], Secret::new([2; SECRET_BYTES]), [3; CA_HASH_BYTES]).to_string()
}

fn agent(arguments: &[&str]) -> (i32, String) {
    outcome(&Command::new(env!("CARGO_BIN_EXE_cladnet-agent")).args(arguments).output().unwrap())
}

#[test]
fn a_wrong_configuration_key_is_named_with_its_line_before_anything_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    fs::write(&file, "listen_port = 8055\nlisten_adress = \"::\"\n").unwrap();
    for arguments in [["run", "--config"], ["--check-config", "--config"]] {
        let (code, text) = agent(&[arguments[0], arguments[1], file.to_str().unwrap()]);
        assert_eq!(code, CONFIGURATION, "{text}");
        assert!(text.contains("line 2") && text.contains("listen_adress"), "{text}");
    }
    fs::write(&file, "listen_port = 8055\n").unwrap();
    assert_eq!(agent(&["--check-config", "--config", file.to_str().unwrap()]).0, 0);
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    for command in [&["status"][..], &["peers"], &["up"], &["ping", "vm"], &["join", "https://a", "t"]] {
        let (code, text) = agent(&[&["--socket", socket.to_str().unwrap()], command].concat());
        assert_eq!(code, UNREACHABLE, "{text}");
        assert!(text.contains("cladnet-agent run"), "{text}");
    }
}

#[test]
fn without_privilege_it_says_which_is_missing_and_nobody_else_may_steer_it() {
    let Some(machine) = Machine::new() else { return };
    let (code, text) = machine.agent_unprivileged(&["run"]);
    assert_eq!(code, DENIED, "{text}");
    assert!(text.contains("CAP_NET_ADMIN"), "{text}");

    let _daemon = machine.start();
    let (code, text) = machine.agent_unprivileged(&["status"]);
    assert_eq!(code, DENIED, "{text}");
    assert!(text.contains("root"), "{text}");
}

#[test]
fn without_a_tun_device_it_says_how_to_get_one() {
    let Some(machine) = Machine::new() else { return };
    let run = machine.command(&["run"]);
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$@\"", "sh"]);
    hidden.arg(run.get_program()).args(run.get_args());
    let (code, text) = outcome(&hidden.output().unwrap());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("/dev/net/tun does not exist") && text.contains("modprobe tun"), "{text}");
}

#[test]
fn a_second_agent_is_told_who_is_there_already() {
    let Some(machine) = Machine::new() else { return };
    let daemon = machine.start();
    let (code, text) = machine.agent(&["run"]);
    assert_eq!(code, CONFLICT, "{text}");
    assert!(text.contains(&format!("pid {}", daemon.pid())), "{text}");

    let (code, text) = outcome(&machine.command_in("other", "run/other.sock", &["run"]).output().unwrap());
    assert_eq!(code, CONFLICT, "{text}");
    assert!(text.contains("UDP port 8055 is in use") && text.contains(&daemon.pid().to_string()), "{text}");
}

#[test]
fn a_busy_port_is_named_with_who_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_) = Machine::new() else { return };
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let state = directory.path().join("state");
    let socket = directory.path().join("control.sock");
    let (state, socket) = (state.to_str().unwrap(), socket.to_str().unwrap());
    let (code, text) = agent(&["run", "--listen-port", &port, "--state-dir", state, "--socket", socket]);
    assert_eq!(code, CONFLICT, "{text}");
    assert!(text.contains(&format!("UDP port {port} is in use")), "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");
}

#[test]
fn a_join_that_cannot_be_changes_nothing_on_disk() {
    let Some(machine) = Machine::new() else { return };
    let _daemon = machine.start();
    let token = token();
    let mut mistyped = token.clone();
    mistyped.replace_range(20..21, if &token[20..21] == "x" { "y" } else { "x" });
    for (url, token, expected, complaint) in [
        ("https://127.0.0.1:1", token.as_str(), UNREACHABLE, "cannot reach the service at https://127.0.0.1:1"),
        ("https://127.0.0.1:1", mistyped.as_str(), USAGE, "mistyped"),
        ("https://127.0.0.1:1", "hello", USAGE, "is not a join token"),
        ("http://127.0.0.1:1", token.as_str(), USAGE, "is not https"),
        ("https://127.0.0.1:1/path", token.as_str(), USAGE, "has a path"),
    ] {
        let (code, text) = machine.agent(&["join", url, token]);
        assert_eq!(code, expected, "{text}");
        assert!(text.contains(complaint), "{text}");
        assert_eq!(machine.state_files(), Vec::<std::path::PathBuf>::new());
    }
    let (code, text) = machine.agent(&["leave"]);
    assert_eq!(code, 3, "{text}");
}
