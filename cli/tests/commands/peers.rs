//! Peers, as far as they go without an agent: machines with plain WireGuard.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::harness::{Server, eventually};

const PUBLIC_KEY: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";

#[test]
fn an_exported_peer_has_an_address_and_a_file_for_wg_quick() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let file = server.directory.path().join("laptop.conf");
    let told = server.run(&["peer", "export", "prod", "laptop", "--file", file.to_str().unwrap()]).ok();
    assert!(told.stderr.contains("172.20.0.1"), "{}", told.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("[Interface]\nPrivateKey = ") && text.contains("Address = 172.20.0.1/32"), "{text}");

    let peers = server.json(&["peer", "list", "prod"]);
    assert_eq!((&peers["peers"][0]["hostName"], &peers["peers"][0]["plain"]), (&"laptop".into(), &true.into()));
    let private = text.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).unwrap();
    assert!(!peers.to_string().contains(private), "the private key stays here");
}

#[test]
fn a_second_machine_learns_of_the_first_that_has_a_place() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let place = "203.0.113.7:51820";
    server.run(&["peer", "export", "prod", "gate", "--public-key", PUBLIC_KEY, "--endpoint", place]).ok();
    let text = server.run(&["peer", "export", "prod", "laptop"]).ok().stdout;
    for line in [
        &format!("PublicKey = {PUBLIC_KEY}"),
        "AllowedIPs = 172.20.0.1/32",
        &format!("Endpoint = {place}"),
        "PersistentKeepalive = 25",
        "Address = 172.20.0.2/32",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is missing: {text}");
    }
}

#[test]
fn a_key_that_stays_on_the_machine_is_not_asked_for() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let text = server.run(&["peer", "export", "prod", "laptop", "--public-key", PUBLIC_KEY]).ok().stdout;
    assert!(text.contains("# PrivateKey =") && !text.lines().any(|line| line.starts_with("PrivateKey")), "{text}");
    assert_eq!(server.json(&["peer", "show", "prod", "laptop"])["publicKey"], PUBLIC_KEY);
}

#[test]
fn an_exported_file_is_a_snapshot_that_its_own_command_renews() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let first = server.run(&["peer", "export", "prod", "my laptop"]).ok().stdout;
    server.run(&["peer", "export", "prod", "gate", "--public-key", PUBLIC_KEY]).ok();
    assert!(first.contains("A snapshot") && !first.contains(PUBLIC_KEY), "{first}");
    let command = first.lines().find_map(|line| line.strip_prefix("# cladnet ")).expect("says how to renew it");
    let key = command.strip_prefix("peer export prod 'my laptop' --public-key ").expect("the command");
    let renewed = server.run(&["peer", "export", "prod", "my laptop", "--public-key", key]).ok().stdout;
    assert!(renewed.contains(PUBLIC_KEY) && renewed.contains("Address = 172.20.0.1/32"), "{renewed}");
    assert!(renewed.contains(command), "{renewed}");
    assert_eq!(server.json(&["peer", "list", "prod"])["peers"].as_array().map(Vec::len), Some(2), "no second laptop");
    let place = ["peer", "export", "prod", "my laptop", "--endpoint", "203.0.113.7:1", "--public-key", key];
    server.run(&place).refused(4, &["public_key"]);
}

#[test]
fn a_peer_is_labelled_moved_and_removed_by_its_name() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    server.run(&["peer", "export", "prod", "laptop", "--label", "site=home"]).ok();
    server.run(&["peer", "update", "prod", "laptop", "--label", "role=admin", "--remove-label", "site"]).ok();
    let labels = &server.json(&["peer", "show", "prod", "laptop"])["labels"];
    assert_eq!(labels, &serde_json::json!({"role": "admin"}));
    server.run(&["network", "delete", "prod", "--yes"]).refused(4, &["force"]);
    server.run(&["peer", "remove", "prod", "laptop"]).refused(2, &["--yes"]);
    server.run(&["peer", "remove", "prod", "laptop", "--yes"]).ok();
    assert!(server.run(&["peer", "list", "prod"]).ok().stdout.starts_with("no peers"));
    server.run(&["network", "delete", "prod", "--yes"]).ok();
}

#[test]
fn a_forced_deletion_takes_the_peers_along() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    server.run(&["peer", "export", "prod", "laptop"]).ok();
    let told = server.run(&["network", "delete", "prod", "--force", "--yes"]).ok().stdout;
    assert!(told.contains("1 peer"), "{told}");
}

#[test]
fn a_shrinking_space_that_strands_a_peer_is_refused() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    server.run(&["peer", "export", "prod", "laptop"]).ok();
    server.run(&["peer", "update", "prod", "laptop", "--address", "172.20.0.200"]).ok();
    eventually("the peer to move", || {
        server.json(&["peer", "show", "prod", "laptop"])["ipv4Address"] == "172.20.0.200"
    });
    server.run(&["network", "update", "prod", "--address-space", "172.20.0.0/25"]).refused(2, &["ipv4_address_space"]);
    assert_eq!(server.json(&["network", "show", "prod"])["ipv4AddressSpace"], "172.20.0.0/24");
}

#[test]
fn bad_input_is_refused_and_nothing_is_made() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let taken = server.key_file();
    let export = |arguments: &[&str]| server.run(&[&["peer", "export"], arguments].concat());
    export(&["nowhere", "laptop"]).refused(3, &["nowhere"]);
    export(&["prod", "laptop", "--file", taken.to_str().unwrap()]).refused(2, &["--file", "exists"]);
    export(&["prod", "laptop", "--public-key", "short"]).refused(2, &["public_key"]);
    export(&["prod", "laptop", "--endpoint", "somewhere"]).refused(2, &["endpoint"]);
    export(&["prod", ""]).refused(2, &["name"]);
    server.run(&["peer", "update", "prod", "laptop"]).refused(2, &["nothing to change"]);
    server.run(&["peer", "update", "prod", "laptop", "--label", "a=b"]).refused(3, &["laptop"]);
    server.run(&["peer", "down", "prod", "laptop"]).refused(3, &["laptop"]);
    server.run(&["path", "explain", "prod", "a", "b"]).refused(3, &["a"]);
    server.run(&["host", "show", "laptop"]).refused(3, &["laptop"]);
    assert!(server.run(&["peer", "list", "prod"]).ok().stdout.starts_with("no peers"));

    export(&["prod", "laptop", "--public-key", PUBLIC_KEY]).ok();
    export(&["prod", "other", "--public-key", PUBLIC_KEY]).refused(4, &["public_key"]);
    server
        .run(&["peer", "update", "prod", "laptop", "--address", "10.0.0.1"])
        .refused(2, &["ipv4_address", "172.20.0.0/24"]);
}
