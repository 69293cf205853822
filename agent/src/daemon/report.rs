//! What is told of the daemon's state. Pure.

use std::collections::BTreeMap;

use cladnet_model::{
    Scope,
    path::{Candidate, Measurements, Transport, summary},
};
use cladnet_tunnel::{Obstacle, PeerStats, PublicKey};

use super::membership::Membership;
use super::volumes::volumes;
use crate::{
    configuration::{Configuration, Remote},
    control::protocol::{CandidateStatus, NetworkStatus, PathStatus, PeerStatus, ProbedStatus},
    facts::{Facts, endpoints::scope_of},
    paths::{self, Local},
    probing::{Measured, Probed},
};

/// What the device says of a membership's peers.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub stats: Vec<PeerStats>,
    pub measured: BTreeMap<PublicKey, Measured>,
}

impl Told {
    fn measured(&self, remote: &Remote) -> Option<&Measured> {
        self.measured.get(&PublicKey::from_bytes(remote.public_key.0))
    }
}

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
        saved: !membership.unsaved,
        volumes: volumes(stats),
    }
}

/// The remote peers of a membership, with what the device says of them.
pub(super) fn peers(membership: &Membership, told: &Told, facts: &Facts) -> Vec<PeerStatus> {
    let Some(configuration) = &membership.configuration else { return Vec::new() };
    configuration.remotes().values().map(|remote| peer(membership, configuration, remote, told, facts)).collect()
}

fn peer(
    membership: &Membership,
    configuration: &Configuration,
    remote: &Remote,
    told: &Told,
    facts: &Facts,
) -> PeerStatus {
    let stats = told.stats.iter().find(|stats| stats.public_key.as_bytes() == &remote.public_key.0);
    let endpoint = stats.and_then(|stats| stats.endpoint);
    let known = |address| remote.endpoints.iter().find(|e| e.address == address).map(|e| e.scope);
    let scope: Option<Scope> = endpoint.and_then(|address| known(address).or_else(|| scope_of(address.ip())));
    let local = membership.local(configuration, facts, remote);
    let route = endpoint.and_then(|endpoint| paths::route(&local, remote, endpoint));
    let transport = stats.map(|stats| transport(stats.transport));
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
        encryption: transport.map(|told| local.policy.encryption.sentence(route, Some(told))).unwrap_or_default(),
        transport: transport.map(|transport| transport.to_string()),
        no_path: no_path(&local, remote, told.measured(remote)),
        probed: told.measured(remote).iter().flat_map(|measured| &measured.probed).map(probed).collect(),
    }
}

/// Why nothing is sent to a peer, or nothing that is sent is likely to arrive.
fn no_path(local: &Local<'_>, remote: &Remote, measured: Option<&Measured>) -> Option<String> {
    let measured = measured?;
    match measured.seen.in_use {
        None => Some(summary(&paths::ranked(local, remote, &measured.observed, &measured.seen))),
        Some(_) if measured.is_silent() => Some("no endpoint answers".into()),
        Some(_) => None,
    }
}

fn probed(probed: &Probed) -> ProbedStatus {
    ProbedStatus {
        endpoint: probed.endpoint,
        state: probed.state.to_string(),
        rtt_us: probed.rtt.map(|rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
        loss_permille: probed.loss_permille,
        answered_ms: probed.answered.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// The path to every remote peer, with the round trip that probes have measured.
pub(super) fn paths(membership: &Membership, told: &Told, facts: &Facts) -> Vec<PathStatus> {
    let Some(configuration) = &membership.configuration else { return Vec::new() };
    let path = |remote: &Remote| {
        let peer = peer(membership, configuration, remote, told, facts);
        let local = membership.local(configuration, facts, remote);
        let (mut seen, observed) = match told.measured(remote) {
            Some(measured) => (measured.seen.clone(), measured.observed.as_slice()),
            None => (Measurements::default(), [].as_slice()),
        };
        seen.in_use = peer.endpoint;
        let ranked = paths::ranked(&local, remote, observed, &seen);
        let detail = summary(&ranked);
        let rtt = peer.endpoint.and_then(|endpoint| seen.rtt(endpoint));
        let rtt_us = rtt.map(|rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        PathStatus {
            peer,
            rtt_us,
            candidates: paths::with_observed(&remote.endpoints, observed),
            known: ranked.iter().map(|ranked| known(&ranked.candidate, &seen)).collect(),
            tariff_version: membership.prices.book.version().to_owned(),
            detail,
        }
    };
    configuration.remotes().values().map(path).collect()
}

/// What the ranking goes by.
fn known(candidate: &Candidate, seen: &Measurements) -> CandidateStatus {
    let address = candidate.endpoint.address;
    CandidateStatus {
        address,
        reach: seen.reach(address),
        rtt_us: seen.rtt(address).map(|rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
        loss_permille: seen.loss_permille(address),
        price_per_gb: candidate.price,
    }
}

fn transport(told: cladnet_tunnel::Transport) -> Transport {
    match told {
        cladnet_tunnel::Transport::Clear => Transport::Clear,
        cladnet_tunnel::Transport::Sealed(Obstacle::Untrusted) => Transport::Untrusted,
        cladnet_tunnel::Transport::Sealed(Obstacle::Unproved) => Transport::Unproved,
        cladnet_tunnel::Transport::Sealed(Obstacle::Unaccepted) => Transport::Unaccepted,
    }
}
