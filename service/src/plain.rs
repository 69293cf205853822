//! Plain peers: machines that run WireGuard without the agent. Their private key stays with them; we keep its public half.

use std::{net::SocketAddr, time::Duration};

use cladnet_model::{
    Endpoint, EndpointSource, Host, HostFacts, HostId, Labels, Membership, NetworkId, Peer, PublicKey, PublicKeyOwner,
    Scope, space,
};
use cladnet_proto::cladnet::v1::PlainPeerRemote;
use cladnet_store::{Revision, StoreError, key};

use crate::{Service, error::CallError, events::Note};

/// How long the answer waits for the controller to give an address: the machine's configuration needs it.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);

/// A plain peer to be made; its fields were checked.
#[derive(Debug, Clone)]
pub(crate) struct PlainPeer {
    pub(crate) name: String,
    pub(crate) public_key: PublicKey,
    pub(crate) labels: Labels,
    /// Where agents reach it, if it has a fixed place.
    pub(crate) endpoint: Option<SocketAddr>,
}

impl Service {
    /// Makes host and membership of a plain peer, and waits a moment for its address. One that is there already just so
    /// is found instead: its machine wants to know its remotes anew. Says at which revision it was there.
    pub(crate) async fn create_plain_peer(
        &self,
        network: &NetworkId,
        peer: PlainPeer,
        actor: &str,
    ) -> Result<(HostId, Revision), CallError> {
        let record = self.network(network).await?;
        if let Some(found) = self.same_plain_peer(network, &peer).await? {
            return Ok(found);
        }
        if let Some(address) = peer.endpoint {
            let overlays: Vec<_> = self.every_network().await?.iter().map(|network| network.address_space).collect();
            cladnet_model::endpoint::check(&endpoint(address), &overlays)
                .map_err(|fault| CallError::invalid("endpoint", format!("cannot be used: {fault}")))?;
        }
        let members = self.store.count(&key::memberships(network)).await?;
        if members >= usize::try_from(space::capacity(record.value.address_space)).unwrap_or(usize::MAX) {
            return Err(CallError::Precondition(format!(
                "network {network} is full: {} has room for {members} peers; grow its address space",
                record.value.address_space
            )));
        }
        let host = HostId::generate(rand::random());
        let now = self.clock.now();
        let host_record = Host {
            id: host.clone(),
            facts: HostFacts {
                name: peer.name.clone(),
                endpoints: peer.endpoint.map(endpoint).into_iter().collect(),
                ..HostFacts::default()
            },
            injected: cladnet_model::CloudLocation::default(),
            identity: String::new(),
            enrolled_at: now,
        };
        let membership = Membership {
            network: network.clone(),
            host: host.clone(),
            public_key: peer.public_key,
            labels: peer.labels,
            desired_state: cladnet_model::DesiredState::Up,
            static_address: None,
            plain: true,
            joined_at: now,
        };
        let owner = PublicKeyOwner { network: network.clone(), host: host.clone(), token: None };
        let transaction = self
            .store
            .transaction()
            .absent(&key::public_key(&peer.public_key))
            .exists(&record.key)
            .put(&key::host(&host), &host_record)
            .put(&key::membership(network, &host), &membership)
            .put(&key::public_key(&peer.public_key), &owner);
        let message = format!("plain peer {} joined network {network}", peer.name);
        let note = Note { kind: "peer.joined", network: Some(network), host: Some(&host), actor, message };
        match self.note(transaction, note).commit().await {
            Ok(revision) => {
                // Whoever asked sees from the answer whether there is an address.
                self.agents.await_address(network, &host, ADDRESS_WAIT).await;
                Ok((host, revision))
            }
            Err(StoreError::Conflict { .. }) => Err(self.why_refused(network, &peer.public_key).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// The plain peer with this key and name, and since when; an endpoint or labels that are named must be its own.
    async fn same_plain_peer(
        &self,
        network: &NetworkId,
        peer: &PlainPeer,
    ) -> Result<Option<(HostId, Revision)>, CallError> {
        let owner = self.store.get(&key::public_key(&peer.public_key)).await?;
        let Some(owner) = owner.filter(|owner| owner.value.network == *network) else { return Ok(None) };
        let row = match self.peer(network, &owner.value.host).await {
            Ok(row) => row,
            Err(CallError::NotFound(_)) => return Ok(None), // it goes at this moment
            Err(error) => return Err(error),
        };
        let has = |address: SocketAddr| row.host.facts.endpoints.contains(&endpoint(address));
        let is_same = row.membership.plain
            && row.name() == peer.name
            && peer.endpoint.is_none_or(has)
            && (peer.labels.is_empty() || peer.labels == row.membership.labels);
        Ok(is_same.then_some((owner.value.host, owner.modified)))
    }

    async fn why_refused(&self, network: &NetworkId, public_key: &PublicKey) -> Result<CallError, CallError> {
        self.network(network).await?;
        Ok(match self.store.get(&key::public_key(public_key)).await? {
            Some(owner) => {
                let PublicKeyOwner { network, host, .. } = owner.value;
                CallError::exists("public_key", format!("is that of {host} in network {network}; make a new key pair"))
            }
            None => CallError::Conflict("somebody else used the key at the same moment; repeat the call".to_owned()),
        })
    }
}

/// What a plain machine needs to know of another peer, once that has an address.
pub(crate) fn remote(host: &Host, membership: &Membership, peer: &Peer) -> Option<PlainPeerRemote> {
    let endpoints = &host.facts.endpoints;
    let public = endpoints.iter().find(|endpoint| endpoint.scope == Scope::Public);
    let endpoint = public.or_else(|| endpoints.iter().find(|endpoint| endpoint.scope == Scope::PublicV6));
    Some(PlainPeerRemote {
        host_name: host.facts.name.clone(),
        public_key: membership.public_key.to_string(),
        allowed_ips: vec![format!("{}/32", peer.address?)],
        endpoint: endpoint.or(endpoints.first()).map(|endpoint| endpoint.address.to_string()).unwrap_or_default(),
    })
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let scope = match address {
        SocketAddr::V4(v4) if v4.ip().is_private() => Scope::Private,
        SocketAddr::V4(_) => Scope::Public,
        SocketAddr::V6(_) => Scope::PublicV6,
    };
    Endpoint { address, scope, source: EndpointSource::Operator }
}
