//! Records as cb-network's callers know them.

use std::net::SocketAddr;

use cladnet_model::{CloudLocation, Located, Network, NetworkId, Scope};
use cladnet_proto::cbnet::v1::{CladNetSpecification, CloudInformation, Peer};

use crate::peers::{PeerRow, UnreadablePeer};

/// A network.
pub(super) fn specification(network: &Network) -> CladNetSpecification {
    CladNetSpecification {
        cladnet_id: network.id.to_string(),
        name: network.name.clone(),
        ipv4_address_space: network.address_space.to_string(),
        description: network.description.clone(),
        rule_type: network.rule_type.to_string(),
    }
}

/// A peer of a network.
pub(super) fn peer(row: &PeerRow, network: &Network) -> Peer {
    let facts = &row.host.facts;
    let public = facts.endpoints.iter().find(|endpoint| endpoint.scope == Scope::Public);
    Peer {
        cladnet_id: network.id.to_string(),
        host_id: row.id().to_string(),
        host_name: facts.name.clone(),
        host_private_ipv4_cidr: facts.private_address.map(|cidr| cidr.to_string()).unwrap_or_default(),
        host_private_ip: facts.private_address.map(|cidr| cidr.addr().to_string()).unwrap_or_default(),
        host_public_ip: public.map(|endpoint| endpoint.address.ip().to_string()).unwrap_or_default(),
        ipv4_cidr: row
            .address()
            .map(|address| format!("{address}/{}", network.address_space.prefix_len()))
            .unwrap_or_default(),
        ip: row.address().map(|address| address.to_string()).unwrap_or_default(),
        state: row.wire().state,
        details: Some(details(&row.location)),
    }
}

/// A peer of which too little is known.
pub(super) fn unreadable_peer(peer: &UnreadablePeer, network: &NetworkId) -> Peer {
    Peer {
        cladnet_id: network.to_string(),
        host_id: peer.host.to_string(),
        host_name: peer.name.clone(),
        state: peer.wire(network).state,
        ..Peer::default()
    }
}

/// Address and scope of a path in cb-network's words: `intra` stays inside a VPC, `inter` leaves it. Both empty without one.
pub(super) fn selection(used: Option<(SocketAddr, Scope)>) -> (String, String) {
    match used {
        Some((address, Scope::Private)) => (address.ip().to_string(), "intra".to_owned()),
        Some((address, Scope::Public | Scope::PublicV6)) => (address.ip().to_string(), "inter".to_owned()),
        None => (String::new(), String::new()),
    }
}

fn details(location: &CloudLocation) -> CloudInformation {
    let value = |located: &Option<Located>| located.as_ref().map(|located| located.value.clone()).unwrap_or_default();
    CloudInformation {
        provider_name: value(&location.provider),
        region_id: value(&location.region),
        availability_zone_id: value(&location.zone),
        virtual_network_id: value(&location.vpc),
        subnet_id: value(&location.subnet),
    }
}
