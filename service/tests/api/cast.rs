//! Those whom the service works with and who are not there in these tests: a controller that gives addresses, and agents
//! that are records only.

use std::net::Ipv4Addr;

use cladnet_model::{
    CloudLocation, DesiredState, Endpoint, EndpointSource, Host, HostFacts, HostId, Membership, MembershipStatus,
    NetworkId, Peer, PeerState, Presence, PublicKey, PublicKeyOwner, Scope,
};
use cladnet_store::{Change, Store, Update, key};
use jiff::Timestamp;
use tokio_util::task::AbortOnDropHandle;

/// Gives the n-th member of 10.0.0.0/8 the address 10.0.0.n, whatever its network.
pub(crate) fn controller(store: &Store) -> AbortOnDropHandle<()> {
    let store = store.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut members = store.follow(&key::all_memberships());
        let mut next = 0;
        while let Some(update) = members.next().await {
            let changes = match update {
                Update::Listing(listing) => listing.items.into_iter().map(Change::Put).collect(),
                Update::Batch(batch) => batch.changes,
            };
            for change in changes {
                let Change::Put(member) = change else { continue };
                let Membership { network, host, .. } = member.value;
                next += 1;
                let address = Some(Ipv4Addr::new(10, 0, 0, next));
                let peer = Peer { network: network.clone(), host: host.clone(), address, problem: String::new() };
                store.put(&key::peer(&network, &host), &peer).await.expect("writes");
            }
        }
    }))
}

/// A host that has enrolled into a network.
pub(crate) async fn enrolled(store: &Store, network: &str, name: &str) -> HostId {
    let (network, host): (NetworkId, HostId) = (network.parse().expect("an id"), HostId::generate(rand::random()));
    let public_key = PublicKey(rand::random());
    let record = Host {
        id: host.clone(),
        facts: HostFacts {
            name: name.to_owned(),
            endpoints: vec![Endpoint {
                address: "203.0.113.7:8055".parse().expect("an address"),
                scope: Scope::Public,
                source: EndpointSource::Stun,
            }],
            routes: vec!["10.9.0.0/16".parse().expect("a route")],
            ..HostFacts::default()
        },
        injected: CloudLocation::default(),
        identity: "00".repeat(32),
        enrolled_at: Timestamp::now(),
    };
    let membership = Membership {
        network: network.clone(),
        host: host.clone(),
        public_key,
        labels: [("tier".to_owned(), "web".to_owned())].into(),
        desired_state: DesiredState::Up,
        static_address: None,
        plain: false,
        joined_at: Timestamp::now(),
    };
    let owner = PublicKeyOwner { network: network.clone(), host: host.clone(), token: None };
    store
        .transaction()
        .put(&key::host(&host), &record)
        .put(&key::membership(&network, &host), &membership)
        .put(&key::public_key(&public_key), &owner)
        .commit()
        .await
        .expect("writes");
    host
}

/// Marks a host as connected.
pub(crate) async fn connected(store: &Store, host: &HostId) {
    let presence = Presence { replica: "replica-test".to_owned(), since: Timestamp::now(), from: None };
    store.put(&key::presence(host), &presence).await.expect("writes");
}

/// An agent that reports `state` as soon as its peer is to be down.
pub(crate) fn agent(store: &Store, network: &str, host: &HostId, state: PeerState) -> AbortOnDropHandle<()> {
    let (store, network, host): (_, NetworkId, _) = (store.clone(), network.parse().expect("an id"), host.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut members = store.follow(&key::memberships(&network));
        while let Some(update) = members.next().await {
            let (revision, changes) = match update {
                Update::Listing(listing) => {
                    (listing.revision, listing.items.into_iter().map(Change::Put).collect::<Vec<_>>())
                }
                Update::Batch(batch) => (batch.revision, batch.changes),
            };
            let concerns = |change: &Change<Membership>| {
                matches!(change, Change::Put(member)
                    if member.value.host == host && member.value.desired_state == DesiredState::Down)
            };
            if changes.iter().any(concerns) {
                report(&store, &network, &host, state, revision.get()).await;
            }
        }
    }))
}

/// What an agent says of its membership.
pub(crate) async fn report(store: &Store, network: &NetworkId, host: &HostId, state: PeerState, revision: i64) {
    let reason = if state == PeerState::Failed { "no /dev/net/tun" } else { "" };
    let status = MembershipStatus { state, reason: reason.to_owned(), interface: "cbnet0".to_owned(), revision };
    store.put(&key::status(network, host), &status).await.expect("writes");
}
