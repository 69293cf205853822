//! A VM's init, asked from inside the VM.

use cladnet_sandbox::Vm;
use serde_json::{Value, json};

use crate::support::{eventually, one_vpc, sandbox};

/// What `cladnet-init` printed, and its exit code.
fn init(vm: &Vm<'_>, arguments: &[&str]) -> (String, Option<i32>) {
    let output = vm.exec([&["cladnet-init"], arguments].concat()).expect("it runs");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (text, output.status.code())
}

fn ok(vm: &Vm<'_>, arguments: &[&str]) -> String {
    let (text, code) = init(vm, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

fn status(vm: &Vm<'_>, name: &str) -> Value {
    serde_json::from_str(&ok(vm, &["status", name])).expect("a line of JSON")
}

#[test]
fn a_service_added_inside_is_seen_outside_and_outlives_a_reboot() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one, disk_mib: 4 }"));
    let vm = sandbox.vm("vm").expect("it exists");
    ok(&vm, &["add", "daemon", "--env", "WORD=hello", "--", "sh", "-c", "echo $WORD; exec sleep 1000"]);
    let pid = status(&vm, "daemon")["state"]["running"]["pid"].clone();
    assert!(pid.is_number());
    eventually("it logs", || vm.service_log("daemon").expect("there is a log") == "hello\n");
    assert_eq!(vm.services().expect("init answers")[0].name, "daemon");
    vm.reboot().expect("init answers");
    eventually("it runs again", || {
        let again = status(&vm, "daemon")["state"]["running"]["pid"].clone();
        again.is_number() && again != pid
    });
    ok(&vm, &["stop", "daemon"]);
    assert_eq!(status(&vm, "daemon")["state"], "stopped");
    vm.reboot().expect("init answers");
    assert_eq!(status(&vm, "daemon")["state"], "stopped", "what was stopped stays so");
    ok(&vm, &["start", "daemon"]);
    ok(&vm, &["remove", "daemon"]);
    assert!(vm.services().expect("init answers").is_empty());
}

#[test]
fn an_added_service_takes_the_place_of_its_namesake() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    ok(&vm, &["add", "daemon", "--", "sleep", "1000"]);
    ok(&vm, &["add", "daemon", "--", "sleep", "2000"]);
    let sleepers = vm.run(["pgrep", "-a", "-x", "sleep"]).expect("one sleeps");
    assert!(sleepers.lines().count() == 1 && sleepers.ends_with("sleep 2000\n"), "{sleepers}");
    let (problem, code) = init(&vm, &["add", "daemon", "--", "/no/such/program"]);
    assert!(code == Some(1) && problem.contains("/no/such/program"), "{problem}");
    assert_eq!(status(&vm, "daemon")["command"], json!(["sleep", "2000"]), "the old one is still known");
}

#[test]
fn a_service_may_restart_itself() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    let script = "if mkdir /var/lib/once; then cladnet-init restart daemon; fi; echo second; exec sleep 1000";
    ok(&vm, &["add", "daemon", "--", "sh", "-c", script]);
    eventually("it runs for the second time", || {
        vm.service_log("daemon").is_ok_and(|log| log.lines().filter(|line| *line == "second").count() == 1)
            && status(&vm, "daemon")["restarts"] == 0
    });
}

#[test]
fn init_answers_root_only_and_says_what_it_does_not_know() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    for action in ["status", "start", "stop", "restart", "remove"] {
        let (problem, code) = init(&vm, &[action, "ghost"]);
        assert_eq!((problem.as_str(), code), ("cladnet-init: there is no service \"ghost\"\n", Some(3)), "{action}");
    }
    let user = ["setpriv", "--reuid=65534", "--clear-groups", "cladnet-init", "status"];
    assert_eq!(vm.exec(user).expect("it runs").status.code(), Some(5));
    let mode = vm.run(["stat", "-c", "%a %u", "/run/cladnet-init.sock"]).expect("it is there");
    assert_eq!(mode.trim(), "600 0");
    assert!(!std::path::Path::new("/usr/local/sbin/cladnet-init").exists(), "the host has none");
}
