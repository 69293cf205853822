use std::{fs, os::unix::fs::PermissionsExt as _};

use cladnet_model::DesiredState;
use cladnet_tunnel::PrivateKey;

use super::*;

fn state() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = StateDir::open(&dir.path().join("state")).expect("open");
    (dir, state)
}

fn record(network: &str, interface: &str) -> MembershipRecord {
    MembershipRecord {
        network: network.parse().expect("id"),
        private_key: PrivateKey::from_bytes([7; 32]),
        interface: interface.into(),
        wish: DesiredState::Up,
        left: false,
        snapshot: vec![1, 2, 3],
    }
}

fn only(state: &StateDir) -> Result<MembershipRecord, String> {
    let mut found = state.memberships().expect("list");
    match (found.records.pop(), found.errors.pop()) {
        (Some(record), None) => Ok(record),
        (None, Some(error)) => Err(error.to_string()),
        other => panic!("one record or one error, not {other:?}"),
    }
}

#[test]
fn what_was_saved_is_loaded_and_nobody_else_can_read_it() {
    let (_dir, state) = state();
    state.save_membership(&record("prod", "cbnet0")).expect("save");
    let loaded = only(&state).expect("loads");
    assert_eq!((loaded.interface.as_str(), loaded.snapshot.as_slice()), ("cbnet0", [1, 2, 3].as_slice()));
    assert_eq!(loaded.public_key(), record("prod", "cbnet0").public_key());
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(state.path()), 0o700);
    assert_eq!(mode(&state.path().join("networks/prod.json")), 0o600);
}

#[test]
fn a_bad_file_is_replaced_by_the_generation_before_it_or_named() {
    let good = |state: &StateDir| fs::read(state.path().join("networks/prod.json")).expect("read");
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(&str, Damage, &str); 8] = [
        ("empty", |_| Vec::new(), "is corrupt"),
        ("truncated", |bytes| bytes[..bytes.len() / 2].to_vec(), "is corrupt"),
        ("zeroes", |bytes| vec![0; bytes.len()], "is corrupt"),
        ("a flipped bit in the body", flip_last_letter, "checksum"),
        ("not ours", |_| b"{\"hello\": 1}".to_vec(), "not a file of cladnet-agent's"),
        ("another kind", |bytes| replace(bytes, "membership", "identity"), "not a file of cladnet-agent's"),
        ("newer", |bytes| replace(bytes, "\"version\":1", "\"version\":2"), "newer cladnet-agent"),
        ("not text", |_| vec![0xff; 100], "is corrupt"),
    ];
    for (name, damage, complaint) in cases {
        let (_dir, state) = state();
        let file = state.path().join("networks/prod.json");
        state.save_membership(&record("prod", "cbnet0")).expect("save");
        fs::write(&file, damage(good(&state))).expect("damage");
        let error = only(&state).expect_err(name);
        assert!(error.contains(complaint) && error.contains("prod.json"), "{name}: {error}");
        let again = only(&state).expect_err(name);
        assert_eq!(error, again, "{name}: a file without a good generation is left alone");

        state.save_membership(&record("prod", "cbnet1")).expect("save over it");
        state.save_membership(&record("prod", "cbnet2")).expect("save");
        fs::write(&file, damage(good(&state))).expect("damage");
        assert_eq!(only(&state).expect(name).interface, "cbnet1", "{name}");
        assert!(state.path().join("networks/prod.json.bad").exists(), "{name}");
        assert_eq!(only(&state).expect(name).interface, "cbnet1", "{name}: and stays so");
    }
}

#[test]
fn one_bad_file_does_not_hide_the_others() {
    let (_dir, state) = state();
    state.save_membership(&record("a", "cbnet0")).expect("save");
    state.save_membership(&record("b", "cbnet1")).expect("save");
    fs::write(state.path().join("networks/a.json"), "oops").expect("damage");
    let found = state.memberships().expect("list");
    assert_eq!((found.records.len(), found.errors.len()), (1, 1));
}

#[test]
fn leftovers_of_a_crash_are_no_documents() {
    let (_dir, state) = state();
    state.save_membership(&record("prod", "cbnet0")).expect("save");
    for leftover in ["prod.json.new", "prod.json.link", "prod.json.former"] {
        fs::write(state.path().join("networks").join(leftover), "half of someth").expect("write");
    }
    assert_eq!(only(&state).expect("loads").interface, "cbnet0");
    state.save_membership(&record("prod", "cbnet1")).expect("save over the leftovers");
    assert_eq!(only(&state).expect("loads").interface, "cbnet1");
}

#[test]
fn a_membership_file_under_another_name_is_refused() {
    let (_dir, state) = state();
    state.save_membership(&record("prod", "cbnet0")).expect("save");
    let networks = state.path().join("networks");
    fs::rename(networks.join("prod.json"), networks.join("test.json")).expect("rename");
    assert!(only(&state).expect_err("misplaced").contains("belongs to network prod"));
}

#[test]
fn a_second_agent_is_told_the_first_ones_pid() {
    let (_dir, state) = state();
    let held = state.lock().expect("free");
    let error = state.lock().expect_err("held").to_string();
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
    drop(held);
    state.lock().expect("free again");
}

#[test]
fn a_membership_is_forgotten_with_every_copy_of_its_key() {
    let (_dir, state) = state();
    let networks = state.path().join("networks");
    state.save_membership(&record("prod", "cbnet0")).expect("save");
    for suffix in ["former", "bad", "new", "link"] {
        fs::copy(networks.join("prod.json"), networks.join(format!("prod.json.{suffix}"))).expect("copy");
    }
    state.forget_membership(&record("prod", "cbnet0").network).expect("forget");
    assert_eq!(fs::read_dir(networks).expect("list").count(), 0);
}

#[test]
fn forgetting_leaves_nothing_but_the_lock() {
    let (_dir, state) = state();
    let _lock = state.lock().expect("free");
    state.save_membership(&record("prod", "cbnet0")).expect("save");
    state.save_membership(&record("prod", "cbnet1")).expect("save");
    let day = Date::new(2026, 11, 20).expect("a day");
    state.save_usage(&Day { day, waiting: Default::default(), reported: None }).expect("save");
    state.forget_all().expect("forget");
    let left: Vec<_> =
        fs::read_dir(state.path()).expect("list").filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    assert_eq!(left.iter().filter(|name| !["lock", NETWORKS, USAGE].contains(&name.as_str())).count(), 0, "{left:?}");
    for directory in [NETWORKS, USAGE] {
        assert_eq!(fs::read_dir(state.path().join(directory)).expect("list").count(), 0, "{directory}");
    }
}

#[test]
fn usage_that_cannot_be_read_is_lost_rather_than_counted_twice() {
    let (_dir, state) = state();
    let day = Date::new(2026, 11, 20).expect("a day");
    let kept = Day { day, waiting: Default::default(), reported: None };
    state.save_usage(&kept).expect("save");
    state.save_usage(&kept).expect("save");
    assert_eq!(state.usage().expect("list").0, [kept]);
    fs::write(state.path().join("usage/2026-11-20.json"), "{").expect("write");
    let (days, errors) = state.usage().expect("list");
    assert_eq!((days.len(), errors.len()), (0, 1));
    state.forget_usage(day).expect("forget");
    assert!(state.usage().expect("list").1.is_empty());
}

fn replace(bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes).expect("text");
    assert!(text.contains(from));
    text.replacen(from, to, 1).into_bytes()
}

fn flip_last_letter(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.iter().rposition(u8::is_ascii_alphabetic).expect("a letter");
    bytes[at] ^= 1;
    bytes
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever stands in the file, it is read, replaced by the generation before it, or named; nothing panics.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600), place in 0..500usize, whole: bool) {
        let (_dir, state) = state();
        let file = state.path().join("networks/prod.json");
        state.save_membership(&record("prod", "cbnet0")).expect("save");
        state.save_membership(&record("prod", "cbnet1")).expect("save");
        let mut content = fs::read(&file).expect("read");
        if whole {
            content = bytes;
        } else {
            let place = place.min(content.len());
            content.splice(place.., bytes);
        }
        fs::write(&file, content).expect("damage");
        let interface = only(&state).expect("one of both generations").interface;
        proptest::prop_assert!(["cbnet0", "cbnet1"].contains(&interface.as_str()));
    }
}
