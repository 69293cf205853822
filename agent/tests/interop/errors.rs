//! What cannot be is refused with what to do about it, and nothing is left behind.

use crate::hosts::Pair;
use crate::lab::{Lab, Side};

fn refusal(lab: &Lab, side: Side, file: &str) -> String {
    let output = lab.run(side, env!("CARGO_BIN_EXE_cladnet-agent"), &["static", file]);
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_busy_port_is_named_with_who_holds_it() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let _running = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    let file = pair.write_file(&lab, Side::A, &pair.peer(Side::B));
    let message = refusal(&lab, Side::A, &file);
    assert!(message.contains("UDP port 8055 is in use by cladnet-agent (pid "), "{message}");
}

#[test]
fn a_busy_interface_is_named() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    assert!(lab.run(Side::A, "ip", &["link", "add", "cbnet0", "type", "bridge"]).status.success());
    let file = pair.write_file(&lab, Side::A, &pair.peer(Side::B));
    let message = refusal(&lab, Side::A, &file);
    assert!(message.contains("interface cbnet0 is in use"), "{message}");
}

#[test]
fn a_lack_of_privilege_is_named() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let file = pair.write_file(&lab, Side::A, &pair.peer(Side::B));
    let agent = env!("CARGO_BIN_EXE_cladnet-agent");
    let output = lab.run(Side::A, "setpriv", &["--bounding-set", "-all", "--inh-caps", "-all", agent, "static", &file]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("run as root or with CAP_NET_ADMIN"), "{message}");
}
