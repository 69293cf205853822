//! The daemon and its files: it comes back after any death, and never dies of what it finds.

use std::fs;

use crate::machine::{Machine, eventually};

#[test]
fn after_a_kill_it_starts_over_what_was_left_behind() {
    let Some(machine) = Machine::new() else { return };
    machine.start().kill();
    assert!(machine.path("run/control.sock").exists(), "the kill left it");
    let daemon = machine.start();
    assert_eq!(daemon.terminate(), Some(0));
    eventually("the socket is gone", || !machine.path("run/control.sock").exists());
}

#[test]
fn a_corrupt_identity_is_named_and_nothing_is_joined_over_it() {
    let Some(machine) = Machine::new() else { return };
    fs::create_dir_all(machine.path("state")).unwrap();
    fs::write(machine.path("state/identity.json"), "{\"format\": \"cladnet-agent iden").unwrap();
    let _daemon = machine.start();
    let (code, text) = machine.agent(&["status"]);
    assert_eq!(code, 0);
    assert!(text.contains("identity.json is corrupt") && text.contains("leave --all"), "{text}");
    let token = cladnet_model::JoinToken::new([1; 10], cladnet_model::Secret::new([2; 32]), [3; 32]).to_string();
    let (code, text) = machine.agent(&["join", "https://127.0.0.1:1", &token]);
    assert_eq!(code, 64, "{text}");
    assert_eq!(machine.state_files(), [machine.path("state/identity.json")]);

    assert_eq!(machine.agent(&["leave", "--all"]).0, 0);
    let (_, text) = machine.agent(&["status"]);
    assert!(text.contains("not enrolled") && !text.contains("problem"), "{text}");
}

#[test]
fn json_is_for_programs_errors_included() {
    let Some(machine) = Machine::new() else { return };
    let daemon = machine.start();
    let (code, text) = machine.agent(&["--output", "json", "status"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, status["pid"].as_u64()), (0, Some(u64::from(daemon.pid()))));
    let (code, text) = machine.agent(&["--output", "json", "up", "prod"]);
    let error: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, error["error"]["kind"].as_str()), (3, Some("not-found")));
}
