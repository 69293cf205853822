//! What plain machines are told, which have no stream: once, from the view, so that a thousand of them that are made at once
//! do not read a thousand peers each from the store.

use std::time::Duration;

use cladnet_model::{HostId, NetworkId};
use cladnet_proto::cladnet::v1::PlainPeerRemote;
use cladnet_store::Revision;
use tokio::time::timeout;

use super::{Agents, Shared};
use crate::{error::CallError, plain::remote};

impl Agents {
    /// Waits until this replica has heard that the controller gave the host an address; at most for `limit`.
    pub(crate) async fn await_address(&self, network: &NetworkId, host: &HostId, limit: Duration) {
        let mut revisions = self.shared.revision.subscribe();
        let given = async { while !self.shared.has_address(network, host) && revisions.changed().await.is_ok() {} };
        let _ = timeout(limit, given).await;
    }

    /// Every other peer that has an address, at `revision` or later.
    pub(crate) async fn remotes(
        &self,
        network: &NetworkId,
        of: &HostId,
        revision: Revision,
    ) -> Result<Vec<PlainPeerRemote>, CallError> {
        self.shared.reached(revision.get()).await?;
        let view = self.shared.view();
        let Some(state) = view.network(network) else { return Ok(Vec::new()) };
        let others = state.members().filter(|host| *host != of);
        Ok(others.filter_map(|host| remote(&view.host(host)?.0, state.membership(host)?, state.peer(host)?)).collect())
    }
}

impl Shared {
    fn has_address(&self, network: &NetworkId, host: &HostId) -> bool {
        let view = self.view();
        view.network(network).and_then(|state| state.peer(host)).is_some_and(|peer| peer.address.is_some())
    }
}

#[cfg(test)]
mod tests {
    use cladnet_model::{Membership, PublicKey, PublicKeyOwner};
    use cladnet_store::key;

    use crate::{
        agents::testing::{Etcd, host, host_id, membership, network_id},
        plain::PlainPeer,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_plain_peer_is_told_its_remotes_whatever_others_write_into_the_same_etcd() {
        let etcd = Etcd::start().await;
        let house = etcd.house().await;
        house.create_network("n").await;
        let replica = house.replica().await;
        let (network, id, public_key) = (network_id("n"), host_id("host-a"), PublicKey([1; 32]));
        let plain = Membership { plain: true, ..membership("n", "host-a", 1) };
        let owner = PublicKeyOwner { network: network.clone(), host: id.clone(), token: None };
        house.store.put(&key::host(&id), &host("host-a")).await.unwrap();
        house.store.put(&key::membership(&network, &id), &plain).await.unwrap();
        let there = house.store.put(&key::public_key(&public_key), &owner).await.unwrap();
        replica.shared().reached(there.get()).await.unwrap();
        etcd.write_elsewhere().await;

        let peer = PlainPeer { name: "vm".to_owned(), public_key, labels: Default::default(), endpoint: None };
        let (found, revision) = replica.service.create_plain_peer(&network, peer, "test").await.unwrap();
        assert_eq!(found, id);
        assert!(replica.agents.remotes(&network, &id, revision).await.unwrap().is_empty());
    }
}
