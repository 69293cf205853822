//! A service of one network, for tests: what it holds, and how it tells it.

use std::collections::BTreeMap;

use cladnet_model::{HostId, NetworkId, SetDigest};
use cladnet_proto::cladnet::v1::{AgentEndpoint, Delta, MembershipConfig, RemotePeer, Snapshot};

use super::Configuration;

pub(crate) const EPOCH: &str = "epoch-1";

pub(crate) fn host() -> HostId {
    "host-us".parse().expect("id")
}

pub(crate) fn network() -> NetworkId {
    "prod".parse().expect("id")
}

/// What a service holds of one network, and how it tells it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) epoch: String,
    pub(crate) revision: i64,
    pub(crate) membership: MembershipConfig,
    pub(crate) peers: BTreeMap<String, RemotePeer>,
}

impl Service {
    pub(crate) fn new() -> Self {
        let membership = MembershipConfig {
            network_id: network().to_string(),
            network_name: "Production".into(),
            ipv4_address_space: "10.77.0.0/16".into(),
            ipv4_address: "10.77.0.1".into(),
            rule_type: "cost-prioritized".into(),
            encryption_policy: "always".into(),
            desired_state: "up".into(),
            generation: 1,
            location: None,
            fingerprint: vec![1],
            ..MembershipConfig::default()
        };
        Self { epoch: EPOCH.into(), revision: 1, membership, peers: BTreeMap::new() }
    }

    pub(crate) fn with(mut self, hosts: impl IntoIterator<Item = u8>) -> Self {
        hosts.into_iter().for_each(|host| self.put(host, 1));
        self
    }

    pub(crate) fn put(&mut self, host: u8, content: u8) {
        let peer = peer(host, content);
        self.peers.insert(peer.host_id.clone(), peer);
    }

    fn digest(&self) -> SetDigest {
        let peers = self.peers.iter().map(|(id, peer)| (id.as_str(), peer.fingerprint.as_slice()));
        peers.collect::<SetDigest>().toggled(host().as_str(), &self.membership.fingerprint)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            epoch: self.epoch.clone(),
            revision: self.revision,
            membership: Some(self.membership.clone()),
            peers: self.peers.values().cloned().collect(),
            count: self.peers.len() as u32,
            digest: self.digest().as_bytes().to_vec(),
        }
    }

    /// What leads from `base` here.
    pub(crate) fn delta_from(&self, base: &Self) -> Delta {
        let changed = |(id, peer): &(&String, &RemotePeer)| base.peers.get(*id) != Some(peer);
        Delta {
            epoch: self.epoch.clone(),
            network_id: network().to_string(),
            base_revision: base.revision,
            revision: self.revision,
            membership: (self.membership != base.membership).then(|| self.membership.clone()),
            upserts: self.peers.iter().filter(changed).map(|(_, peer)| peer.clone()).collect(),
            removals: base.peers.keys().filter(|id| !self.peers.contains_key(*id)).cloned().collect(),
            count: self.peers.len() as u32,
            digest: self.digest().as_bytes().to_vec(),
        }
    }

    pub(crate) fn taken(&self) -> Configuration {
        Configuration::from_snapshot(&host(), &network(), None, self.snapshot()).expect("a good snapshot")
    }
}

/// A usable peer, the same for the same numbers.
pub(crate) fn peer(host: u8, content: u8) -> RemotePeer {
    RemotePeer {
        host_id: format!("host-{host}"),
        host_name: format!("vm-{host}"),
        ipv4_address: format!("10.77.1.{host}"),
        public_key: vec![host.max(1); 32],
        endpoints: vec![AgentEndpoint {
            address: format!("203.0.113.{host}:{}", 1000 + u32::from(content)),
            scope: "public".into(),
            source: "stun".into(),
        }],
        location: None,
        desired_state: "up".into(),
        labels: BTreeMap::new(),
        plain: false,
        fingerprint: vec![host, content],
        ..RemotePeer::default()
    }
}
