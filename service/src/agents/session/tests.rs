use cladnet_model::{
    Host, Membership,
    tariff::{Book, Document, Origin},
};
use cladnet_proto::cladnet::v1::{RemotePeer, service_message::Message};
use cladnet_store::{AnyRecord, Change, Listing, Update, key};
use proptest::prelude::*;

use super::*;
use crate::agents::testing::*;

fn empty_view() -> View {
    let mut view = View::default();
    view.apply(Update::Listing(Listing { items: Vec::new(), revision: 1.into(), undecodable: Vec::new() }));
    view.apply(batch(2, vec![put_cluster("e", 2)]));
    view
}

fn drain(session: &mut Session, view: &View, copy: &mut Copy, host: &HostId) -> usize {
    let mut messages = 0;
    while let Some(message) = session.next(view) {
        copy.apply(host, message).unwrap();
        messages += 1;
        assert!(messages < 100, "it never ends");
    }
    messages
}

/// One step of a random history over three hosts and two networks, one id the other's prefix.
#[derive(Debug, Clone)]
enum Step {
    Network(bool, u8),
    Rules(bool, u8),
    Host(u8, Option<u16>),
    Membership(u8, bool, Option<u8>),
    Peer(u8, bool, Option<u8>),
    /// The agent takes what there is.
    Read,
    /// The agent comes back with what it has.
    Reconnect,
}

const NETWORKS: [&str; 2] = ["n", "n-2"];
const HOSTS: [&str; 3] = ["a", "b", "c"];

fn step() -> impl Strategy<Value = Step> {
    let host = 0..HOSTS.len() as u8;
    prop_oneof![
        1 => (any::<bool>(), 0..3u8).prop_map(|(network, name)| Step::Network(network, name)),
        1 => (any::<bool>(), 0..3u8).prop_map(|(network, label)| Step::Rules(network, label)),
        4 => (host.clone(), proptest::option::weighted(0.8, 0..3u16)).prop_map(|(host, port)| Step::Host(host, port)),
        4 => (host.clone(), any::<bool>(), proptest::option::weighted(0.8, 1..4u8))
            .prop_map(|(host, network, key)| Step::Membership(host, network, key)),
        4 => (host, any::<bool>(), proptest::option::weighted(0.8, 1..4u8))
            .prop_map(|(host, network, address)| Step::Peer(host, network, address)),
        3 => Just(Step::Read),
        1 => Just(Step::Reconnect),
    ]
}

fn change(step: &Step, revision: i64) -> Option<Change<AnyRecord>> {
    let network = |second: bool| NETWORKS[usize::from(second)];
    let host = |index: u8| HOSTS[usize::from(index)];
    Some(match *step {
        Step::Network(second, 0) => Change::Deleted(key::network(&network_id(network(second))).erased()),
        Step::Network(second, name) => {
            let record = cladnet_model::Network {
                name: format!("name {name}"),
                ..crate::agents::testing::network(network(second))
            };
            put_network(record, revision)
        }
        Step::Rules(second, 0) => Change::Deleted(key::rules(&network_id(network(second))).erased()),
        Step::Rules(second, label) => put_rules(network(second), &format!("label-{label}"), revision),
        Step::Host(index, None) => Change::Deleted(key::host(&host_id(host(index))).erased()),
        Step::Host(index, Some(port)) => {
            put_host(Host { facts: facts(port), ..crate::agents::testing::host(host(index)) }, revision)
        }
        Step::Membership(index, second, None) => {
            Change::Deleted(key::membership(&network_id(network(second)), &host_id(host(index))).erased())
        }
        Step::Membership(index, second, Some(key)) => {
            put_membership(membership(network(second), host(index), key), revision)
        }
        Step::Peer(index, second, None) => {
            Change::Deleted(key::peer(&network_id(network(second)), &host_id(host(index))).erased())
        }
        Step::Peer(index, second, Some(address)) => put_peer(peer(network(second), host(index), address), revision),
        Step::Read | Step::Reconnect => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whoever_applies_what_it_is_told_ends_with_what_a_newcomer_gets(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut view, me) = (empty_view(), host_id("a"));
        let mut copy = Copy::default();
        let mut session = Session::new(me.clone(), "e", Vec::new());
        for (step, revision) in steps.iter().zip(3..) {
            match change(step, revision) {
                Some(change) => drop(view.apply(batch(revision, vec![change]))),
                None => {
                    if matches!(step, Step::Reconnect) {
                        session = Session::new(me.clone(), "e", copy.applied(&me));
                    }
                    drain(&mut session, &view, &mut copy, &me);
                }
            }
        }
        drain(&mut session, &view, &mut copy, &me);

        let mut fresh = Copy::default();
        drain(&mut Session::new(me.clone(), "e", Vec::new()), &view, &mut fresh, &me);
        let content = |copy: Copy| copy.networks.into_iter().map(|(id, n)| (id, n.membership, n.peers)).collect::<Vec<_>>();
        prop_assert_eq!(content(copy), content(fresh));
    }
}

fn populated(hosts: &[&str]) -> View {
    let mut view = empty_view();
    let mut changes = vec![put_network(network("n"), 3)];
    for (id, last) in hosts.iter().zip(1..) {
        changes.extend([
            put_host(host(id), 3),
            put_membership(membership("n", id, last), 3),
            put_peer(peer("n", id, last), 3),
        ]);
    }
    view.apply(batch(3, changes));
    view
}

#[test]
fn a_newcomer_gets_a_snapshot_and_then_deltas_that_name_only_what_changed() {
    let mut view = populated(&["a", "b", "c"]);
    let mut session = Session::new(host_id("a"), "e", Vec::new());
    let Some(Message::Snapshot(snapshot)) = session.next(&view) else { panic!("no snapshot") };
    assert_eq!((snapshot.count, snapshot.peers.len()), (2, 2));
    assert_eq!(session.next(&view), None);

    view.apply(batch(4, vec![put_host(Host { facts: facts(1), ..host("b") }, 4)]));
    view.apply(batch(5, vec![Change::Deleted(key::membership(&network_id("n"), &host_id("c")).erased())]));
    let Some(Message::Delta(delta)) = session.next(&view) else { panic!("no delta") };
    assert_eq!((delta.base_revision, delta.revision, delta.count), (3, 5, 1));
    assert_eq!(delta.upserts.iter().map(|peer| peer.host_id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(delta.removals, ["c"]);
    assert_eq!(delta.membership, None);
    assert_eq!(session.next(&view), None);
}

#[test]
fn an_agent_that_has_everything_is_told_nothing() {
    let view = populated(&["a", "b"]);
    let (mut copy, me) = (Copy::default(), host_id("a"));
    drain(&mut Session::new(me.clone(), "e", Vec::new()), &view, &mut copy, &me);
    assert_eq!(Session::new(me.clone(), "e", copy.applied(&me)).next(&view), None);
}

#[test]
fn another_epoch_brings_a_snapshot() {
    let view = populated(&["a", "b"]);
    let (mut copy, me) = (Copy::default(), host_id("a"));
    drain(&mut Session::new(me.clone(), "e", Vec::new()), &view, &mut copy, &me);
    copy.networks.values_mut().for_each(|network| {
        network.epoch = "before the restore".into();
        network.revision = 1_000_000;
    });
    let message = Session::new(me.clone(), "e", copy.applied(&me)).next(&view);
    assert!(matches!(message, Some(Message::Snapshot(_))), "{message:?}");
}

#[test]
fn an_agent_ahead_of_the_replica_waits_for_it() {
    let mut view = populated(&["a", "b"]);
    let (mut copy, me) = (Copy::default(), host_id("a"));
    drain(&mut Session::new(me.clone(), "e", Vec::new()), &view, &mut copy, &me);
    let applied = vec![Applied { revision: 7, digest: vec![1; 32], ..copy.applied(&me).remove(0) }];
    let mut session = Session::new(me, "e", applied);
    assert_eq!((session.next(&view), session.waits_for(&view)), (None, Some(7)));
    view.apply(batch(7, vec![put_network(cladnet_model::Network { generation: 2, ..network("n") }, 7)]));
    assert!(matches!(session.next(&view), Some(Message::Snapshot(snapshot)) if snapshot.revision == 7));
    assert_eq!(session.waits_for(&view), None);
}

#[test]
fn an_agent_with_something_else_at_the_same_revision_gets_a_snapshot_that_does_not_go_back() {
    let view = populated(&["a", "b"]);
    let (mut copy, me) = (Copy::default(), host_id("a"));
    drain(&mut Session::new(me.clone(), "e", Vec::new()), &view, &mut copy, &me);
    copy.networks.get_mut("n").unwrap().peers.clear();
    let mut session = Session::new(me.clone(), "e", copy.applied(&me));
    assert_eq!(drain(&mut session, &view, &mut copy, &me), 1);
    assert_eq!(copy.networks["n"].peers.len(), 1);
}

#[test]
fn a_network_that_ended_is_told_with_its_reason() {
    let mut view = populated(&["a", "b"]);
    let mut session = Session::new(host_id("a"), "e", Vec::new());
    session.next(&view);
    view.apply(batch(4, vec![Change::Deleted(key::membership(&network_id("n"), &host_id("a")).erased())]));
    let Some(Message::Ended(ended)) = session.next(&view) else { panic!("not ended") };
    assert_eq!((ended.network_id.as_str(), ended.reason.as_str()), ("n", "the host was removed from the network"));
    assert_eq!(ended.public_key, [1; 32]);
    assert_eq!(session.next(&view), None);
}

#[test]
fn an_end_names_the_membership_that_the_agent_said_it_has() {
    let mut view = populated(&["a", "b"]);
    let (mut copy, me) = (Copy::default(), host_id("a"));
    drain(&mut Session::new(me.clone(), "e", Vec::new()), &view, &mut copy, &me);
    let applied = vec![Applied { public_key: vec![9; 32], ..copy.applied(&me).remove(0) }];
    let mut session = Session::new(me.clone(), "e", applied);
    view.apply(batch(4, vec![Change::Deleted(key::membership(&network_id("n"), &me).erased())]));
    let Some(Message::Ended(ended)) = session.next(&view) else { panic!("not ended") };
    assert_eq!(ended.public_key, [9; 32]);
}

#[test]
fn a_membership_that_was_made_again_unseen_ends_under_its_new_key() {
    let mut view = populated(&["a", "b"]);
    let me = host_id("a");
    let mut session = Session::new(me.clone(), "e", Vec::new());
    session.next(&view);
    view.apply(batch(4, vec![put_membership(membership("n", "a", 7), 4)]));
    assert_eq!(session.next(&view), None, "its own key is nothing that an agent is told");
    view.apply(batch(5, vec![Change::Deleted(key::membership(&network_id("n"), &me).erased())]));
    let Some(Message::Ended(ended)) = session.next(&view) else { panic!("not ended") };
    assert_eq!(ended.public_key, [7; 32]);
}

#[test]
fn a_change_of_rules_is_one_delta_and_another_change_does_not_repeat_them() {
    let mut view = populated(&["a", "b"]);
    let mut session = Session::new(host_id("a"), "e", Vec::new());
    let Some(Message::Snapshot(snapshot)) = session.next(&view) else { panic!("no snapshot") };
    assert_eq!(snapshot.membership.unwrap().rules, None);

    view.apply(batch(4, vec![put_rules("n", "role", 4)]));
    let Some(Message::Delta(delta)) = session.next(&view) else { panic!("no delta") };
    let rules = delta.membership.unwrap().rules.unwrap();
    assert_eq!((rules.default_access.as_str(), rules.rules[0].from.as_deref()), ("deny", Some("role")));
    assert!(delta.upserts.is_empty());

    let labelled = Membership { labels: [("role".to_owned(), String::new())].into(), ..membership("n", "b", 2) };
    view.apply(batch(5, vec![put_membership(labelled, 5)]));
    let Some(Message::Delta(delta)) = session.next(&view) else { panic!("no delta") };
    assert_eq!((delta.membership, delta.upserts.len()), (None, 1));

    view.apply(batch(6, vec![Change::Deleted(key::rules(&network_id("n")).erased())]));
    let Some(Message::Delta(delta)) = session.next(&view) else { panic!("no delta") };
    assert_eq!(delta.membership.unwrap().rules, None);
    assert_eq!(session.next(&view), None);
}

#[test]
fn what_is_behind_a_peer_follows_its_label() {
    let mut view = populated(&["a", "b", "c"]);
    let labelled = |host: &str, key: u8| Membership {
        labels: [("role".to_owned(), "gateway".to_owned())].into(),
        ..membership("n", host, key)
    };
    view.apply(batch(4, vec![put_membership(labelled("c", 3), 4), put_advertised("n", "10.1.0.0/16", 4)]));
    let mut session = Session::new(host_id("a"), "e", Vec::new());
    let Some(Message::Snapshot(snapshot)) = session.next(&view) else { panic!("no snapshot") };
    let behind = |peers: &[RemotePeer]| -> Vec<(String, usize)> {
        peers.iter().map(|peer| (peer.host_id.clone(), peer.advertised.len())).collect()
    };
    assert_eq!(behind(&snapshot.peers), [("b".to_owned(), 0), ("c".to_owned(), 1)]);
    assert_eq!(snapshot.peers[1].advertised[0].prefix, "10.1.0.0/16");

    // Of two that a rule selects the first one has it, if that is we ourselves too.
    view.apply(batch(5, vec![put_membership(labelled("b", 2), 5)]));
    let Some(Message::Delta(mut delta)) = session.next(&view) else { panic!("no delta") };
    delta.upserts.sort_by(|one, other| one.host_id.cmp(&other.host_id));
    assert_eq!(behind(&delta.upserts), [("b".to_owned(), 1), ("c".to_owned(), 0)]);
    view.apply(batch(6, vec![put_membership(labelled("a", 1), 6)]));
    let Some(Message::Delta(delta)) = session.next(&view) else { panic!("no delta") };
    assert_eq!(behind(&delta.upserts), [("b".to_owned(), 0)]);
    assert_eq!(delta.membership.unwrap().advertised.len(), 1);
    view.apply(batch(7, vec![Change::Deleted(key::rules(&network_id("n")).erased())]));
    let Some(Message::Delta(delta)) = session.next(&view) else { panic!("no delta") };
    assert!(delta.membership.unwrap().advertised.is_empty());
}

#[test]
fn nobody_is_told_of_a_network_whose_rules_cannot_be_read() {
    let mut view = populated(&["a", "b"]);
    let bad = cladnet_store::Undecodable {
        key: key::rules(&network_id("n")).path().to_owned(),
        error: cladnet_store::DecodeError::Newer { found: 2 },
    };
    view.apply(batch(4, vec![Change::Undecodable(bad)]));
    assert_eq!(Session::new(host_id("a"), "e", Vec::new()).next(&view), None, "everything would be allowed");
    view.apply(batch(5, vec![put_rules("n", "role", 5)]));
    assert!(Session::new(host_id("a"), "e", Vec::new()).next(&view).is_some());
}

#[test]
fn a_view_with_holes_takes_nothing_from_an_agent() {
    let view = populated(&["a", "b"]);
    let (mut copy, me) = (Copy::default(), host_id("a"));
    drain(&mut Session::new(me.clone(), "e", Vec::new()), &view, &mut copy, &me);

    let mut holes = empty_view();
    let bad = cladnet_store::Undecodable {
        key: key::host(&host_id("b")).path().to_owned(),
        error: cladnet_store::DecodeError::Newer { found: 2 },
    };
    let mut changes = vec![put_network(network("n"), 9), put_host(host("a"), 9), Change::Undecodable(bad)];
    for (id, last) in [("a", 1), ("b", 2)] {
        changes.extend([put_membership(membership("n", id, last), 9), put_peer(peer("n", id, last), 9)]);
    }
    holes.apply(batch(9, changes));
    assert_eq!(Session::new(me.clone(), "e", copy.applied(&me)).next(&holes), None);
    assert!(Session::new(me, "e", Vec::new()).next(&holes).is_some(), "who has nothing gets what there is");
}

fn surcharged(name: &str) -> Document {
    let text = format!("[[surcharges]]\nname = {name:?}\non = {{ vpc = 'aws' }}\nsends = 0.01");
    Document::parse(&text).expect("parses").0
}

#[test]
fn other_prices_are_told_first_and_once() {
    let mut view = populated(&["a", "b"]);
    let shipped = Book::shipped().version().to_owned();
    let with_book = |version: &str| Session::new(host_id("a"), "e", Vec::new()).with_tariff_book(version.to_owned());
    assert!(matches!(with_book(&shipped).next(&view), Some(Message::Snapshot(_))), "it has these prices");

    let mut session = with_book("of another release");
    let Some(Message::TariffBook(book)) = session.next(&view) else { panic!("no book") };
    assert_eq!(book.version, shipped);
    assert!(matches!(session.next(&view), Some(Message::Snapshot(_))));
    assert_eq!(session.next(&view), None);

    let changes = view.apply(batch(4, vec![put_tariff(Origin::Operator, surcharged("NAT gateway"), 4)]));
    assert!(changes.tariffs);
    let Some(Message::TariffBook(book)) = session.next(&view) else { panic!("no book") };
    assert_ne!(book.version, shipped);
    assert_eq!(convert::book(book.clone()).expect("arrives").version(), book.version);
    assert_eq!(session.next(&view), None);

    view.apply(batch(5, vec![Change::Deleted(key::tariff(Origin::Operator).erased())]));
    assert!(matches!(session.next(&view), Some(Message::TariffBook(book)) if book.version == shipped));
}

#[test]
fn an_agent_that_knows_no_prices_is_told_none() {
    let mut view = populated(&["a", "b"]);
    view.apply(batch(4, vec![put_tariff(Origin::Operator, surcharged("NAT gateway"), 4)]));
    let mut session = Session::new(host_id("a"), "e", Vec::new());
    assert!(matches!(session.next(&view), Some(Message::Snapshot(_))));
    assert_eq!(session.next(&view), None);
}

#[test]
fn prices_that_cannot_be_read_change_nothing_for_an_agent() {
    let mut view = populated(&["a", "b"]);
    let bad = cladnet_store::Undecodable {
        key: key::tariff(Origin::Operator).path().to_owned(),
        error: cladnet_store::DecodeError::Newer { found: 2 },
    };
    view.apply(batch(4, vec![Change::Undecodable(bad.clone())]));
    let mut session = Session::new(host_id("a"), "e", Vec::new()).with_tariff_book("its own".to_owned());
    assert!(matches!(session.next(&view), Some(Message::Snapshot(_))));
    assert_eq!(session.next(&view), None);

    view.apply(batch(5, vec![put_tariff(Origin::Operator, surcharged("VPN"), 5)]));
    let Some(Message::TariffBook(readable)) = session.next(&view) else { panic!("no book") };
    view.apply(batch(6, vec![Change::Undecodable(bad)]));
    assert_eq!(session.next(&view), None, "the last readable ones stay");
    assert_eq!(view.tariffs().expect("known").wire().version, readable.version);
}
