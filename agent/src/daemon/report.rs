//! What is told of the daemon's state. Pure.

use cladnet_model::{
    Scope,
    path::{Measurements, Transport, encryption},
};
use cladnet_tunnel::{Obstacle, PeerStats};

use super::membership::Membership;
use super::volumes::volumes;
use crate::{
    configuration::{Configuration, Remote},
    control::protocol::{NetworkStatus, PathStatus, PeerStatus},
    facts::{Facts, endpoints::scope_of},
    paths,
};

/// One membership, with what the device says of its peers.
pub(super) fn network(membership: &Membership, stats: &[PeerStats]) -> NetworkStatus {
    let configuration = membership.configuration.as_ref();
    let settings = configuration.map(Configuration::settings);
    NetworkStatus {
        network: membership.record.network.clone(),
        name: settings.map(|settings| settings.name.clone()).unwrap_or_default(),
        state: membership.state,
        reason: membership.reason.clone(),
        wish: membership.record.wish,
        desired_state: settings.map(|settings| settings.desired_state),
        interface: membership.record.interface.clone(),
        address: settings.and_then(|settings| settings.address),
        address_space: settings.map(|settings| settings.address_space),
        public_key: membership.record.public_key(),
        peers: configuration.map_or(0, |configuration| configuration.remotes().len()),
        clear_peers: stats.iter().filter(|peer| peer.transport == cladnet_tunnel::Transport::Clear).count(),
        epoch: configuration.map(|configuration| configuration.epoch().to_owned()).unwrap_or_default(),
        revision: configuration.map_or(0, Configuration::revision),
        volumes: volumes(stats),
    }
}

/// The remote peers of a membership, with what the device says of them.
pub(super) fn peers(membership: &Membership, stats: &[PeerStats], facts: &Facts) -> Vec<PeerStatus> {
    let Some(configuration) = &membership.configuration else { return Vec::new() };
    configuration.remotes().values().map(|remote| peer(membership, configuration, remote, stats, facts)).collect()
}

fn peer(
    membership: &Membership,
    configuration: &Configuration,
    remote: &Remote,
    stats: &[PeerStats],
    facts: &Facts,
) -> PeerStatus {
    let stats = stats.iter().find(|stats| stats.public_key.as_bytes() == &remote.public_key.0);
    let endpoint = stats.and_then(|stats| stats.endpoint);
    let known = |address| remote.endpoints.iter().find(|e| e.address == address).map(|e| e.scope);
    let scope: Option<Scope> = endpoint.and_then(|address| known(address).or_else(|| scope_of(address.ip())));
    let local = Membership::local(configuration, facts);
    let route = endpoint.and_then(|endpoint| paths::route(local, remote, endpoint));
    let transport = stats.map(|stats| transport(stats.transport));
    let policy = configuration.settings().encryption_policy;
    PeerStatus {
        network: membership.record.network.clone(),
        host: remote.host.clone(),
        name: remote.name.clone(),
        address: Some(remote.address),
        endpoint,
        scope,
        handshake_age_s: stats.and_then(|stats| stats.last_handshake).map(|age| age.as_secs()),
        sent_bytes: stats.map_or(0, |stats| stats.tx_bytes),
        received_bytes: stats.map_or(0, |stats| stats.rx_bytes),
        mtu: stats.map(|stats| stats.mtu),
        volumes: volumes(stats),
        state: remote.desired_state,
        plain: remote.plain,
        encryption: transport.map(|told| encryption(policy, route, Some(told)).to_owned()).unwrap_or_default(),
        transport: transport.map(|transport| transport.to_string()),
    }
}

/// The path to every remote peer, without round trips.
pub(super) fn paths(membership: &Membership, stats: &[PeerStats], facts: &Facts) -> Vec<PathStatus> {
    let Some(configuration) = &membership.configuration else { return Vec::new() };
    let local = Membership::local(configuration, facts);
    let path = |remote: &Remote| {
        let peer = peer(membership, configuration, remote, stats, facts);
        let seen = Measurements { in_use: peer.endpoint, ..Measurements::default() };
        let detail = paths::explain(local, remote, &seen);
        PathStatus { peer, rtt_us: None, candidates: remote.endpoints.clone(), detail }
    };
    configuration.remotes().values().map(path).collect()
}

fn transport(told: cladnet_tunnel::Transport) -> Transport {
    match told {
        cladnet_tunnel::Transport::Clear => Transport::Clear,
        cladnet_tunnel::Transport::Sealed(Obstacle::Untrusted) => Transport::Untrusted,
        cladnet_tunnel::Transport::Sealed(Obstacle::Unproved) => Transport::Unproved,
        cladnet_tunnel::Transport::Sealed(Obstacle::Unaccepted) => Transport::Unaccepted,
    }
}
