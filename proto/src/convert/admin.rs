//! What administrators are shown (`admin.proto`).

use cladnet_model::{
    ApiKey, CloudLocation, Endpoint, Event, Host, Membership, MembershipStatus, Network, NetworkId, Peer, PeerState,
    Token, TokenId,
};
use jiff::Timestamp;

pub use super::location::{cleared_fields, injected_location};
use super::{path::milliseconds, time::timestamp};
use crate::cladnet::v1;

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            scope: endpoint.scope.to_string(),
            source: endpoint.source.to_string(),
        }
    }
}

/// A network with the number of its memberships.
pub fn network(network: &Network, peer_count: usize) -> v1::Network {
    let limits = &network.path_settings.limits;
    v1::Network {
        network_id: network.id.to_string(),
        name: network.name.clone(),
        ipv4_address_space: network.address_space.to_string(),
        description: network.description.clone(),
        rule_type: network.rule_type.to_string(),
        encryption_policy: network.encryption_policy.to_string(),
        generation: network.generation,
        created_at: Some(timestamp(network.created_at)),
        peer_count: u32::try_from(peer_count).unwrap_or(u32::MAX),
        usd_per_ms: network.path_settings.price_per_ms.to_string(),
        usd_per_loss_percent: network.path_settings.price_per_loss_percent.to_string(),
        max_rtt_ms: limits.max_rtt.map_or(0, milliseconds),
        max_usd_per_gb: limits.max_price_per_gb.map(|limit| limit.to_string()).unwrap_or_default(),
        forbid: limits.forbid.iter().map(ToString::to_string).collect(),
    }
}

/// A host; `location` from all sources.
pub fn host<'a>(
    host: &Host,
    location: &CloudLocation,
    online: bool,
    networks: impl IntoIterator<Item = &'a NetworkId>,
) -> v1::Host {
    v1::Host {
        host_id: host.id.to_string(),
        host_name: host.facts.name.clone(),
        online,
        agent_version: host.facts.agent_version.clone(),
        location: Some(v1::CloudLocation::from(location)),
        endpoints: host.facts.endpoints.iter().map(v1::Endpoint::from).collect(),
        routes: host.facts.routes.iter().map(ToString::to_string).collect(),
        network_ids: networks.into_iter().map(ToString::to_string).collect(),
        enrolled_at: Some(timestamp(host.enrolled_at)),
        machine_id: host.facts.machine_id.clone(),
        problem: String::new(),
    }
}

/// The records that a peer is shown from.
#[derive(Debug, Clone, Copy)]
pub struct PeerRecords<'a> {
    pub membership: &'a Membership,
    pub host: &'a Host,
    /// The controller's answer; none before it came.
    pub peer: Option<&'a Peer>,
    /// What the agent reported last; none before it did.
    pub status: Option<&'a MembershipStatus>,
    /// The host's, from all sources.
    pub location: &'a CloudLocation,
    pub online: bool,
    /// As in [`v1::Peer`]; none in lists.
    pub shown_token: Option<&'a TokenId>,
}

/// A peer. What the controller could not give counts as failed, whatever the agent says.
pub fn peer(records: PeerRecords<'_>) -> v1::Peer {
    let PeerRecords { membership, host, peer, status, location, online, shown_token } = records;
    let (state, reason) = match (peer, status) {
        (Some(peer), _) if !peer.problem.is_empty() => (PeerState::Failed, peer.problem.clone()),
        (_, Some(status)) => (status.state, status.reason.clone()),
        (Some(_), None) if membership.plain => (PeerState::Tunneling, String::new()),
        (_, None) => (PeerState::Configuring, String::new()),
    };
    v1::Peer {
        network_id: membership.network.to_string(),
        host_id: membership.host.to_string(),
        host_name: host.facts.name.clone(),
        ipv4_address: peer.and_then(|peer| peer.address).map(|address| address.to_string()).unwrap_or_default(),
        public_key: membership.public_key.to_string(),
        state: state.to_string(),
        state_reason: reason,
        desired_state: membership.desired_state.to_string(),
        online,
        endpoints: host.facts.endpoints.iter().map(v1::Endpoint::from).collect(),
        location: Some(v1::CloudLocation::from(location)),
        labels: membership.labels.clone(),
        plain: membership.plain,
        joined_at: Some(timestamp(membership.joined_at)),
        agent_version: host.facts.agent_version.clone(),
        shown_token_id: shown_token.map(ToString::to_string).unwrap_or_default(),
    }
}

/// A token as of `now`; never its secret.
pub fn token(token: &Token, now: Timestamp) -> v1::Token {
    v1::Token {
        token_id: token.id.to_string(),
        network_id: token.network.to_string(),
        uses_left: token.uses_left,
        expires_at: Some(timestamp(token.expires_at)),
        labels: token.labels.clone(),
        created_at: Some(timestamp(token.created_at)),
        state: token.state(now).to_string(),
        created_by: token.created_by.clone(),
    }
}

impl From<&ApiKey> for v1::Key {
    fn from(key: &ApiKey) -> Self {
        Self {
            key_id: key.id.to_string(),
            name: key.name.clone(),
            role: key.role.to_string(),
            created_at: Some(timestamp(key.created_at)),
            expires_at: key.expires_at.map(timestamp),
        }
    }
}

impl From<&Event> for v1::Event {
    fn from(event: &Event) -> Self {
        Self {
            event_id: event.id.to_string(),
            at: Some(timestamp(event.at)),
            kind: event.kind.clone(),
            network_id: event.network.as_ref().map(ToString::to_string).unwrap_or_default(),
            host_id: event.host.as_ref().map(ToString::to_string).unwrap_or_default(),
            actor: event.actor.clone(),
            message: event.message.clone(),
        }
    }
}
