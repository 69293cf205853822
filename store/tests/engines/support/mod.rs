//! Fixtures: a fresh store of either engine, records to put into it, and waiting that ends.

pub(crate) mod etcd;
pub(crate) mod proxy;
pub(crate) mod replica;

use std::{future::Future, time::Duration};

use cladnet_model::{Network, NetworkId, Peer, Token};
use cladnet_store::{Batch, EmbeddedOptions, Follow, Listing, Record, Store, Update, Watch};
use tempfile::TempDir;

use etcd::Cluster;

/// A store in a directory of its own.
pub(crate) struct EmbeddedFixture {
    pub(crate) store: Store,
    pub(crate) directory: TempDir,
}

impl EmbeddedFixture {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("an embedded store");
        Self { store, directory }
    }
}

/// One member with a store connected to it.
pub(crate) struct EtcdFixture {
    pub(crate) store: Store,
    pub(crate) cluster: Cluster,
}

impl EtcdFixture {
    pub(crate) async fn start() -> Self {
        let cluster = Cluster::start(1);
        let store = cluster.connect().await;
        Self { store, cluster }
    }
}

pub(crate) fn id(text: &str) -> NetworkId {
    text.parse().expect("a valid id")
}

pub(crate) fn network(text: &str, name: &str) -> Network {
    Network {
        id: id(text),
        name: name.to_owned(),
        address_space: "10.0.0.0/24".parse().expect("a network"),
        description: String::new(),
        rule_type: Default::default(),
        encryption_policy: Default::default(),
        path_settings: Default::default(),
        generation: 1,
        created_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn peer(of: &str) -> Peer {
    Peer { network: id(of), host: "host-1".parse().expect("an id"), address: None, problem: String::new() }
}

pub(crate) fn token(text: &str, uses_left: u32) -> Token {
    Token {
        id: text.parse().expect("a valid id"),
        network: id("prod"),
        secret_hash: "00".to_owned(),
        uses_left,
        expires_at: jiff::Timestamp::UNIX_EPOCH,
        labels: Default::default(),
        revoked: false,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        created_by: "key-1".to_owned(),
    }
}

/// Longest wait for something that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(15);

/// Waits for `what`, and fails with its name when it does not come.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {SOON:?} in vain for {what}"),
    }
}

/// Polls until `condition` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    soon(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The first update of a follower.
pub(crate) async fn listing<T: Record>(follow: &mut Follow<T>) -> Listing<T> {
    match soon("the first listing", follow.next()).await {
        Some(Update::Listing(listing)) => listing,
        _ => panic!("a follower starts with a listing"),
    }
}

/// The next update of a follower, a batch.
pub(crate) async fn batch<T: Record>(follow: &mut Follow<T>) -> Batch<T> {
    match soon("a batch", follow.next()).await {
        Some(Update::Batch(batch)) => batch,
        _ => panic!("after its listing, a follower gives batches"),
    }
}

/// The next batch of a watch.
pub(crate) async fn watched<T: Record>(watch: &mut Watch<T>) -> Batch<T> {
    soon("a watched change", watch.next()).await.expect("the watch goes on")
}
