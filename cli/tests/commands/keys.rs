//! API keys and what they may do.

use std::fs;

use crate::harness::Server;

#[test]
fn a_key_is_made_used_and_revoked() {
    let server = Server::start();
    let viewer = server.key_of("viewer");
    let info = server.run_with_key(&viewer, &["info", "--output", "json"]).ok();
    let info: serde_json::Value = serde_json::from_str(&info.stdout).unwrap();
    assert_eq!(info["role"], "viewer");
    let id = info["keyId"].as_str().unwrap();
    assert!(server.run(&["key", "list"]).ok().stdout.contains(id));
    server.run(&["key", "revoke", id]).ok();
    server.run_with_key(&viewer, &["info"]).refused(5, &[]);
}

#[test]
fn a_key_does_what_its_role_may_and_no_more() {
    let server = Server::start();
    let (viewer, operator) = (server.key_of("viewer"), server.key_of("operator"));
    server.run_with_key(&viewer, &["network", "list"]).ok();
    server.run_with_key(&viewer, &["network", "create", "prod"]).refused(5, &[]);
    server.run_with_key(&operator, &["network", "create", "prod", "--address-space", "172.20.0.0/24"]).ok();
    server.run_with_key(&operator, &["key", "list"]).refused(5, &[]);
}

#[test]
fn a_key_that_nobody_made_is_denied() {
    let server = Server::start();
    let forged = server.directory.path().join("forged.key");
    let mut altered = fs::read_to_string(server.key_file()).unwrap();
    let last = if altered.trim_end().ends_with('a') { "b" } else { "a" };
    altered.truncate(altered.trim_end().len() - 1);
    altered.push_str(last);
    for text in ["cladnet_key_abc", "x", &altered] {
        fs::write(&forged, text).unwrap();
        server.run_with_key(&forged, &["info"]).refused(5, &[]);
    }
}

#[test]
fn bad_input_is_refused_with_what_would_be_right() {
    let server = Server::start();
    server.run(&["key", "create", "--role", "root"]).refused(2, &["role", "viewer"]);
    server.run(&["key", "create"]).refused(2, &["--role"]);
    server.run(&["key", "create", "--role", "viewer", "--ttl", "soon"]).refused(2, &["--ttl", "10m"]);
    server.run(&["key", "revoke", "key-nobody"]).refused(3, &["key-nobody"]);
    let taken = server.key_file();
    let file = taken.to_str().unwrap();
    server.run(&["key", "create", "--role", "viewer", "--file", file]).refused(2, &[file, "exists"]);
    assert_eq!(server.json(&["key", "list"])["keys"].as_array().unwrap().len(), 1);
}
