//! Join tokens.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::harness::Server;

#[test]
fn a_token_is_shown_once_listed_and_revoked() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let made = server.run(&["token", "create", "prod", "--uses", "2", "--ttl", "10m", "--label", "role=db"]).ok();
    let secret = made.stdout.trim();
    assert!(secret.starts_with("cladnet1_") && !secret.contains(char::is_whitespace), "{secret}");
    assert!(!made.stderr.contains(secret));

    let listed = server.json(&["token", "list"]);
    let token = &listed["tokens"][0];
    assert_eq!(
        (&token["state"], &token["usesLeft"], &token["labels"]["role"]),
        (&"usable".into(), &2.into(), &"db".into())
    );
    let id = token["tokenId"].as_str().unwrap();
    assert!(made.stderr.contains(id), "{}", made.stderr);
    assert!(!listed.to_string().contains(secret));

    server.run(&["token", "revoke", id]).ok();
    assert_eq!(server.json(&["token", "list", "prod"])["tokens"][0]["state"], "revoked");
}

#[test]
fn a_token_can_go_to_a_file_of_its_owner() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    let file = server.directory.path().join("token");
    assert_eq!(server.run(&["token", "create", "prod", "--file", file.to_str().unwrap()]).ok().stdout, "");
    assert!(fs::read_to_string(&file).unwrap().starts_with("cladnet1_"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn bad_input_is_refused_with_what_would_be_right() {
    let server = Server::start();
    server.network("prod", "172.20.0.0/24");
    server.run(&["token", "create", "nowhere"]).refused(3, &["nowhere"]);
    server.run(&["token", "create", "prod", "--uses", "0"]).refused(2, &["--uses"]);
    server.run(&["token", "create", "prod", "--ttl", "31d"]).refused(2, &["ttl", "30"]);
    server.run(&["token", "create", "prod", "--label", "db"]).refused(2, &["--label", "KEY=VALUE"]);
    server.run(&["token", "revoke", "token-nobody"]).refused(3, &["token-nobody"]);
    assert_eq!(server.run(&["token", "list"]).ok().stdout, "no tokens\n");
}
