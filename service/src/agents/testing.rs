//! What the tests of this folder share: records, updates of the store made by hand, and an agent's copy of its networks
//! that checks every message as an agent must.

mod etcd;
mod replica;

use std::collections::BTreeMap;

use cladnet_model::{
    Cluster, Endpoint, EndpointSource, Host, HostFacts, HostId, Membership, Network, NetworkId, Peer, PublicKey, Scope,
    SetDigest,
    rule::{NetworkRules, RuleDraft, RulesDraft},
    tariff::{Document, Origin, TariffRecord},
};
use cladnet_proto::cladnet::v1::{Applied, MembershipConfig, RemotePeer, service_message::Message as ServiceMessage};
use cladnet_store::{AnyRecord, Batch, Change, Key, Revision, Update, Versioned, key};
use jiff::Timestamp;

pub(crate) use etcd::*;
pub(crate) use replica::*;

pub(crate) fn network_id(text: &str) -> NetworkId {
    text.parse().unwrap()
}

pub(crate) fn host_id(text: &str) -> HostId {
    text.parse().unwrap()
}

pub(crate) fn network(id: &str) -> Network {
    Network {
        id: network_id(id),
        name: id.to_owned(),
        address_space: "10.77.0.0/16".parse().unwrap(),
        description: String::new(),
        rule_type: Default::default(),
        encryption_policy: Default::default(),
        path_settings: Default::default(),
        generation: 1,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn facts(port: u16) -> HostFacts {
    let endpoint =
        Endpoint { address: ([192, 0, 2, 1], port).into(), scope: Scope::Public, source: EndpointSource::Stun };
    HostFacts { name: "vm".into(), endpoints: vec![endpoint], ..HostFacts::default() }
}

pub(crate) fn host(id: &str) -> Host {
    Host {
        id: host_id(id),
        facts: facts(8055),
        injected: Default::default(),
        identity: String::new(),
        enrolled_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn membership(network: &str, host: &str, key: u8) -> Membership {
    Membership {
        network: network_id(network),
        host: host_id(host),
        public_key: PublicKey([key; 32]),
        labels: Default::default(),
        desired_state: Default::default(),
        static_address: None,
        plain: false,
        joined_at: Timestamp::UNIX_EPOCH,
    }
}

pub(crate) fn peer(network: &str, host: &str, last: u8) -> Peer {
    Peer {
        network: network_id(network),
        host: host_id(host),
        address: Some([10, 77, 0, last].into()),
        problem: String::new(),
    }
}

/// A record on its way into the store.
pub(crate) fn put<T>(key: &Key<T>, value: AnyRecord, revision: i64) -> Change<AnyRecord> {
    let revision = Revision::from(revision);
    Change::Put(Versioned { key: key.erased(), value, created: revision, modified: revision })
}

pub(crate) fn put_network(value: Network, revision: i64) -> Change<AnyRecord> {
    put(&key::network(&value.id), AnyRecord::Network(value.clone()), revision)
}

/// Rules of a network by which nobody may, but whoever has this label.
pub(crate) fn put_rules(network: &str, label: &str, revision: i64) -> Change<AnyRecord> {
    let rule = RuleDraft {
        kind: "access".to_owned(),
        action: Some("allow".to_owned()),
        from: Some(label.to_owned()),
        ..RuleDraft::default()
    };
    put_rule(network, "deny", rule, revision)
}

/// Rules of a network by which a subnet is behind the peer with `role=gateway`.
pub(crate) fn put_advertised(network: &str, prefix: &str, revision: i64) -> Change<AnyRecord> {
    let rule = RuleDraft {
        kind: "advertise".to_owned(),
        prefix: Some(prefix.to_owned()),
        via: Some("role=gateway".to_owned()),
        ..RuleDraft::default()
    };
    put_rule(network, "allow", rule, revision)
}

/// Rules of a network by which nobody sends to the peers with `role=db` over the internet.
pub(crate) fn put_inside(network: &str, revision: i64) -> Change<AnyRecord> {
    let rule = RuleDraft {
        id: Some("inside".to_owned()),
        kind: "path".to_owned(),
        to: Some("role=db".to_owned()),
        forbid: vec!["public".to_owned()],
        ..RuleDraft::default()
    };
    put_rule(network, "allow", rule, revision)
}

fn put_rule(network: &str, default: &str, rule: RuleDraft, revision: i64) -> Change<AnyRecord> {
    let draft = RulesDraft { default_access: Some(default.to_owned()), rules: vec![rule], tests: Vec::new() };
    let rules = NetworkRules {
        network: network_id(network),
        generation: 1,
        changed_at: Timestamp::UNIX_EPOCH,
        rules: draft.check().unwrap(),
    };
    put(&key::rules(&rules.network), AnyRecord::Rules(Box::new(rules.clone())), revision)
}

pub(crate) fn put_host(value: Host, revision: i64) -> Change<AnyRecord> {
    put(&key::host(&value.id), AnyRecord::Host(Box::new(value.clone())), revision)
}

pub(crate) fn put_membership(value: Membership, revision: i64) -> Change<AnyRecord> {
    put(&key::membership(&value.network, &value.host), AnyRecord::Membership(value.clone()), revision)
}

pub(crate) fn put_peer(value: Peer, revision: i64) -> Change<AnyRecord> {
    put(&key::peer(&value.network, &value.host), AnyRecord::Peer(value.clone()), revision)
}

pub(crate) fn put_cluster(epoch: &str, revision: i64) -> Change<AnyRecord> {
    let cluster = Cluster { epoch: epoch.to_owned(), created_at: Timestamp::UNIX_EPOCH };
    put(&key::cluster(), AnyRecord::Cluster(cluster), revision)
}

pub(crate) fn put_tariff(origin: Origin, document: Document, revision: i64) -> Change<AnyRecord> {
    let record = TariffRecord { version: 1, document, changed_at: Timestamp::UNIX_EPOCH, changed_by: String::new() };
    put(&key::tariff(origin), AnyRecord::Tariff(Box::new(record)), revision)
}

pub(crate) fn batch(revision: i64, changes: Vec<Change<AnyRecord>>) -> Update<AnyRecord> {
    Update::Batch(Batch { revision: revision.into(), changes })
}

/// What an agent keeps of its networks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Copy {
    pub(crate) networks: BTreeMap<String, CopiedNetwork>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CopiedNetwork {
    pub(crate) epoch: String,
    pub(crate) revision: i64,
    pub(crate) membership: MembershipConfig,
    pub(crate) peers: BTreeMap<String, RemotePeer>,
}

impl CopiedNetwork {
    pub(crate) fn digest(&self, host: &HostId) -> SetDigest {
        let peers = self.peers.values().map(|peer| (peer.host_id.as_str(), &peer.fingerprint[..]));
        peers.collect::<SetDigest>().toggled(host.as_str(), &self.membership.fingerprint)
    }
}

impl Copy {
    /// What an agent says in its hello.
    pub(crate) fn applied(&self, host: &HostId) -> Vec<Applied> {
        let applied = |(id, network): (&String, &CopiedNetwork)| Applied {
            network_id: id.clone(),
            epoch: network.epoch.clone(),
            revision: network.revision,
            count: u32::try_from(network.peers.len()).unwrap(),
            digest: network.digest(host).as_bytes().to_vec(),
            ..Applied::default()
        };
        self.networks.iter().map(applied).collect()
    }

    /// Applies a message, or says why an agent must refuse it.
    pub(crate) fn apply(&mut self, host: &HostId, message: ServiceMessage) -> Result<(), String> {
        match message {
            ServiceMessage::Snapshot(snapshot) => {
                let membership = snapshot.membership.ok_or("snapshot without a membership")?;
                let id = membership.network_id.clone();
                let old = self.networks.get(&id);
                if old.is_some_and(|old| old.epoch == snapshot.epoch && old.revision > snapshot.revision) {
                    return Err(format!("snapshot of {id} goes back to {}", snapshot.revision));
                }
                let network = CopiedNetwork {
                    epoch: snapshot.epoch,
                    revision: snapshot.revision,
                    membership,
                    peers: snapshot.peers.into_iter().map(|peer| (peer.host_id.clone(), peer)).collect(),
                };
                self.check(host, &network, snapshot.count, &snapshot.digest)?;
                self.networks.insert(id, network);
            }
            ServiceMessage::TariffBook(_) => {}
            ServiceMessage::Delta(delta) => {
                let mut network = self.networks.get(&delta.network_id).ok_or("delta without a base")?.clone();
                if (network.revision, &network.epoch) != (delta.base_revision, &delta.epoch) {
                    return Err(format!("delta from {} onto {}", delta.base_revision, network.revision));
                }
                if delta.revision <= delta.base_revision {
                    return Err("delta that does not go on".to_owned());
                }
                network.revision = delta.revision;
                network.membership = delta.membership.unwrap_or(network.membership);
                delta.removals.iter().for_each(|gone| drop(network.peers.remove(gone)));
                network.peers.extend(delta.upserts.into_iter().map(|peer| (peer.host_id.clone(), peer)));
                self.check(host, &network, delta.count, &delta.digest)?;
                self.networks.insert(delta.network_id, network);
            }
            ServiceMessage::Ended(ended) => drop(self.networks.remove(&ended.network_id)),
            ServiceMessage::Welcome(_)
            | ServiceMessage::Command(_)
            | ServiceMessage::Pong(())
            | ServiceMessage::UsageTaken(_) => {}
        }
        Ok(())
    }

    fn check(&self, host: &HostId, network: &CopiedNetwork, count: u32, digest: &[u8]) -> Result<(), String> {
        if network.peers.contains_key(host.as_str()) {
            return Err("the host is its own peer".to_owned());
        }
        if u32::try_from(network.peers.len()) != Ok(count) {
            return Err(format!("{} peers, {count} announced", network.peers.len()));
        }
        if network.digest(host).as_bytes() != digest {
            return Err("the digest does not match".to_owned());
        }
        Ok(())
    }
}
