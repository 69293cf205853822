//! Memberships and their addresses, on both engines.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cladnet_model::{Allocation, Hold, HostId, NetworkId, Peer, QUARANTINE};
use cladnet_store::{AnyKey, AnyRecord, Change, EtcdOptions, Revision, Store, Update, key};

use crate::{
    etcd::Cluster,
    support::{
        Running, address, allocations, create_network, embedded, eventually, host_id, join, join_asking_for, leave,
        network, network_id, peer, peers, soon,
    },
};

macro_rules! on_both_engines {
    ($($story:ident)+) => {
        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                let (store, _directory) = crate::support::embedded().await;
                super::$story(&store).await;
            })+
        }

        mod on_etcd {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                let cluster = crate::etcd::Cluster::start(1);
                super::$story(&cluster.connect().await).await;
            })+
        }
    };
}

on_both_engines! {
    members_get_the_lowest_free_addresses
    a_member_that_leaves_and_comes_back_keeps_its_address
    a_removed_host_loses_its_peers
    nothing_stays_of_a_removed_network
    a_full_network_says_so_and_growing_it_helps
    a_wished_address_is_given_or_the_reason_told
    an_address_is_free_again_when_its_quarantine_ends
    a_restart_changes_nothing
    a_second_controller_takes_over_at_once_when_the_first_stops
    no_two_hosts_ever_share_an_address
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

async fn members_get_the_lowest_free_addresses(store: &Store) {
    let controller = Running::start(store, "one");
    let (prod, prefixed) =
        (create_network(store, "prod", "10.0.0.0/24").await, create_network(store, "prod-2", "10.0.1.0/24").await);
    for number in 0..3 {
        join(store, &prod, number).await;
        assert_eq!(address(store, &prod, number).await, Ipv4Addr::new(10, 0, 0, number as u8 + 1));
    }
    join(store, &prefixed, 0).await;
    assert_eq!(address(store, &prefixed, 0).await, ip("10.0.1.1"));
    assert_eq!(peers(store, &prod).await.len(), 3);
    controller.stop().await;
}

async fn a_member_that_leaves_and_comes_back_keeps_its_address(store: &Store) {
    let controller = Running::start(store, "one");
    let prod = create_network(store, "prod", "10.0.0.0/24").await;
    join(store, &prod, 0).await;
    let first = address(store, &prod, 0).await;
    leave(store, &prod, 0).await;
    eventually("the peer to go", async || peer(store, &prod, 0).await.is_none()).await;
    let held = allocations(store, &prod).await;
    assert!(matches!(&held[..], [Allocation { hold: Hold::Quarantined { .. }, .. }]), "{held:?}");
    join(store, &prod, 1).await;
    assert_eq!(address(store, &prod, 1).await, ip("10.0.0.2"), "an address in quarantine is not given to another host");
    join(store, &prod, 0).await;
    assert_eq!(address(store, &prod, 0).await, first);
    controller.stop().await;
}

async fn a_removed_host_loses_its_peers(store: &Store) {
    let controller = Running::start(store, "one");
    let prod = create_network(store, "prod", "10.0.0.0/24").await;
    join(store, &prod, 0).await;
    address(store, &prod, 0).await;
    // The host goes first, its membership stays a moment longer.
    store.transaction().delete(&key::host(&host_id(0))).commit().await.unwrap();
    eventually("the peer to go", async || peer(store, &prod, 0).await.is_none()).await;
    leave(store, &prod, 0).await;
    controller.stop().await;
}

async fn nothing_stays_of_a_removed_network(store: &Store) {
    let controller = Running::start(store, "one");
    let (prod, other) =
        (create_network(store, "prod", "10.0.0.0/24").await, create_network(store, "prod-2", "10.0.1.0/24").await);
    for number in 0..3 {
        join(store, &prod, number).await;
        join(store, &other, number).await;
        address(store, &prod, number).await;
        address(store, &other, number).await;
    }
    leave(store, &prod, 0).await;
    store.transaction().delete(&key::network(&prod)).commit().await.unwrap();
    eventually("peers and allocations to go", async || {
        peers(store, &prod).await.is_empty() && allocations(store, &prod).await.is_empty()
    })
    .await;
    assert_eq!((peers(store, &other).await.len(), allocations(store, &other).await.len()), (3, 3));
    controller.stop().await;
}

async fn a_full_network_says_so_and_growing_it_helps(store: &Store) {
    let controller = Running::start(store, "one");
    let prod = create_network(store, "prod", "10.0.0.0/30").await;
    for number in 0..2 {
        join(store, &prod, number).await;
        address(store, &prod, number).await;
    }
    join(store, &prod, 2).await;
    eventually("the problem to be told", async || {
        peer(store, &prod, 2).await.is_some_and(|peer| peer.problem.contains("is full"))
    })
    .await;
    store.put(&key::network(&prod), &network("prod", "10.0.0.0/29")).await.unwrap();
    assert_eq!(address(store, &prod, 2).await, ip("10.0.0.3"));
    assert_eq!(peer(store, &prod, 2).await.unwrap().problem, "");
    assert_eq!(address(store, &prod, 0).await, ip("10.0.0.1"), "nobody moves when the network grows");
    controller.stop().await;
}

async fn a_wished_address_is_given_or_the_reason_told(store: &Store) {
    let controller = Running::start(store, "one");
    let prod = create_network(store, "prod", "10.0.0.0/24").await;
    join_asking_for(store, &prod, 0, Some(ip("10.0.0.77"))).await;
    assert_eq!(address(store, &prod, 0).await, ip("10.0.0.77"));
    for (number, wish) in [(1, "10.0.0.77"), (2, "10.9.0.1"), (3, "10.0.0.255")] {
        join_asking_for(store, &prod, number, Some(ip(wish))).await;
        eventually("the reason to be told", async || {
            peer(store, &prod, number).await.is_some_and(|peer| peer.problem.contains(wish))
        })
        .await;
    }
    controller.stop().await;
}

async fn an_address_is_free_again_when_its_quarantine_ends(store: &Store) {
    let prod = create_network(store, "prod", "10.0.0.0/24").await;
    // As if the hosts had left then: one long ago, one so that its quarantine ends in two seconds.
    let now = jiff::Timestamp::now();
    let nearly = QUARANTINE - Duration::from_secs(2);
    for (number, since) in [(1, jiff::Timestamp::UNIX_EPOCH), (2, now - nearly), (3, now)] {
        let address = Ipv4Addr::new(10, 0, 0, number);
        let hold = Hold::Quarantined { since };
        let held = Allocation { network: prod.clone(), address, host: host_id(900 + usize::from(number)), hold };
        store.create(&key::allocation(&prod, address), &held).await.unwrap();
    }
    let controller = Running::start(store, "one");
    join(store, &prod, 0).await;
    assert_eq!(address(store, &prod, 0).await, ip("10.0.0.1"), "its quarantine was over");
    let left = async || store.get(&key::allocation(&prod, ip("10.0.0.2"))).await.unwrap();
    assert!(left().await.is_some());
    eventually("the second quarantine to end by itself", async || left().await.is_none()).await;
    assert!(store.get(&key::allocation(&prod, ip("10.0.0.3"))).await.unwrap().is_some());
    controller.stop().await;
}

async fn a_restart_changes_nothing(store: &Store) {
    let controller = Running::start(store, "one");
    let prod = create_network(store, "prod", "10.0.0.0/24").await;
    for number in 0..20 {
        join(store, &prod, number).await;
    }
    leave(store, &prod, 3).await;
    eventually("all to be settled", async || {
        let held = allocations(store, &prod).await.into_iter().filter(|held| held.hold == Hold::Held).count();
        held == 19 && peers(store, &prod).await.len() == 19 && peer(store, &prod, 3).await.is_none()
    })
    .await;
    controller.stop().await;
    let before = (
        store.list(&key::peers(&prod)).await.unwrap().items,
        store.list(&key::allocations(&prod)).await.unwrap().items,
    );
    let again = Running::start(store, "two");
    join(store, &prod, 50).await;
    address(store, &prod, 50).await;
    again.stop().await;
    let mut after = (
        store.list(&key::peers(&prod)).await.unwrap().items,
        store.list(&key::allocations(&prod)).await.unwrap().items,
    );
    after.0.retain(|peer| peer.value.host != host_id(50));
    after.1.retain(|held| held.value.host != host_id(50));
    assert_eq!(before, after);
}

async fn a_second_controller_takes_over_at_once_when_the_first_stops(store: &Store) {
    let first = Running::start(store, "one");
    let prod = create_network(store, "prod", "10.0.0.0/24").await;
    join(store, &prod, 0).await;
    address(store, &prod, 0).await;
    let second = Running::start(store, "two");
    first.stop().await;
    let began = Instant::now();
    join(store, &prod, 1).await;
    address(store, &prod, 1).await;
    assert!(began.elapsed() < Duration::from_secs(3), "a clean stop frees the office: {:?}", began.elapsed());
    second.stop().await;
}

/// Watches every change of the store for two peers with one address, or a peer without its allocation.
#[derive(Default)]
struct Auditor {
    peers: BTreeMap<(NetworkId, HostId), Peer>,
    allocations: BTreeMap<(NetworkId, Ipv4Addr), Allocation>,
    given: usize,
}

impl Auditor {
    fn apply(&mut self, update: Update<AnyRecord>) {
        let changes = match update {
            Update::Listing(listing) => listing.items.into_iter().map(Change::Put).collect(),
            Update::Batch(batch) => batch.changes,
        };
        for change in changes {
            match change {
                Change::Put(item) => match (item.key.parse(), item.value) {
                    (AnyKey::Peer(network, host), AnyRecord::Peer(peer)) => {
                        self.given += 1;
                        self.peers.insert((network, host), peer);
                    }
                    (AnyKey::Allocation(network, address), AnyRecord::Allocation(held)) => {
                        self.allocations.insert((network, address), held);
                    }
                    _ => {}
                },
                Change::Deleted(key) => match key.parse() {
                    AnyKey::Peer(network, host) => drop(self.peers.remove(&(network, host))),
                    AnyKey::Allocation(network, address) => drop(self.allocations.remove(&(network, address))),
                    _ => {}
                },
                Change::Undecodable(bad) => panic!("{bad}"),
            }
        }
        self.audit();
    }

    fn audit(&self) {
        let mut owners = BTreeSet::new();
        for ((network, host), peer) in &self.peers {
            let Some(address) = peer.address else { continue };
            assert!(owners.insert((network, address)), "{address} of {network} has two owners, one is {host}");
            let held = self.allocations.get(&(network.clone(), address));
            let owner = held.map(|held| &held.host);
            assert_eq!(owner, Some(host), "{host} uses {address} of {network}, which belongs to {owner:?}");
        }
    }
}

async fn no_two_hosts_ever_share_an_address(store: &Store) {
    let controllers = [Running::start(store, "one"), Running::start(store, "two")];
    let networks =
        [create_network(store, "prod", "10.0.0.0/27").await, create_network(store, "prod-2", "10.0.1.0/24").await];
    let auditing = tokio::spawn({
        let mut follow = store.follow(&key::everything());
        async move {
            let mut auditor = Auditor::default();
            while let Some(update) = follow.next().await {
                auditor.apply(update);
                if auditor.peers.contains_key(&(network_id("prod-2"), host_id(9999))) {
                    return auditor;
                }
            }
            panic!("the store was closed")
        }
    });
    let tasks: Vec<_> = (0..12)
        .map(|task| {
            let (store, networks) = (store.clone(), networks.clone());
            tokio::spawn(async move {
                for step in 0..24 {
                    let (number, network) = (task * 4 + step % 4, &networks[(task + step) % 2]);
                    match rand::random_bool(0.6) {
                        true => join(&store, network, number).await,
                        false => leave(&store, network, number).await,
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    join(store, &networks[1], 9999).await;
    let auditor = soon("the last peer", auditing).await.expect("no two hosts share an address");
    assert!(auditor.given > 20, "only {} peers were ever written", auditor.given);
    let [one, two] = controllers;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_within_5_5_seconds() {
    let cluster = Cluster::start(1);
    let store = cluster.connect().await;
    // A process of its own, as far as the store can tell: its runtime stops, its lease stays.
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = cluster.options();
    doomed.spawn(async move {
        let store = Store::connect_etcd(options).await.expect("a connection");
        cladnet_controller::Controller::run(store, "doomed", Default::default()).await;
    });
    let prod = create_network(&store, "prod", "10.0.0.0/24").await;
    join(&store, &prod, 0).await;
    address(&store, &prod, 0).await;
    let heir = Running::start(&store, "heir");
    doomed.shutdown_background();
    let killed = Instant::now();
    join(&store, &prod, 1).await;
    address(&store, &prod, 1).await;
    assert!(killed.elapsed() < Duration::from_millis(5500), "took {:?}", killed.elapsed());
    assert!(killed.elapsed() > Duration::from_millis(500), "the leader was not killed: its office was free at once");
    heir.stop().await;
}

/// Set for a child of this binary: the etcd of the controller that it is to be.
const CHILD: &str = "CLADNET_TEST_CONTROLLER";

/// Not a test of its own: a controller in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn leads_until_killed() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let options = EtcdOptions { endpoints: vec![url], ..EtcdOptions::default() };
    let store = Store::connect_etcd(options).await.unwrap();
    cladnet_controller::Controller::run(store, "frozen", Default::default()).await;
}

fn signal(process: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// The leader is frozen for longer than its lease and wakes up in the middle of what it was doing.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_wakes_up_after_its_term_does_no_harm() {
    let cluster = Cluster::start(1);
    let store = cluster.connect().await;
    let mut leader = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "stories::leads_until_killed"])
        .env(CHILD, &cluster.endpoints()[0])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let prod = create_network(&store, "prod", "10.0.0.0/24").await;
    join(&store, &prod, 0).await;
    address(&store, &prod, 0).await;
    let heir = Running::start(&store, "heir");
    let mut auditor = Auditor::default();
    let mut follow = store.follow(&key::everything());

    // Frozen with its hands full: the joins before the freeze are its, the ones after are the heir's.
    for number in 1..40 {
        join(&store, &prod, number).await;
        if number == 20 {
            signal(&leader, "-STOP");
        }
    }
    address(&store, &prod, 39).await;
    signal(&leader, "-CONT");
    for number in 40..60 {
        join(&store, &prod, number).await;
        leave(&store, &prod, number - 40).await;
    }
    address(&store, &prod, 59).await;
    eventually("all to be settled", async || peers(&store, &prod).await.len() == 40).await;
    let last = store.list(&key::networks()).await.unwrap().revision;
    let mut told = Revision::ZERO;
    while told < last {
        let update = soon("the whole history", follow.next()).await.expect("the store is open");
        told = match &update {
            Update::Listing(listing) => listing.revision,
            Update::Batch(batch) => batch.revision,
        };
        auditor.apply(update);
    }
    assert!(leader.try_wait().unwrap().is_none(), "the old leader goes on as a candidate");
    leader.kill().unwrap();
    leader.wait().unwrap();
    heir.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_go_on_when_etcd_was_killed_and_is_back() {
    let mut cluster = Cluster::start(1);
    let store = cluster.connect().await;
    let controllers = [Running::start(&store, "one"), Running::start(&store, "two")];
    let prod = create_network(&store, "prod", "10.0.0.0/24").await;
    for number in 0..3 {
        cluster.kill_member(0);
        cluster.start_member(0);
        eventually("etcd to be back", async || store.get(&key::network(&prod)).await.is_ok()).await;
        join(&store, &prod, number).await;
        address(&store, &prod, number).await;
    }
    let given: BTreeSet<_> = peers(&store, &prod).await.into_iter().filter_map(|peer| peer.address).collect();
    assert_eq!(given.len(), 3);
    for controller in controllers {
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_membership_keeps_its_peer() {
    let cluster = Cluster::start(1);
    let store = cluster.connect().await;
    let controller = Running::start(&store, "one");
    let prod = create_network(&store, "prod", "10.0.0.0/24").await;
    for number in 0..2 {
        join(&store, &prod, number).await;
        address(&store, &prod, number).await;
    }
    cluster.etcdctl(0, &["put", key::membership(&prod, &host_id(0)).path(), "garbage"]);
    leave(&store, &prod, 1).await;
    eventually("the other peer to go", async || peer(&store, &prod, 1).await.is_none()).await;
    join(&store, &prod, 2).await;
    assert_eq!(address(&store, &prod, 2).await, ip("10.0.0.3"));
    assert_eq!(address(&store, &prod, 0).await, ip("10.0.0.1"));
    controller.stop().await;
}

#[tokio::test]
async fn a_closed_store_ends_the_controller() {
    let (store, _directory) = embedded().await;
    let controller = Running::start(&store, "one");
    let prod = create_network(&store, "prod", "10.0.0.0/24").await;
    join(&store, &prod, 0).await;
    address(&store, &prod, 0).await;
    store.close().await.unwrap();
    controller.stop().await;
}
