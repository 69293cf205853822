//! Measures how long a controller takes to give a thousand members their addresses:
//! `cargo run --release -p cladnet-controller --example joins [http://ETCD:2379]`, embedded without an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    time::Instant,
};

use cladnet_controller::Controller;
use cladnet_model::{Host, HostFacts, HostId, Membership, Network, PublicKey};
use cladnet_store::{AnyKey, Change, EmbeddedOptions, EtcdOptions, Store, Update, key};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

const MEMBERS: usize = 1_000;

/// Joins that are under way together.
const AT_ONCE: usize = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = match std::env::args().nth(1) {
        Some(url) => Store::connect_etcd(EtcdOptions { endpoints: vec![url], ..EtcdOptions::default() }).await?,
        None => Store::open_embedded(EmbeddedOptions::new(directory.path())).await?,
    };
    let shutdown = CancellationToken::new();
    let controller = tokio::spawn(Controller::run(store.clone(), "bench", shutdown.clone()));

    let network = Network {
        id: format!("bench-{}", Timestamp::now().as_second()).parse()?,
        name: "bench".to_owned(),
        address_space: "10.0.0.0/16".parse()?,
        description: String::new(),
        rule_type: Default::default(),
        encryption_policy: Default::default(),
        path_settings: Default::default(),
        generation: 1,
        created_at: Timestamp::now(),
    };
    store.create(&key::network(&network.id), &network).await?;
    // The first address proves that somebody leads.
    join(&store, &network, MEMBERS).await?;
    let mut follow = store.follow(&key::peers(&network.id));
    let mut addressed = BTreeSet::new();
    let (mut began, mut joined) = (None, None);
    while addressed.len() <= MEMBERS {
        let changes = match follow.next().await.ok_or("the store was closed")? {
            Update::Listing(listing) => listing.items.into_iter().map(Change::Put).collect(),
            Update::Batch(batch) => batch.changes,
        };
        for change in changes {
            if let Change::Put(peer) = change
                && let (AnyKey::Peer(_, host), Some(_)) = (peer.key.parse(), peer.value.address)
            {
                addressed.insert(host);
            }
        }
        if addressed.len() == 1 && began.is_none() {
            began = Some(Instant::now());
            let (store, network) = (store.clone(), network.clone());
            joined = Some(tokio::spawn(async move { join_all(&store, &network).await }));
        }
    }
    let (began, joined) = (began.ok_or("nobody leads")?, joined.ok_or("nobody joined")?.await?);
    println!(
        "{MEMBERS} joins written in {:.2?}, all addressed after {:.2?}",
        joined.duration_since(began),
        began.elapsed()
    );
    shutdown.cancel();
    controller.await?;
    Ok(())
}

/// Returns when the last join was written.
async fn join_all(store: &Store, network: &Network) -> Instant {
    let numbers: Vec<usize> = (0..MEMBERS).collect();
    for numbers in numbers.chunks(AT_ONCE) {
        let joins = numbers.iter().map(|number| join(store, network, *number));
        try_join_all(joins).await.expect("joins are written");
    }
    Instant::now()
}

async fn join(store: &Store, network: &Network, number: usize) -> Result<(), cladnet_store::StoreError> {
    let id: HostId = format!("host-{number:05}").parse().expect("a valid id");
    let mut public_key = [0; 32];
    public_key[..8].copy_from_slice(&number.to_be_bytes());
    let host = Host {
        id: id.clone(),
        facts: HostFacts::default(),
        injected: Default::default(),
        identity: String::new(),
        enrolled_at: Timestamp::now(),
    };
    let membership = Membership {
        network: network.id.clone(),
        host: id.clone(),
        public_key: PublicKey(public_key),
        labels: BTreeMap::new(),
        desired_state: Default::default(),
        static_address: None,
        plain: false,
        joined_at: Timestamp::now(),
    };
    let transaction =
        store.transaction().put(&key::host(&id), &host).put(&key::membership(&network.id, &id), &membership);
    transaction.commit().await.map(drop)
}
