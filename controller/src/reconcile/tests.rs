//! What is planned when a record cannot be read: nobody is removed for it, and nothing is given away.

use std::net::Ipv4Addr;

use cladnet_model::{Allocation, Hold, Host, HostFacts, Membership, Network, NetworkId, Peer, PublicKey, Step};
use cladnet_store::{AnyRecord, DecodeError, Key, Listing, Revision, Undecodable, Update, Versioned, key};
use jiff::Timestamp;

use super::plan_for;
use crate::world::World;

fn prod() -> NetworkId {
    "prod".parse().unwrap()
}

fn host(number: u8) -> cladnet_model::HostId {
    format!("host-{number}").parse().unwrap()
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A settled network of two members, as one listing.
fn settled() -> Vec<(Key<AnyRecord>, AnyRecord)> {
    let mut records = vec![(
        key::network(&prod()).erased(),
        AnyRecord::Network(Network {
            id: prod(),
            name: "prod".into(),
            address_space: "10.0.0.0/24".parse().unwrap(),
            description: String::new(),
            rule_type: Default::default(),
            encryption_policy: Default::default(),
            path_settings: Default::default(),
            generation: 1,
            created_at: Timestamp::UNIX_EPOCH,
        }),
    )];
    for number in 1..=2 {
        let (network, host, address) = (prod(), host(number), address(number));
        let peer = Peer { network: prod(), host: host.clone(), address: Some(address), problem: String::new() };
        let held = Allocation { network: prod(), address, host: host.clone(), hold: Hold::Held };
        records.push((key::host(&host).erased(), AnyRecord::Host(Box::new(host_record(number)))));
        records.push((key::membership(&network, &host).erased(), AnyRecord::Membership(membership(number))));
        records.push((key::peer(&network, &host).erased(), AnyRecord::Peer(peer)));
        records.push((key::allocation(&network, address).erased(), AnyRecord::Allocation(held)));
    }
    records
}

fn host_record(number: u8) -> Host {
    Host {
        id: host(number),
        facts: HostFacts::default(),
        injected: Default::default(),
        identity: String::new(),
        enrolled_at: Timestamp::UNIX_EPOCH,
    }
}

fn membership(number: u8) -> Membership {
    Membership {
        network: prod(),
        host: host(number),
        public_key: PublicKey([number; 32]),
        labels: Default::default(),
        desired_state: Default::default(),
        static_address: None,
        plain: false,
        joined_at: Timestamp::UNIX_EPOCH,
    }
}

/// The plan for these records, those under `unreadable` spoilt.
fn plan(records: Vec<(Key<AnyRecord>, AnyRecord)>, unreadable: &[Key<AnyRecord>]) -> Vec<Step> {
    let mut listing = Listing { items: Vec::new(), revision: Revision::from(9), undecodable: Vec::new() };
    for (key, value) in records {
        match unreadable.contains(&key) {
            true => listing
                .undecodable
                .push(Undecodable { key: key.to_string(), error: DecodeError::Foreign("spoilt".into()) }),
            false => {
                listing.items.push(Versioned { key, value, created: Revision::from(2), modified: Revision::from(2) })
            }
        }
    }
    let mut world = World::default();
    world.apply(Update::Listing(listing));
    let view = world.network(&prod()).unwrap();
    plan_for(&world, &prod(), view, Timestamp::UNIX_EPOCH).steps
}

#[test]
fn a_settled_network_needs_nothing() {
    assert_eq!(plan(settled(), &[]), []);
}

#[test]
fn a_member_that_cannot_be_read_is_not_removed() {
    assert_eq!(plan(settled(), &[key::membership(&prod(), &host(1)).erased()]), []);
}

#[test]
fn a_host_that_cannot_be_read_is_not_removed() {
    assert_eq!(plan(settled(), &[key::host(&host(1)).erased()]), []);
}

#[test]
fn a_network_that_cannot_be_read_is_left_alone() {
    assert_eq!(plan(settled(), &[key::network(&prod()).erased()]), []);
}

#[test]
fn an_allocation_that_cannot_be_read_keeps_its_address_from_everybody() {
    let mut records = settled();
    records.push((key::host(&host(3)).erased(), AnyRecord::Host(Box::new(host_record(3)))));
    records.push((key::membership(&prod(), &host(3)).erased(), AnyRecord::Membership(membership(3))));
    let steps = plan(records, &[key::allocation(&prod(), address(1)).erased()]);
    let given: Vec<_> = steps.iter().filter(|step| matches!(step, Step::Give { .. })).collect();
    assert_eq!(
        given,
        [&Step::Give { host: host(1), address: address(3) }, &Step::Give { host: host(3), address: address(4) },],
        "host 1 cannot prove that the address is its own"
    );
}

#[test]
fn a_member_whose_host_is_gone_is_removed() {
    let records = settled().into_iter().filter(|(key, _)| *key != key::host(&host(1)).erased()).collect();
    let steps = plan(records, &[]);
    assert_eq!(steps, [Step::Release { address: address(1), host: host(1) }, Step::Forget { host: host(1) }]);
}
