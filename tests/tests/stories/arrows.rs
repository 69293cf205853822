//! Which room may know which: the table of `ARCHITECTURE.md`, held against what cargo really builds.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::MetadataCommand;

/// Room, the rooms it may depend on, and why it must not know the others.
const ARROWS: &[(&str, &[&str], &str)] = &[
    ("agent", &["model", "pki", "proto", "stun", "tunnel"], "an agent never touches the store and never plans"),
    (
        "cli",
        &["admin-web", "controller", "model", "pki", "proto", "provisioner", "service", "store"],
        "the command line composes the servers and speaks the API; the data plane is the agent's",
    ),
    ("controller", &["model", "store"], "the controller reads and writes the store; it has no listener and no wire"),
    ("fuzz", &["agent", "model", "pki", "stun", "tunnel"], "what is fuzzed is what reads bytes from outside"),
    ("model", &[], "the domain is pure"),
    ("pki", &["model"], "certificates name hosts by their ids; plumbing knows no other room"),
    ("proto", &["model"], "the wire converts to and from the domain and does nothing else"),
    (
        "provisioner",
        &["model", "pki", "proto", "sandbox", "store"],
        "networks, tokens and cloud facts go through the API",
    ),
    ("sandbox", &[], "the test clouds know nothing of what runs in them"),
    ("service", &["model", "pki", "proto", "store", "stun"], "the service neither plans nor provisions"),
    ("store", &["model"], "the store has no business rules"),
    ("stun", &[], "plumbing knows no room"),
    ("tunnel", &[], "the WireGuard device knows no policy and no wire but its own"),
    ("admin-web", &[], "the page has no rule that the service does not enforce"),
];

/// Rooms that may know every other.
const FREE: &[&str] = &["tests"];

#[test]
fn rooms_depend_only_on_the_rooms_they_may_know() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    let table: BTreeMap<_, _> = ARROWS.iter().map(|(room, may, why)| (*room, (*may, *why))).collect();
    let mut wrong = BTreeSet::new();
    for package in &metadata.packages {
        let room = package.name.strip_prefix("cladnet-").expect("crates are named cladnet-<folder>");
        let folder = package.manifest_path.parent().and_then(|folder| folder.file_name());
        assert_eq!(folder, Some(room), "folder and crate name differ");
        if FREE.contains(&room) {
            continue;
        }
        let Some((may, why)) = table.get(room) else {
            wrong.insert(format!("{room} is a room that the table does not know"));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(other) = dependency.name.strip_prefix("cladnet-") else { continue };
            if !may.contains(&other) {
                wrong.insert(format!("{room} must not depend on {other} ({:?}): {why}", dependency.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn binaries_carry_the_product_name() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs");
    for package in &metadata.packages {
        for target in package.targets.iter().filter(|target| target.is_bin()) {
            assert!(target.name == "cladnet" || target.name.starts_with("cladnet-"), "{}", target.name);
        }
    }
}
