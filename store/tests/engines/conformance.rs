//! What the store promises, each promise once, checked on both engines.

use std::time::Duration;

use cladnet_model::{Network, Token};
use cladnet_store::{Change, Key, Revision, Store, StoreError, Update, key};

use crate::support::{batch, eventually, id, listing, network, peer, soon, token, watched};

macro_rules! on_both_engines {
    ($($promise:ident)+) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let fixture = crate::support::EmbeddedFixture::start().await;
                super::$promise(&fixture.store).await;
            })+
        }

        mod etcd {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let fixture = crate::support::EtcdFixture::start().await;
                super::$promise(&fixture.store).await;
            })+
        }
    };
}

on_both_engines! {
    a_record_comes_back_with_its_revisions
    a_missing_record_is_none
    creating_twice_is_a_conflict
    replacing_needs_the_latest_revision
    deleting_needs_the_latest_revision
    a_listing_is_sorted_and_keeps_to_its_prefix
    a_long_listing_is_complete
    a_transaction_happens_at_one_revision_or_not_at_all
    a_conflict_names_the_first_compare_that_failed
    a_change_under_a_prefix_is_noticed_and_its_neighbours_are_not
    a_transaction_without_effect_leaves_the_revision
    a_key_changed_twice_is_refused
    too_many_parts_are_refused
    too_many_bytes_are_refused
    a_watch_gives_every_change_once_in_order
    a_watch_gives_a_transaction_as_one_batch
    a_watch_keeps_to_its_prefix
    a_watch_from_before_the_compaction_is_refused
    a_watch_from_the_compaction_on_is_exact
    compaction_keeps_records_and_ends_stale_watches
    compacting_the_future_is_refused
    a_follower_gets_the_state_and_then_the_changes
    two_followers_agree
    a_lease_takes_its_keys_along
    a_dropped_lease_ends_soon
    a_lease_that_nobody_renews_ends_by_itself
    a_key_written_without_the_lease_outlives_it
    an_ended_lease_admits_no_key
    one_of_two_candidates_leads_and_the_other_follows
    a_fence_holds_only_for_its_term
    concurrent_increments_all_count
    of_concurrent_creators_one_wins
    secrets_come_back_and_are_not_stored_in_clear
}

fn prod() -> Key<Network> {
    key::network(&id("prod"))
}

fn is_conflict<T>(outcome: Result<T, StoreError>, at: &str) -> bool {
    matches!(outcome, Err(StoreError::Conflict { key }) if key == at)
}

async fn a_record_comes_back_with_its_revisions(store: &Store) {
    let created = store.create(&prod(), &network("prod", "one")).await.unwrap();
    let modified = store.replace(&prod(), &network("prod", "two"), created).await.unwrap();
    let found = store.get(&prod()).await.unwrap().expect("it was written");
    assert_eq!((found.created, found.modified), (created, modified));
    assert_eq!(found.value, network("prod", "two"));
    assert!(Revision::ZERO < created && created < modified);
}

async fn a_missing_record_is_none(store: &Store) {
    assert_eq!(store.get(&prod()).await.unwrap(), None);
    let nothing = store.list(&key::networks()).await.unwrap();
    assert!(nothing.items.is_empty() && nothing.revision > Revision::ZERO);
}

async fn creating_twice_is_a_conflict(store: &Store) {
    store.create(&prod(), &network("prod", "one")).await.unwrap();
    assert!(is_conflict(store.create(&prod(), &network("prod", "two")).await, prod().path()));
    assert_eq!(store.get(&prod()).await.unwrap().unwrap().value.name, "one");
}

async fn replacing_needs_the_latest_revision(store: &Store) {
    assert!(is_conflict(store.replace(&prod(), &network("prod", "no"), Revision::from(1)).await, prod().path()));
    let first = store.create(&prod(), &network("prod", "one")).await.unwrap();
    store.replace(&prod(), &network("prod", "two"), first).await.unwrap();
    assert!(is_conflict(store.replace(&prod(), &network("prod", "late"), first).await, prod().path()));
    assert_eq!(store.get(&prod()).await.unwrap().unwrap().value.name, "two");
}

async fn deleting_needs_the_latest_revision(store: &Store) {
    let first = store.create(&prod(), &network("prod", "one")).await.unwrap();
    let second = store.replace(&prod(), &network("prod", "two"), first).await.unwrap();
    assert!(is_conflict(store.delete(&prod(), first).await, prod().path()));
    store.delete(&prod(), second).await.unwrap();
    assert_eq!(store.get(&prod()).await.unwrap(), None);
    let again = store.create(&prod(), &network("prod", "three")).await.unwrap();
    assert_eq!(store.get(&prod()).await.unwrap().unwrap().created, again);
}

async fn a_listing_is_sorted_and_keeps_to_its_prefix(store: &Store) {
    for name in ["prod-2", "prod", "a"] {
        let peer = peer(name);
        store.create(&key::peer(&peer.network, &peer.host), &peer).await.unwrap();
        store.create(&key::network(&id(name)), &network(name, name)).await.unwrap();
    }
    let networks = store.list(&key::networks()).await.unwrap();
    let names: Vec<_> = networks.items.iter().map(|item| item.value.name.as_str()).collect();
    assert_eq!(names, ["a", "prod", "prod-2"]);
    assert_eq!(networks.items.iter().map(|item| item.modified).max(), Some(networks.revision));
    let peers = store.list(&key::peers(&id("prod"))).await.unwrap();
    assert_eq!(peers.items.len(), 1, "peers of prod-2 are not peers of prod");
    assert_eq!(store.count(&key::peers(&id("prod"))).await.unwrap(), 1, "nor are they counted");
}

async fn a_long_listing_is_complete(store: &Store) {
    for chunk in (0..2500).collect::<Vec<u32>>().chunks(100) {
        let mut transaction = store.transaction();
        for number in chunk {
            let name = format!("token-{number:05}");
            transaction = transaction.put(&key::token(&name.parse().unwrap()), &token(&name, *number));
        }
        transaction.commit().await.unwrap();
    }
    let tokens = store.list(&key::tokens()).await.unwrap();
    let uses: Vec<u32> = tokens.items.iter().map(|item| item.value.uses_left).collect();
    assert_eq!(uses, (0..2500).collect::<Vec<_>>());
    assert_eq!(store.count(&key::tokens()).await.unwrap(), 2500);
}

async fn a_transaction_happens_at_one_revision_or_not_at_all(store: &Store) {
    let (a, b) = (key::network(&id("a")), key::network(&id("b")));
    let both = store.transaction().absent(&a).absent(&b).put(&a, &network("a", "1")).put(&b, &network("b", "1"));
    let revision = both.commit().await.unwrap();
    for key in [&a, &b] {
        assert_eq!(store.get(key).await.unwrap().unwrap().modified, revision);
    }
    let half = store.transaction().unchanged(&a, revision).absent(&b).put(&a, &network("a", "2")).delete(&b);
    assert!(is_conflict(half.commit().await, b.path()));
    assert_eq!(store.get(&a).await.unwrap().unwrap().value.name, "1");
    let moved = store.transaction().exists(&a).put(&a, &network("a", "3")).delete(&b).commit().await.unwrap();
    assert_eq!(store.get(&a).await.unwrap().unwrap().modified, moved);
    assert_eq!(store.get(&b).await.unwrap(), None);
}

async fn a_conflict_names_the_first_compare_that_failed(store: &Store) {
    let (a, b, c) = (key::network(&id("a")), key::network(&id("b")), key::network(&id("c")));
    store.create(&a, &network("a", "1")).await.unwrap();
    let outcome = store.transaction().exists(&a).exists(&b).exists(&c).delete(&a).commit().await;
    assert!(is_conflict(outcome, b.path()));
    let outcome = store.transaction().unchanged(&a, Revision::from(77)).exists(&c).delete(&a).commit().await;
    assert!(is_conflict(outcome, a.path()));
}

async fn a_change_under_a_prefix_is_noticed_and_its_neighbours_are_not(store: &Store) {
    let (peers, seen) = (key::peers(&id("prod")), store.list(&key::peers(&id("prod"))).await.unwrap().revision);
    let decided = |after| store.transaction().none_after(&peers, after).put(&prod(), &network("prod", "one")).commit();
    decided(seen).await.expect("an empty prefix has nothing new");
    let (one, neighbour) = (peer("prod"), peer("prod-2"));
    store.put(&key::peer(&neighbour.network, &neighbour.host), &neighbour).await.unwrap();
    decided(seen).await.expect("prod-2 is another network");

    let written = store.put(&key::peer(&one.network, &one.host), &one).await.unwrap();
    assert!(is_conflict(decided(seen).await, peers.path()));
    decided(written).await.expect("nothing is newer than what was seen");
    let again = store.put(&key::peer(&one.network, &one.host), &one).await.unwrap();
    let both = store.transaction().exists(&prod()).none_after(&peers, written).delete(&prod()).commit().await;
    assert!(is_conflict(both, peers.path()));
    store.delete(&key::peer(&one.network, &one.host), again).await.unwrap();
    decided(seen).await.expect("what is deleted is no longer new");
}

async fn a_transaction_without_effect_leaves_the_revision(store: &Store) {
    let before = store.create(&prod(), &network("prod", "one")).await.unwrap();
    let nothing = store.transaction().delete(&key::network(&id("absent"))).commit().await.unwrap();
    assert_eq!(nothing, before);
    assert_eq!(store.transaction().exists(&prod()).commit().await.unwrap(), before);
}

async fn a_key_changed_twice_is_refused(store: &Store) {
    let twice = store.transaction().put(&prod(), &network("prod", "one")).delete(&prod()).commit().await;
    assert!(matches!(twice, Err(StoreError::Refused { reason }) if reason.contains(prod().path())));
}

async fn too_many_parts_are_refused(store: &Store) {
    let crowd = |count: u32| {
        (0..count).fold(store.transaction(), |transaction, number| {
            let name = format!("token-{number}");
            transaction.put(&key::token(&name.parse().expect("an id")), &token(&name, 1))
        })
    };
    crowd(128).commit().await.unwrap();
    assert!(matches!(crowd(129).commit().await, Err(StoreError::Refused { .. })));
}

async fn too_many_bytes_are_refused(store: &Store) {
    let sized = |bytes: usize| Network { description: "x".repeat(bytes), ..network("prod", "big") };
    let revision = store.create(&prod(), &sized(1_390_000)).await.unwrap();
    let outcome = store.replace(&prod(), &sized(1_500_000), revision).await;
    assert!(matches!(outcome, Err(StoreError::Refused { reason }) if reason.contains("bytes")));
}

async fn a_watch_gives_every_change_once_in_order(store: &Store) {
    let start = store.list(&key::networks()).await.unwrap().revision;
    let first = store.create(&prod(), &network("prod", "one")).await.unwrap();
    let mut watch = store.watch(&key::networks(), start).await.unwrap();
    let second = store.replace(&prod(), &network("prod", "two"), first).await.unwrap();
    let third = store.delete(&prod(), second).await.unwrap();
    let fourth = store.create(&prod(), &network("prod", "three")).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let batch = watched(&mut watch).await;
        let [change] = &batch.changes[..] else { panic!("one change each: {batch:?}") };
        seen.push(match change {
            Change::Put(put) => (batch.revision, put.value.name.clone(), put.created, put.modified),
            Change::Deleted(key) => (batch.revision, key.to_string(), Revision::ZERO, Revision::ZERO),
            Change::Undecodable(bad) => panic!("{bad}"),
        });
    }
    let expected = [
        (first, "one".to_owned(), first, first),
        (second, "two".to_owned(), first, second),
        (third, prod().to_string(), Revision::ZERO, Revision::ZERO),
        (fourth, "three".to_owned(), fourth, fourth),
    ];
    assert_eq!(seen, expected);
}

async fn a_watch_gives_a_transaction_as_one_batch(store: &Store) {
    let start = store.create(&key::network(&id("gone")), &network("gone", "x")).await.unwrap();
    let mut watch = store.watch(&key::networks(), start).await.unwrap();
    let revision = store
        .transaction()
        .put(&key::network(&id("b")), &network("b", "1"))
        .delete(&key::network(&id("gone")))
        .put(&key::network(&id("a")), &network("a", "1"))
        .put(&key::token(&"other".parse().unwrap()), &token("other", 1))
        .commit()
        .await
        .unwrap();
    let batch = watched(&mut watch).await;
    assert_eq!((batch.revision, batch.changes.len()), (revision, 3));
}

async fn a_watch_keeps_to_its_prefix(store: &Store) {
    let start = store.list(&key::networks()).await.unwrap().revision;
    let mut watch = store.watch(&key::peers(&id("prod")), start).await.unwrap();
    for name in ["prod-2", "pro", "prod"] {
        let peer = peer(name);
        store.create(&key::peer(&peer.network, &peer.host), &peer).await.unwrap();
    }
    let batch = watched(&mut watch).await;
    assert!(matches!(&batch.changes[..], [Change::Put(put)] if put.value.network == id("prod")));
}

async fn history(store: &Store) -> Vec<Revision> {
    let mut revisions = vec![store.create(&prod(), &network("prod", "0")).await.unwrap()];
    for number in 1..6 {
        let last = revisions[revisions.len() - 1];
        revisions.push(store.replace(&prod(), &network("prod", &number.to_string()), last).await.unwrap());
    }
    revisions
}

async fn a_watch_from_before_the_compaction_is_refused(store: &Store) {
    let revisions = history(store).await;
    store.compact(revisions[3]).await.unwrap();
    for after in [Revision::ZERO, revisions[0], revisions[2]] {
        let refused = match store.watch(&key::networks(), after).await {
            Ok(mut watch) => soon("the refusal", watch.next()).await.map(drop),
            Err(error) => Err(error),
        };
        assert!(matches!(refused, Err(StoreError::Compacted)), "after {after}");
    }
}

async fn a_watch_from_the_compaction_on_is_exact(store: &Store) {
    let revisions = history(store).await;
    let gone = store.delete(&prod(), revisions[5]).await.unwrap();
    store.compact(revisions[3]).await.unwrap();
    let mut watch = store.watch(&key::networks(), revisions[3]).await.unwrap();
    for expected in [revisions[4], revisions[5], gone] {
        assert_eq!(watched(&mut watch).await.revision, expected);
    }
}

async fn compaction_keeps_records_and_ends_stale_watches(store: &Store) {
    let revisions = history(store).await;
    store.create(&key::network(&id("old")), &network("old", "old")).await.unwrap();
    store.compact(revisions[5]).await.unwrap();
    store.compact(revisions[2]).await.unwrap();
    assert_eq!(store.list(&key::networks()).await.unwrap().items.len(), 2);
}

async fn compacting_the_future_is_refused(store: &Store) {
    let now = store.create(&prod(), &network("prod", "one")).await.unwrap();
    let outcome = store.compact(Revision::from(now.get() + 1)).await;
    assert!(matches!(outcome, Err(StoreError::Refused { .. })), "{outcome:?}");
}

async fn a_follower_gets_the_state_and_then_the_changes(store: &Store) {
    let first = store.create(&prod(), &network("prod", "one")).await.unwrap();
    let mut follow = store.follow(&key::networks());
    let state = listing(&mut follow).await;
    assert_eq!((state.revision, state.items.len()), (first, 1));
    let second = store.replace(&prod(), &network("prod", "two"), first).await.unwrap();
    let third = store.delete(&prod(), second).await.unwrap();
    assert_eq!(batch(&mut follow).await.revision, second);
    let deleted = batch(&mut follow).await;
    assert_eq!((deleted.revision, deleted.changes), (third, vec![Change::Deleted(prod())]));
    assert_eq!(*follow.stale_since().borrow(), None);
}

async fn two_followers_agree(store: &Store) {
    let (mut early, end) = (store.follow(&key::networks()), id("end"));
    listing(&mut early).await;
    for number in 0..50 {
        let name = format!("net-{}", number % 7);
        store.put(&key::network(&id(&name)), &network(&name, &number.to_string())).await.unwrap();
    }
    let mut late = store.follow(&key::networks());
    let mut seen_late = listing(&mut late).await.items;
    store.create(&key::network(&end), &network("end", "end")).await.unwrap();
    let mut seen_early: Vec<cladnet_store::Versioned<Network>> = Vec::new();
    for (follow, seen) in [(&mut early, &mut seen_early), (&mut late, &mut seen_late)] {
        while seen.last().is_none_or(|item| item.value.id != end) {
            for change in batch(follow).await.changes {
                let Change::Put(put) = change else { panic!("nothing was deleted") };
                seen.retain(|item| item.key != put.key);
                seen.push(put);
            }
        }
        seen.sort_by(|a, b| a.key.cmp(&b.key));
    }
    assert_eq!(seen_early, seen_late);
}

const TTL: Duration = Duration::from_secs(2);

async fn a_lease_takes_its_keys_along(store: &Store) {
    let lease = store.grant(TTL).await.unwrap();
    let (a, b) = (key::token(&"a".parse().unwrap()), key::token(&"b".parse().unwrap()));
    let leased = store.transaction().put_leased(&b, &token("b", 1), &lease).put_leased(&a, &token("a", 1), &lease);
    let revision = leased.commit().await.unwrap();
    let mut watch = store.watch(&key::tokens(), revision).await.unwrap();
    assert!(lease.is_alive());
    lease.revoke().await.unwrap();
    let end = watched(&mut watch).await;
    assert_eq!(end.changes, [Change::Deleted(a), Change::Deleted(b)]);
}

async fn a_dropped_lease_ends_soon(store: &Store) {
    let lease = store.grant(TTL).await.unwrap();
    let key = key::token(&"a".parse().unwrap());
    store.transaction().put_leased(&key, &token("a", 1), &lease).commit().await.unwrap();
    drop(lease);
    eventually("the key of a dropped lease to go", || async { store.get(&key).await.unwrap().is_none() }).await;
}

async fn a_lease_that_nobody_renews_ends_by_itself(store: &Store) {
    let key = key::token(&"a".parse().unwrap());
    // A process that dies: its tasks stop where they are, nothing is revoked.
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (holder, held) = (store.clone(), key.clone());
    let granted = doomed.spawn(async move {
        let lease = holder.grant(TTL).await.unwrap();
        let leased = holder.transaction().put_leased(&held, &token("a", 1), &lease).commit().await.unwrap();
        tokio::spawn(async move { lease.lost().await });
        leased
    });
    let mut watch = store.watch(&key::tokens(), granted.await.unwrap()).await.unwrap();
    let early = tokio::time::timeout(TTL * 2, watch.next()).await;
    assert!(early.is_err(), "while it is renewed, its key stays: {early:?}");
    doomed.shutdown_background();
    assert_eq!(watched(&mut watch).await.changes, [Change::Deleted(key)]);
}

async fn a_key_written_without_the_lease_outlives_it(store: &Store) {
    let lease = store.grant(TTL).await.unwrap();
    let key = key::token(&"a".parse().unwrap());
    store.transaction().put_leased(&key, &token("a", 1), &lease).commit().await.unwrap();
    store.put(&key, &token("a", 2)).await.unwrap();
    lease.revoke().await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap().value.uses_left, 2);
}

async fn an_ended_lease_admits_no_key(store: &Store) {
    let lease = store.grant(TTL).await.unwrap();
    let key = key::token(&"a".parse().unwrap());
    let late = store.transaction().put_leased(&key, &token("a", 1), &lease);
    lease.revoke().await.unwrap();
    assert!(matches!(late.commit().await, Err(StoreError::LeaseEnded)));
}

async fn one_of_two_candidates_leads_and_the_other_follows(store: &Store) {
    let first = soon("the first leader", store.campaign("test", "one")).await.unwrap();
    let waiting = {
        let store = store.clone();
        tokio::spawn(async move { store.campaign("test", "two").await })
    };
    let other = soon("another election", store.campaign("other", "two")).await.unwrap();
    assert!(first.is_held() && other.is_held() && !waiting.is_finished());
    first.resign().await.unwrap();
    let second = soon("the second leader", waiting).await.unwrap().unwrap();
    assert!(second.is_held());
}

async fn a_fence_holds_only_for_its_term(store: &Store) {
    let first = soon("the first leader", store.campaign("test", "one")).await.unwrap();
    let fence = first.fence().clone();
    let revision = store.transaction().fence(&fence).put(&prod(), &network("prod", "one")).commit().await.unwrap();
    let late = store.transaction().fence(&fence).unchanged(&prod(), revision).delete(&prod());
    first.resign().await.unwrap();
    let second = soon("the second leader", store.campaign("test", "two")).await.unwrap();
    let outcome = late.commit().await;
    assert!(matches!(&outcome, Err(StoreError::NotLeader { election }) if election == "test"), "{outcome:?}");
    assert!(fence.created() < second.fence().created());
    store.transaction().fence(second.fence()).delete(&prod()).commit().await.unwrap();
}

async fn increment(store: &Store, key: &Key<Token>) {
    loop {
        let found = store.get(key).await.unwrap().expect("the counter is there");
        let next = Token { uses_left: found.value.uses_left + 1, ..found.value };
        match store.replace(key, &next, found.modified).await {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn concurrent_increments_all_count(store: &Store) {
    let counter = key::token(&"counter".parse().unwrap());
    store.create(&counter, &token("counter", 0)).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, counter) = (store.clone(), counter.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    increment(&store, &counter).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.get(&counter).await.unwrap().unwrap().value.uses_left, 80);
}

async fn of_concurrent_creators_one_wins(store: &Store) {
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.create(&prod(), &network("prod", &format!("{number}"))).await })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(winners, 1);
}

async fn secrets_come_back_and_are_not_stored_in_clear(store: &Store) {
    let secret = key::secret("ca");
    store.create_sealed(&secret, b"the private key").await.unwrap();
    assert!(is_conflict(store.create_sealed(&secret, b"another").await, secret.path()));
    assert_eq!(store.get_sealed(&secret).await.unwrap().unwrap().as_slice(), b"the private key");
    let stored = format!("{:?}", store.get(&secret).await.unwrap().unwrap());
    assert!(!stored.contains("the private key"));
    let mut everything = store.follow(&key::everything());
    assert!(matches!(everything.next().await, Some(Update::Listing(_))));
}
