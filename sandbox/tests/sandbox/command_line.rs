//! The binary: words, output, exit codes.

use std::process::{Command, Output};

use crate::support::{demo, pings};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cladnet-sandbox")).args(arguments).output().expect("the binary runs")
}

/// What a command that must succeed printed.
fn ok(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn every_change_can_be_made_from_the_command_line() {
    let sandbox = demo();
    let (id, vm) = (sandbox.id(), |name: &str| sandbox.vm(name).expect("it exists"));
    assert!(ok(&["list"]).lines().any(|line| line == id));
    let table = ok(&["show", id]);
    assert!(table.contains("aws-seoul/aws-a1") && table.contains("150.00"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&ok(&["show", id, "--output", "json"])).expect("JSON");
    assert_eq!(json["vms"]["gcp-1"]["place"]["vpc"]["private_address"], "10.0.1.10");
    assert_eq!(ok(&["exec", id, "aws-1", "--env", "A=b c", "--", "sh", "-c", "echo $A"]), "b c\n");
    ok(&["security-group", id, "gcp-iowa", "--icmp", "--udp", "8055,53"]);
    ok(&["link", id, "gcp/us-central1", "internet/seoul", "--delay-ms", "5"]);
    ok(&["suspend", id, "gcp-1"]);
    let address = ok(&["resume", id, "gcp-1", "--new-public-ip"]).trim().to_owned();
    assert!(pings(&vm("control"), &address));
    ok(&["block", id, "control", "gcp-1", "--path", "all"]);
    assert!(!pings(&vm("control"), &address));
    ok(&["unblock", id, "control", "gcp-1", "--path", "all"]);
    assert!(pings(&vm("control"), &address));
    ok(&["service", id, "aws-2", "add", "sleeper", "--", "sleep", "1000"]);
    assert!(ok(&["service", id, "aws-2", "status"]).contains("running (pid "));
    ok(&["service", id, "aws-2", "stop", "sleeper"]);
    ok(&["nat", id, "azure-1", "port-restricted"]);
    assert!(ok(&["statistics", id]).contains("\"carried\""));
    assert_ne!(ok(&["readdress", id, "aws-3"]).trim(), "");
}

#[test]
fn ssh_and_its_faults_can_be_steered_from_the_command_line() {
    let text = "
internet: [{ name: a, region: seoul, disk_mib: 8 }, { name: b, region: seoul, ssh: off }]
ssh: { user: debian, authorized_keys: [] }
";
    let sandbox = crate::support::sandbox(text);
    let id = sandbox.id();
    let old = ok(&["ssh-host-key", id, "a"]);
    assert!(ok(&["show", id]).contains(old.trim()));
    let new = ok(&["ssh-host-key", id, "a", "--replace"]);
    assert_ne!(new, old);
    let json: serde_json::Value = serde_json::from_str(&ok(&["show", id, "--output", "json"])).expect("JSON");
    assert_eq!(json["vms"]["a"]["ssh"]["host_key"], new.trim());
    assert!(json["vms"]["b"]["ssh"].is_null());
    assert_eq!(run(&["ssh-host-key", id, "b"]).status.code(), Some(4));
    let write = || run(&["exec", id, "a", "--", "sh", "-c", "head -c 100000 /dev/zero > /root/big"]).status.success();
    ok(&["disk", id, "a", "fill"]);
    assert!(!write());
    ok(&["disk", id, "a", "free"]);
    assert!(write());
    let rules = || ok(&["exec", id, "a", "--", "nft", "list", "ruleset"]);
    for fault in ["black-hole", "reset"] {
        ok(&["tcp-fault", id, "a", "22", fault]);
        assert!(rules().contains("22"), "{fault}");
    }
    ok(&["tcp-fault", id, "a", "22", "none"]);
    assert_eq!(rules(), "");
    ok(&["service", id, "a", "restart", "sshd"]);
}

#[test]
fn exit_codes_tell_what_kind_of_failure_it_was() {
    let sandbox = demo();
    let id = sandbox.id();
    let code = |arguments: &[&str]| run(arguments).status.code();
    assert_eq!(code(&["show", "nothing-of-this-name"]), Some(3));
    assert_eq!(code(&["suspend", id, "aws-9"]), Some(3));
    assert_eq!(code(&["link", id, "aws/x", "gcp/us-central1"]), Some(3));
    assert_eq!(code(&["create", "--demo", "--id", id]), Some(4));
    assert_eq!(code(&["resume", id, "aws-1"]), Some(4));
    assert_eq!(code(&["create", "--demo", "--id", "A b"]), Some(64));
    assert_eq!(code(&["link", id, "aws/ap-northeast-2", "gcp/us-central1", "--loss-percent", "120"]), Some(64));
    assert_eq!(code(&["create"]), Some(2));
    assert_eq!(code(&["destroy", "nothing-of-this-name"]), Some(0));
    assert_eq!(code(&["exec", id, "aws-1", "--", "sh", "-c", "exit 42"]), Some(42));
}

#[test]
fn a_bad_topology_is_refused_with_its_field() {
    let path = std::env::temp_dir().join(format!("cladnet-topology-{}.yaml", std::process::id()));
    std::fs::write(&path, "vms:\n  - { name: a, vpc: nowhere, subnet: s }\n").expect("it can be written");
    let output = run(&["create", "-f", &path.display().to_string()]);
    std::fs::remove_file(&path).expect("it was written");
    assert_eq!(output.status.code(), Some(64));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("vms[0].vpc: there is no VPC \"nowhere\""), "{message}");
}
