//! What happens between a look at the store and the write that was decided by it: the clock, which is asked in between for
//! the time of the event, lets somebody else write there.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use cladnet_model::{
    Allocation, CloudLocation, DesiredState, Hold, Host, HostFacts, HostId, Labels, Membership, Network, NetworkDraft,
    NetworkId, NetworkUpdate, Peer, PublicKey, PublicKeyOwner,
    bill::Budget,
    deployment::PinnedHostKey,
    rule::{NetworkRules, RulesDraft},
};
use cladnet_store::{EmbeddedOptions, Key, Revision, Store, StoreError, Transaction, Versioned, key};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::{
    Clock, Config, Server, Service,
    control::{Outcome, PeerOutcome},
    error::CallError,
    networks::Deletion,
    peers::{LabelUpdate, PeerRow, PeerUpdate},
    plain::PlainPeer,
    rules::{Effect, RulesChange},
};

const SPACE: &str = "10.0.0.0/24";

/// A service with a network of two members, and what is to be written in between.
struct House {
    service: Arc<Service>,
    network: NetworkId,
    between: Arc<Mutex<Option<Between>>>,
    _directory: TempDir,
}

/// What is written, one after the other, when the clock has been asked so many times more.
struct Between(usize, Vec<Transaction>);

impl House {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
        let between: Arc<Mutex<Option<Between>>> = Arc::default();
        let clock = {
            let (between, runtime) = (between.clone(), tokio::runtime::Handle::current());
            Clock::new(move || {
                let due = between.lock().expect("nobody panics with it").take_if(|Between(asked, _)| {
                    *asked -= 1;
                    *asked == 0
                });
                for transaction in due.into_iter().flat_map(|Between(_, transactions)| transactions) {
                    let runtime = runtime.clone();
                    let written = std::thread::spawn(move || runtime.block_on(transaction.commit())).join();
                    written.expect("no panic").expect("nobody is in its way");
                }
                Timestamp::now()
            })
        };
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { listen_addr: loopback, stun_addr: None, ..Config::default() };
        let server = Server::bind_with_clock(config, store, clock).await.expect("a replica");
        let service = server.service().clone();
        let network = create(&service, "prod", SPACE).await.expect("a network").id;
        let house = Self { service, network, between, _directory: directory };
        for number in 1..=2 {
            house.join(number).await;
        }
        house
    }

    async fn join(&self, number: u8) {
        let host = Host {
            id: host(number),
            facts: HostFacts { name: format!("vm-{number}"), ..HostFacts::default() },
            injected: CloudLocation::default(),
            identity: String::new(),
            enrolled_at: Timestamp::UNIX_EPOCH,
        };
        let joined = self.service.store.transaction().put(&key::host(&host.id), &host);
        let joined = joined.put(&key::membership(&self.network, &host.id), &self.membership(number, None));
        joined.commit().await.expect("joins");
    }

    fn membership(&self, number: u8, static_address: Option<Ipv4Addr>) -> Membership {
        Membership {
            network: self.network.clone(),
            host: host(number),
            public_key: PublicKey([number; 32]),
            labels: Default::default(),
            desired_state: Default::default(),
            static_address,
            plain: false,
            joined_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// What the controller writes when it gives an address, planned by the network's record as it is now.
    async fn giving(&self, number: u8, address: Ipv4Addr) -> Transaction {
        let planned_by = self.network_written().await;
        let (network, host) = (self.network.clone(), host(number));
        let held = Allocation { network: network.clone(), address, host: host.clone(), hold: Hold::Held };
        let peer =
            Peer { network: network.clone(), host: host.clone(), address: Some(address), problem: String::new() };
        let free = key::allocation(&network, address);
        let transaction = self.service.store.transaction().unchanged(&key::network(&network), planned_by);
        transaction.absent(&free).put(&free, &held).put(&key::peer(&network, &host), &peer)
    }

    async fn network_written(&self) -> Revision {
        self.service.network(&self.network).await.expect("a network").modified
    }

    fn meanwhile(&self, transaction: Transaction) {
        self.when_asked(1, vec![transaction]);
    }

    /// Writes them when the clock is asked for the `count`th time.
    fn when_asked(&self, count: usize, transactions: Vec<Transaction>) {
        *self.between.lock().expect("nobody panics with it") = Some(Between(count, transactions));
    }

    /// Somebody else deletes the record, and somebody makes it again.
    async fn anew_meanwhile<T: cladnet_store::Record + serde::Serialize>(&self, key: &Key<T>) {
        let store = &self.service.store;
        let value = store.get(key).await.expect("reads").expect("is there").value;
        self.when_asked(1, vec![store.transaction().delete(key), store.transaction().absent(key).put(key, &value)]);
    }

    async fn is_there<T: cladnet_store::Record>(&self, key: &Key<T>) -> bool {
        self.service.store.get(key).await.expect("reads").is_some()
    }

    async fn peers(&self) -> Vec<PeerRow> {
        self.service.peers(&self.network).await.expect("peers").rows
    }

    async fn down(&self, peers: Vec<PeerRow>) -> Result<Vec<PeerOutcome>, CallError> {
        self.service.control(&self.network, peers, DesiredState::Down, Duration::ZERO, "test").await
    }

    async fn ask_for(&self, number: u8, address: Ipv4Addr) -> Result<Membership, CallError> {
        let update = PeerUpdate { static_address: Some(Some(address)), ..PeerUpdate::default() };
        self.service.update_peer(&self.network, &host(number), &update, "test").await
    }

    /// Gives both members addresses, and the network a test.
    async fn test_rules(&self, test: &str) {
        for number in 1..=2 {
            self.giving(number, address(number)).await.commit().await.expect("is free");
        }
        let draft = RulesDraft { tests: vec![test.to_owned()], ..RulesDraft::default() };
        let change = RulesChange::Replace(draft);
        self.service.change_rules(&self.network, &change, None, Effect::InForce, "test").await.expect("holds");
    }

    async fn rules(&self) -> Versioned<NetworkRules> {
        self.service.store.get(&key::rules(&self.network)).await.expect("reads").expect("is there")
    }

    async fn label(&self, number: u8, value: &str) -> Result<Membership, CallError> {
        let update = PeerUpdate { labels: Some(LabelUpdate::Replace(role(value))), ..PeerUpdate::default() };
        self.service.update_peer(&self.network, &host(number), &update, "test").await
    }

    async fn shrink(&self) -> Result<(), CallError> {
        let update = NetworkUpdate { address_space: Some("10.0.0.0/25"), ..NetworkUpdate::default() };
        self.service.update_network(&self.network, &update, None, "test").await.map(drop)
    }
}

async fn create(service: &Service, id: &str, space: &str) -> Result<Network, CallError> {
    let draft = NetworkDraft { id: Some(id), address_space: Some(space), ..NetworkDraft::default() };
    service.create_network(draft.check().expect("is right"), 0, "test").await
}

fn host(number: u8) -> HostId {
    format!("host-{number}").parse().expect("an id")
}

fn role(value: &str) -> Labels {
    [("role".to_owned(), value.to_owned())].into()
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, CallError>, field: &str, why: &str) {
    let mut error = outcome.expect_err("is refused");
    let told = error.to_string();
    assert_eq!(error.fields().first().map(|error| error.field.as_str()), Some(field), "{told}");
    assert!(told.contains(why), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_ask_for_one_address_the_second_is_refused() {
    let house = House::new().await;
    let other = key::membership(&house.network, &host(2));
    let record = house.service.network(&house.network).await.expect("a network");
    // As another replica writes it.
    let claim = house.service.store.transaction().put(&other, &house.membership(2, Some(address(77))));
    house.meanwhile(claim.put(&record.key, &record.value));
    refused(house.ask_for(1, address(77)).await, "ipv4_address", "was asked for already by host-2");
    house.ask_for(1, address(78)).await.expect("another one is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_given_while_it_is_asked_for_is_refused() {
    let house = House::new().await;
    house.meanwhile(house.giving(2, address(77)).await);
    refused(house.ask_for(1, address(77)).await, "ipv4_address", "belongs to host-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_planned_before_an_address_was_asked_for_is_not_written() {
    let house = House::new().await;
    let planned = house.giving(2, address(77)).await;
    house.ask_for(1, address(77)).await.expect("is free");
    planned.commit().await.expect_err("is to be planned again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_does_not_shrink_below_an_address_that_is_given_meanwhile() {
    let house = House::new().await;
    house.meanwhile(house.giving(2, address(200)).await);
    refused(house.shrink().await, "ipv4_address_space", "vm-2 (10.0.0.200)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_does_not_shrink_below_an_address_that_is_asked_for() {
    let house = House::new().await;
    house.ask_for(1, address(200)).await.expect("is free");
    refused(house.shrink().await, "ipv4_address_space", "vm-1 (10.0.0.200)");
    house.ask_for(1, address(20)).await.expect("is free");
    house.shrink().await.expect("everybody has room");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_outside_a_space_that_shrinks_meanwhile_is_refused() {
    let house = House::new().await;
    let record = house.service.network(&house.network).await.expect("a network");
    let smaller = Network { address_space: "10.0.0.0/25".parse().expect("a CIDR"), ..record.value };
    house.meanwhile(house.service.store.transaction().put(&record.key, &smaller));
    refused(house.ask_for(1, address(200)).await, "ipv4_address", "no host of 10.0.0.0/25");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_joins_while_its_network_is_deleted_keeps_it_unless_that_is_forced() {
    let house = House::new().await;
    let empty = create(&house.service, "empty", "10.1.0.0/24").await.expect("a network").id;
    let member = Membership { network: empty.clone(), ..house.membership(1, None) };
    let joining = house.service.store.transaction().put(&key::membership(&empty, &member.host), &member);
    house.meanwhile(joining);
    let refused = house.service.delete_network(&empty, Deletion::OfEmpty, "test").await;
    assert!(matches!(refused, Err(CallError::Precondition(_))), "{refused:?}");
    house.service.membership(&empty, &member.host).await.expect("is a member still");
    let (_, removed) = house.service.delete_network(&empty, Deletion::WithPeers, "test").await.expect("is forced");
    assert_eq!(removed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_deleted_while_its_budget_is_set_leaves_none() {
    let house = House::new().await;
    let empty = create(&house.service, "empty", "10.1.0.0/24").await.expect("a network").id;
    house.meanwhile(house.service.store.transaction().delete(&key::network(&empty)));
    let budget = Budget::check(Some(empty.clone()), 1, 0).expect("is right");
    let refused = house.service.set_budget(budget, "test").await;
    assert!(matches!(refused, Err(CallError::NotFound(_))), "{:?}", refused.err());
    assert!(!house.is_there(&key::budget(&empty)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_networks_are_made_at_a_time() {
    let house = House::new().await;
    let made = (1..=40).map(|number| {
        let house = &house;
        async move { create(&house.service, &format!("n-{number}"), &format!("10.{number}.0.0/24")).await }
    });
    for made in futures_util::future::join_all(made).await {
        made.expect("nobody is in its way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_wish_of_somebody_else_stays() {
    let house = House::new().await;
    for number in 3..=61 {
        house.join(number).await; // more than one transaction tells
    }
    let first = key::membership(&house.network, &host(1));
    house.when_asked(61, vec![house.service.store.transaction().put(&first, &house.membership(1, None))]);
    let outcomes = house.down(house.peers().await).await.expect("is wished");
    assert!(outcomes.iter().all(|peer| peer.outcome == Outcome::Offline), "{outcomes:?}");
    let now = house.service.membership(&house.network, &host(1)).await.expect("a member").value;
    assert_eq!(now.desired_state, DesiredState::Up);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_membership_that_cannot_be_read_any_more_is_not_one_that_was_left() {
    let house = House::new().await;
    let peers = house.peers().await;
    let damaged = Membership { public_key: PublicKey([0; 32]), ..house.membership(1, None) };
    house.service.store.put(&key::membership(&house.network, &host(1)), &damaged).await.expect("writes");
    let refused = house.down(peers).await;
    assert!(matches!(refused, Err(CallError::Store(StoreError::Decode { .. }))), "{refused:?}");
    let others = house.peers().await;
    assert_eq!(house.down(others).await.expect("are told").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_peer_goes_at_the_same_moment_is_somebody_elses() {
    let house = House::new().await;
    let owner = PublicKeyOwner { network: house.network.clone(), host: host(9), token: None };
    let public_key = PublicKey([9; 32]);
    house.service.store.create(&key::public_key(&public_key), &owner).await.expect("writes");
    let peer = PlainPeer { name: "laptop".to_owned(), public_key, labels: Default::default(), endpoint: None };
    refused(house.service.create_plain_peer(&house.network, peer, "test").await, "public_key", "host-9");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_deletes_late_leaves_a_network_that_was_made_anew() {
    let house = House::new().await;
    let empty = create(&house.service, "empty", "10.1.0.0/24").await.expect("a network").id;
    for deletion in [Deletion::OfEmpty, Deletion::WithPeers] {
        house.anew_meanwhile(&key::network(&empty)).await;
        let refused = house.service.delete_network(&empty, deletion, "test").await;
        assert!(matches!(refused, Err(CallError::NotFound(_))), "{refused:?}");
        assert!(house.is_there(&key::network(&empty)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_deletes_late_leaves_the_members_of_a_network_that_was_made_anew() {
    let house = House::new().await;
    let (network, store) = (key::network(&house.network), &house.service.store);
    let value = house.service.network(&house.network).await.expect("a network").value;
    let second = key::membership(&house.network, &host(2));
    // While the first of the members is removed all go, with the network, and one joins its successor.
    let rid = store.transaction().delete(&key::membership(&house.network, &host(1))).delete(&second).delete(&network);
    let again = store.transaction().put(&network, &value).put(&second, &house.membership(2, None));
    house.when_asked(1, vec![rid, again]);
    let refused = house.service.delete_network(&house.network, Deletion::WithPeers, "test").await;
    assert!(matches!(refused, Err(CallError::NotFound(_))), "{refused:?}");
    assert!(house.is_there(&network).await && house.is_there(&second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_removes_late_leaves_a_peer_that_joined_anew() {
    let house = House::new().await;
    let record = key::membership(&house.network, &host(1));
    house.anew_meanwhile(&record).await;
    let refused = house.service.remove_peer(&house.network, &host(1), "test").await;
    assert!(matches!(refused, Err(CallError::NotFound(_))), "{refused:?}");
    assert!(house.is_there(&record).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_removes_late_leaves_a_host_that_enrolled_anew() {
    let house = House::new().await;
    let agents = house.service.agents.clone();
    let following = tokio::spawn(async move { agents.run().await });
    house.anew_meanwhile(&key::host(&host(1))).await;
    let refused = house.service.agents.remove_host(&host(1), "test").await;
    assert!(matches!(refused, Err(CallError::NotFound(_))), "{refused:?}");
    assert!(house.is_there(&key::host(&host(1))).await);
    following.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_forgets_a_host_key_late_leaves_the_one_that_was_pinned_since() {
    let house = House::new().await;
    let record = key::host_key("192.0.2.10:22");
    let pinned = PinnedHostKey {
        fingerprint: format!("SHA256:{}", "A".repeat(43)).parse().expect("a fingerprint"),
        algorithm: "ssh-ed25519".to_owned(),
        pinned_at: Timestamp::UNIX_EPOCH,
        pinned_by: "test".to_owned(),
        host: None,
    };
    house.service.store.create(&record, &pinned).await.expect("writes");
    house.anew_meanwhile(&record).await;
    let refused = house.service.forget_host_key("192.0.2.10:22", "test").await;
    assert!(matches!(refused, Err(CallError::NotFound(_))), "{refused:?}");
    assert!(house.is_there(&record).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_labels_that_break_a_test_together_the_second_is_refused() {
    let house = House::new().await;
    house.test_rules("expect: role=web may not reach role=db:22").await;
    let rules = house.rules().await;
    let other = key::membership(&house.network, &host(2));
    let labelled = Membership { labels: role("db"), ..house.membership(2, None) };
    // As another replica writes it.
    house.meanwhile(house.service.store.transaction().put(&other, &labelled).put(&rules.key, &rules.value));
    refused(house.label(1, "web").await, "labels", "breaks a test of the rules");
    house.label(1, "cache").await.expect("no test is about it");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_were_checked_before_labels_changed_are_not_written() {
    let house = House::new().await;
    house.test_rules("expect: role=web may not reach role=db:22").await;
    let checked = house.rules().await;
    house.label(1, "web").await.expect("nobody is a database");
    let change = house.service.store.transaction().unchanged(&checked.key, checked.modified);
    change.put(&checked.key, &checked.value).commit().await.expect_err("is to be checked again");
}
