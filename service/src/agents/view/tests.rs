use cladnet_model::Scope;
use cladnet_store::{Change, DecodeError, Listing, Undecodable, Update, key};

use super::*;
use crate::agents::testing::*;

fn listed(changes: Vec<Change<AnyRecord>>, revision: i64) -> Update<AnyRecord> {
    let mut listing = Listing { items: Vec::new(), revision: revision.into(), undecodable: Vec::new() };
    for change in changes {
        match change {
            Change::Put(item) => listing.items.push(item),
            Change::Undecodable(bad) => listing.undecodable.push(bad),
            Change::Deleted(_) => unreachable!("a listing deletes nothing"),
        }
    }
    Update::Listing(listing)
}

/// Network `n` with hosts `a` and `b`, each with an address.
fn two_hosts() -> Vec<Change<AnyRecord>> {
    vec![
        put_cluster("e", 1),
        put_network(network("n"), 2),
        put_host(host("a"), 3),
        put_host(host("b"), 3),
        put_membership(membership("n", "a", 1), 4),
        put_membership(membership("n", "b", 2), 4),
        put_peer(peer("n", "a", 1), 5),
        put_peer(peer("n", "b", 2), 5),
    ]
}

fn peers_of(view: &View, network: &str, host: &str) -> Vec<String> {
    let state = view.network(&network_id(network));
    let peers = state.map(|state| state.peers_for(&host_id(host))).unwrap_or_default();
    peers.into_iter().map(|peer| peer.host_id).collect()
}

#[test]
fn a_peer_is_told_once_all_four_records_are_there() {
    let mut view = View::default();
    view.apply(listed(vec![put_cluster("e", 1)], 1));
    let mut records = two_hosts();
    records.rotate_left(3);
    for (change, revision) in records.into_iter().zip(2..) {
        assert!(peers_of(&view, "n", "a").is_empty() || revision > 7, "too early at {revision}");
        view.apply(batch(revision, vec![change]));
    }
    assert_eq!(peers_of(&view, "n", "a"), ["b"]);
    assert_eq!(peers_of(&view, "n", "b"), ["a"]);
}

#[test]
fn a_removed_host_is_gone_without_the_controller() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    let changes = view.apply(batch(10, vec![Change::Deleted(key::host(&host_id("b")).erased())]));
    assert_eq!(peers_of(&view, "n", "a"), <[&str; 0]>::default());
    assert!(changes.networks.contains(&network_id("n")) && changes.hosts.contains(&host_id("b")));
    let told = view.network(&network_id("n")).unwrap().changes_since(9, &host_id("a")).unwrap();
    assert_eq!(told.removals, ["b"]);
}

#[test]
fn a_change_that_peers_cannot_see_concerns_nobody() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    let mut same = host("b");
    same.facts.machine_id = "other".into();
    assert!(view.apply(batch(10, vec![put_host(same, 10)])).networks.is_empty());
    let mut moved = host("b");
    moved.facts = facts(9999);
    assert!(view.apply(batch(11, vec![put_host(moved, 11)])).networks.contains(&network_id("n")));
}

#[test]
fn a_network_whose_id_begins_another_id_never_shows_its_peers() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    view.apply(batch(10, vec![put_network(network("n-2"), 10), put_membership(membership("n-2", "b", 3), 10)]));
    view.apply(batch(11, vec![put_peer(peer("n-2", "b", 9), 11)]));
    assert_eq!(peers_of(&view, "n", "a"), ["b"]);
    assert_eq!(peers_of(&view, "n-2", "a"), ["b"]);
    assert_eq!(view.networks_of(&host_id("a")).count(), 1);
    assert_eq!(view.networks_of(&host_id("b")).count(), 2);
}

fn unreadable<T>(key: &Key<T>) -> Change<AnyRecord> {
    Change::Undecodable(Undecodable { key: key.path().to_owned(), error: DecodeError::Newer { found: 2 } })
}

#[test]
fn a_record_that_became_unreadable_keeps_its_last_value() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    view.apply(batch(10, vec![unreadable(&key::host(&host_id("b")))]));
    assert_eq!(peers_of(&view, "n", "a"), ["b"]);
    assert!(!view.is_incomplete(&network_id("n")));
}

#[test]
fn a_record_that_was_never_readable_makes_its_network_incomplete_until_it_is() {
    let mut view = View::default();
    let mut records = two_hosts();
    records[3] = unreadable(&key::host(&host_id("b")));
    view.apply(listed(records, 9));
    assert!(view.is_incomplete(&network_id("n")));
    view.apply(batch(10, vec![put_host(host("b"), 10)]));
    assert!(!view.is_incomplete(&network_id("n")));
    assert_eq!(peers_of(&view, "n", "a"), ["b"]);
}

#[test]
fn the_networks_of_a_host_are_known_only_if_each_record_that_names_one_can_be_read() {
    let knows = |view: &View| ["a", "b"].map(|host| view.knows_networks_of(&host_id(host)));
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    assert_eq!(knows(&view), [true, true]);

    let membership_of_b = key::membership(&network_id("other"), &host_id("b"));
    view.apply(batch(10, vec![unreadable(&membership_of_b)]));
    assert_eq!(knows(&view), [true, false]);
    view.apply(batch(11, vec![Change::Deleted(membership_of_b.erased())]));
    assert_eq!(knows(&view), [true, true]);

    let network = key::network(&network_id("later"));
    view.apply(batch(12, vec![put_membership(membership("later", "a", 8), 12), unreadable(&network)]));
    assert_eq!(knows(&view), [false, true]);
    assert!(!view.knows_networks_of(&host_id("nobody")));
}

#[test]
fn a_deleted_and_recreated_network_starts_its_history_anew() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    let gone = [
        key::network(&network_id("n")).erased(),
        key::membership(&network_id("n"), &host_id("a")).erased(),
        key::membership(&network_id("n"), &host_id("b")).erased(),
        key::peer(&network_id("n"), &host_id("a")).erased(),
        key::peer(&network_id("n"), &host_id("b")).erased(),
    ];
    let changes = view.apply(batch(10, gone.into_iter().map(Change::Deleted).collect()));
    assert_eq!(changes.hosts, [host_id("a"), host_id("b")].into());
    assert!(view.networks.is_empty());
    view.apply(batch(11, vec![put_network(network("n"), 11), put_membership(membership("n", "a", 5), 11)]));
    let state = view.network(&network_id("n")).unwrap();
    assert_eq!(state.changes_since(9, &host_id("a")), None, "an agent from before gets a snapshot");
}

#[test]
fn a_path_rule_holds_for_the_pairs_whose_labels_it_names() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    let forbidden = |view: &View, from: &str, to: &str| {
        let state = view.network(&network_id("n")).unwrap();
        let policy = state.pair_policy(&host_id(from), &host_id(to), |_| Some("vm")).unwrap();
        let rules = policy.rules().into_iter().map(ToString::to_string).collect::<Vec<_>>();
        (policy.paths.limits.forbids(Scope::Public), rules)
    };
    let inside = (true, vec!["inside".to_owned()]);
    view.apply(batch(10, vec![put_inside("n", 10)]));
    assert_eq!(forbidden(&view, "a", "b"), (false, vec![]));
    let mut labelled = membership("n", "b", 2);
    labelled.labels.insert("role".to_owned(), "db".to_owned());
    view.apply(batch(11, vec![put_membership(labelled, 11)]));
    assert_eq!((forbidden(&view, "a", "b"), forbidden(&view, "b", "a")), (inside, (false, vec![])));
}

#[test]
fn removals_are_remembered_within_bounds() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    for round in 0..5_000 {
        let id = format!("h-{round}");
        let revision = 10 + 2 * round;
        view.apply(batch(
            revision,
            vec![
                put_host(host(&id), revision),
                put_membership(membership("n", &id, 9), revision),
                put_peer(peer("n", &id, 9), revision),
            ],
        ));
        view.apply(batch(revision + 1, vec![Change::Deleted(key::host(&host_id(&id)).erased())]));
    }
    let state = view.network(&network_id("n")).unwrap();
    assert_eq!(state.changes_since(9, &host_id("a")), None);
    assert_eq!(state.changes_since(10_000, &host_id("a")).unwrap().removals.len(), 5);
    assert_eq!(state.peers_for(&host_id("a")).len(), 1);
}

#[test]
fn another_epoch_and_a_store_that_went_back_reset_the_streams() {
    let mut view = View::default();
    view.apply(listed(two_hosts(), 9));
    assert!(!view.apply(batch(10, vec![put_cluster("e", 10)])).reset);
    assert!(view.apply(batch(11, vec![put_cluster("f", 11)])).reset);
    assert!(view.apply(batch(5, vec![])).reset);
    assert_eq!(view.network(&network_id("n")).unwrap().revision(), 5);
}
