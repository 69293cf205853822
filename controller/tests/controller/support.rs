//! The service's side of the store, as the controller sees it: networks, hosts and memberships that come and go.

use std::{collections::BTreeMap, future::Future, net::Ipv4Addr, time::Duration};

use cladnet_controller::Controller;
use cladnet_model::{Allocation, Host, HostFacts, HostId, Membership, Network, NetworkId, Peer, PublicKey};
use cladnet_store::{EmbeddedOptions, Store, key};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for something that should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// Waits for `what`, and fails with its name when it does not come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {SOON:?} in vain for {what}"),
    }
}

/// An embedded store in a directory of its own.
pub(crate) async fn embedded() -> (Store, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("an embedded store");
    (store, directory)
}

/// A running controller; stops, and steps down, with [`Running::stop`].
pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(store: &Store, identity: &str) -> Self {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(Controller::run(store.clone(), identity.to_owned(), shutdown.clone()));
        Self { shutdown, task }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        soon("the controller to stop", self.task).await.expect("it did not panic");
    }
}

pub(crate) fn network_id(text: &str) -> NetworkId {
    text.parse().expect("a valid id")
}

pub(crate) fn host_id(number: usize) -> HostId {
    format!("host-{number:04}").parse().expect("a valid id")
}

pub(crate) fn network(text: &str, space: &str) -> Network {
    Network {
        id: network_id(text),
        name: text.to_owned(),
        address_space: space.parse().expect("a CIDR"),
        description: String::new(),
        rule_type: Default::default(),
        encryption_policy: Default::default(),
        path_settings: Default::default(),
        generation: 1,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

pub(crate) async fn create_network(store: &Store, text: &str, space: &str) -> NetworkId {
    let network = network(text, space);
    store.create(&key::network(&network.id), &network).await.expect("a new network");
    network.id
}

fn host(number: usize) -> Host {
    Host {
        id: host_id(number),
        facts: HostFacts::default(),
        injected: Default::default(),
        identity: String::new(),
        enrolled_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn membership(network: &NetworkId, number: usize, wish: Option<Ipv4Addr>) -> Membership {
    let mut public_key = [0; 32];
    public_key[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    Membership {
        network: network.clone(),
        host: host_id(number),
        public_key: PublicKey(public_key),
        labels: BTreeMap::new(),
        desired_state: Default::default(),
        static_address: wish,
        plain: false,
        joined_at: jiff::Timestamp::from_second(number as i64).expect("a moment"),
    }
}

/// Joins as the service does it: host and membership at once.
pub(crate) async fn join(store: &Store, network: &NetworkId, number: usize) {
    join_asking_for(store, network, number, None).await;
}

pub(crate) async fn join_asking_for(store: &Store, network: &NetworkId, number: usize, wish: Option<Ipv4Addr>) {
    let membership = membership(network, number, wish);
    let joined = store
        .transaction()
        .put(&key::host(&membership.host), &host(number))
        .put(&key::membership(network, &membership.host), &membership)
        .commit();
    joined.await.expect("a join");
}

/// Leaves as the service does it.
pub(crate) async fn leave(store: &Store, network: &NetworkId, number: usize) {
    let left = store.transaction().delete(&key::membership(network, &host_id(number))).commit();
    left.await.expect("a leave");
}

pub(crate) async fn peer(store: &Store, network: &NetworkId, number: usize) -> Option<Peer> {
    store.get(&key::peer(network, &host_id(number))).await.expect("a readable peer").map(|peer| peer.value)
}

pub(crate) async fn peers(store: &Store, network: &NetworkId) -> Vec<Peer> {
    store.list(&key::peers(network)).await.expect("peers").items.into_iter().map(|item| item.value).collect()
}

pub(crate) async fn allocations(store: &Store, network: &NetworkId) -> Vec<Allocation> {
    store
        .list(&key::allocations(network))
        .await
        .expect("allocations")
        .items
        .into_iter()
        .map(|item| item.value)
        .collect()
}

/// Waits until a peer has an address.
pub(crate) async fn address(store: &Store, network: &NetworkId, number: usize) -> Ipv4Addr {
    let poll = async {
        loop {
            if let Some(Peer { address: Some(address), .. }) = peer(store, network, number).await {
                return address;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(&format!("an address of host {number}"), poll).await
}

/// Polls until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(what, poll).await;
}
