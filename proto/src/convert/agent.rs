//! What agents say and what they are told (`agent.proto`).

use cladnet_model::{
    CloudLocation, Endpoint, Host, HostFacts, Membership, MembershipStatus, Network, NetworkId, Peer, PublicKey,
    rule::selectable,
};

use super::{FieldError, bounded, name, optional, required};
use crate::cladnet::v1::{self, AgentEndpoint, AgentLocation, MembershipConfig, RemotePeer};

/// A host name has at most 253 characters (RFC 1035); ids and versions are shorter.
const MAX_NAME: usize = 253;
/// Endpoints and routes beyond these numbers are refused here, before anything looks at them.
const MAX_ENDPOINTS: usize = 64;
const MAX_ROUTES: usize = 1_024;
const MAX_ADVERTISE: usize = 64;
/// Why a membership failed, for people.
const MAX_REASON: usize = 1_024;

impl From<&Endpoint> for AgentEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            scope: endpoint.scope.to_string(),
            source: endpoint.source.to_string(),
        }
    }
}

impl TryFrom<AgentEndpoint> for Endpoint {
    type Error = FieldError;

    fn try_from(wire: AgentEndpoint) -> Result<Self, FieldError> {
        let address = wire.address.parse();
        Ok(Self {
            address: address.map_err(|_| FieldError::new("address", "is not ADDRESS:PORT, IPv6 in brackets"))?,
            scope: required("scope", &wire.scope)?,
            source: required("source", &wire.source)?,
        })
    }
}

impl From<&HostFacts> for v1::HostFacts {
    fn from(facts: &HostFacts) -> Self {
        Self {
            host_name: facts.name.clone(),
            machine_id: facts.machine_id.clone(),
            agent_version: facts.agent_version.clone(),
            endpoints: facts.endpoints.iter().map(AgentEndpoint::from).collect(),
            routes: facts.routes.iter().map(ToString::to_string).collect(),
            location: Some(AgentLocation::from(&facts.location)),
            private_ipv4_cidr: facts.private_address.map(|cidr| cidr.to_string()).unwrap_or_default(),
            advertise: facts.advertise.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Reads the facts in `field`, which must be there.
pub fn host_facts(field: &str, wire: Option<v1::HostFacts>) -> Result<HostFacts, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::new(field, "is missing"))?;
    HostFacts::try_from(wire).map_err(|error| error.within(field))
}

impl TryFrom<v1::HostFacts> for HostFacts {
    type Error = FieldError;

    fn try_from(wire: v1::HostFacts) -> Result<Self, FieldError> {
        at_most("endpoints", wire.endpoints.len(), MAX_ENDPOINTS)?;
        at_most("routes", wire.routes.len(), MAX_ROUTES)?;
        at_most("advertise", wire.advertise.len(), MAX_ADVERTISE)?;
        let endpoint = |(i, wire): (usize, AgentEndpoint)| {
            Endpoint::try_from(wire).map_err(|error| error.within(format!("endpoints[{i}]")))
        };
        let route = |(i, text): (usize, &String)| required(&format!("routes[{i}]"), text);
        let advertise = |(i, text): (usize, &String)| required(&format!("advertise[{i}]"), text);
        Ok(Self {
            name: name("host_name", wire.host_name, MAX_NAME)?,
            machine_id: name("machine_id", wire.machine_id, MAX_NAME)?,
            agent_version: name("agent_version", wire.agent_version, MAX_NAME)?,
            endpoints: wire.endpoints.into_iter().enumerate().map(endpoint).collect::<Result<_, _>>()?,
            routes: wire.routes.iter().enumerate().map(route).collect::<Result<_, _>>()?,
            private_address: optional("private_ipv4_cidr", &wire.private_ipv4_cidr)?,
            location: wire
                .location
                .map_or_else(|| Ok(CloudLocation::default()), CloudLocation::try_from)
                .map_err(|error| error.within("location"))?,
            advertise: wire.advertise.iter().enumerate().map(advertise).collect::<Result<_, _>>()?,
        })
    }
}

fn at_most(field: &str, count: usize, limit: usize) -> Result<(), FieldError> {
    match count {
        count if count > limit => {
            Err(FieldError::new(field, format!("has {count} entries; at most {limit} are allowed")))
        }
        _ => Ok(()),
    }
}

/// Reads a WireGuard public key.
pub fn public_key(field: &str, bytes: &[u8]) -> Result<PublicKey, FieldError> {
    match <[u8; 32]>::try_from(bytes) {
        Ok(key) => PublicKey::try_from(key).map_err(|error| FieldError::new(field, error)),
        Err(_) => Err(FieldError::new(field, format!("has {} bytes; a WireGuard public key has 32", bytes.len()))),
    }
}

/// Reads what an agent says of one of its memberships.
pub fn membership_status(wire: v1::MembershipStatus) -> Result<(NetworkId, MembershipStatus), FieldError> {
    let status = MembershipStatus {
        state: required("state", &wire.state)?,
        reason: bounded("reason", wire.reason, MAX_REASON)?,
        interface: name("interface", wire.interface, MAX_NAME)?,
        revision: wire.revision,
    };
    Ok((required("network_id", &wire.network_id)?, status))
}

/// What a host is told of its own membership; without a fingerprint and without rules.
pub fn membership_config(
    network: &Network,
    membership: &Membership,
    peer: Option<&Peer>,
    host: &Host,
) -> MembershipConfig {
    MembershipConfig {
        network_id: network.id.to_string(),
        network_name: network.name.clone(),
        ipv4_address_space: network.address_space.to_string(),
        ipv4_address: peer.and_then(|peer| peer.address).map(|address| address.to_string()).unwrap_or_default(),
        rule_type: network.rule_type.to_string(),
        encryption_policy: network.encryption_policy.to_string(),
        desired_state: membership.desired_state.to_string(),
        generation: network.generation,
        location: Some(AgentLocation::from(&host.location())),
        fingerprint: Vec::new(),
        path_settings: (!network.path_settings.is_default()).then(|| (&network.path_settings).into()),
        advertised: Vec::new(),
        rules: None,
        labels: selectable(&membership.labels, &host.id, &host.facts.name),
    }
}

/// What a host is told of another one; without a fingerprint. None while the controller has given no address.
pub fn remote_peer(host: &Host, membership: &Membership, peer: &Peer, location: &CloudLocation) -> Option<RemotePeer> {
    Some(RemotePeer {
        host_id: host.id.to_string(),
        host_name: host.facts.name.clone(),
        ipv4_address: peer.address?.to_string(),
        public_key: membership.public_key.0.to_vec(),
        endpoints: host.facts.endpoints.iter().map(AgentEndpoint::from).collect(),
        location: Some(AgentLocation::from(location)),
        desired_state: membership.desired_state.to_string(),
        labels: membership.labels.clone(),
        plain: membership.plain,
        fingerprint: Vec::new(),
        advertised: Vec::new(),
    })
}
