//! Peers: memberships with everything that is known of them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use cladnet_model::{CloudLocation, Hold, Host, HostId, Labels, Membership, MembershipStatus, NetworkId, Peer, space};
use cladnet_proto::{
    cladnet::v1,
    convert::{self, PeerRecords},
};
use cladnet_store::{AnyKey, StoreError, Transaction, Versioned, key};

use crate::{Service, error::CallError, events::Note, networks::TRIES};

/// A membership with the records around it.
pub(crate) struct PeerRow {
    pub(crate) membership: Membership,
    pub(crate) host: Host,
    pub(crate) peer: Option<Peer>,
    pub(crate) status: Option<MembershipStatus>,
    /// The host's, from all sources.
    pub(crate) location: CloudLocation,
    pub(crate) online: bool,
}

impl PeerRow {
    /// As the API shows it.
    pub(crate) fn wire(&self) -> v1::Peer {
        convert::peer(PeerRecords {
            membership: &self.membership,
            host: &self.host,
            peer: self.peer.as_ref(),
            status: self.status.as_ref(),
            location: &self.location,
            online: self.online,
        })
    }

    /// Its overlay address, once the controller has given one.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.peer.as_ref()?.address
    }

    pub(crate) fn id(&self) -> &HostId {
        &self.membership.host
    }

    pub(crate) fn name(&self) -> &str {
        &self.host.facts.name
    }
}

/// Finds the peer that a person means: by its host's id, else by its host's name if only one has it. `field` is where the
/// person wrote it.
pub(crate) fn find<'a>(
    peers: &'a [PeerRow],
    network: &NetworkId,
    field: &str,
    text: &str,
) -> Result<&'a PeerRow, CallError> {
    if let Some(peer) = peers.iter().find(|peer| peer.id().as_str() == text) {
        return Ok(peer);
    }
    let named: Vec<&PeerRow> = peers.iter().filter(|peer| peer.name() == text).collect();
    match named[..] {
        [] if text.is_empty() => Err(CallError::invalid(field, "is empty; give a host's id or name")),
        [] => Err(CallError::missing(field, format!("network {network} has no peer {text:?}"))),
        [peer] => Ok(peer),
        [..] => {
            let ids = named.iter().map(|peer| peer.id().as_str()).collect::<Vec<_>>().join(", ");
            Err(CallError::invalid(field, format!("is {text:?}, the name of several hosts; give an id: {ids}")))
        }
    }
}

/// Changes that [`Service::update_peer`] makes; what is absent stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerUpdate {
    pub(crate) labels: Option<Labels>,
    /// The address to ask for; `Some(None)` asks for no certain one any more.
    pub(crate) static_address: Option<Option<Ipv4Addr>>,
}

impl Service {
    /// Every peer of a network, by host id; the network must be there.
    pub(crate) async fn peers(&self, network: &NetworkId) -> Result<Vec<PeerRow>, CallError> {
        self.network(network).await?;
        let members = self.store.list(&key::memberships(network)).await?.items;
        let mut hosts = self.hosts_of(&members).await?;
        let mut peers: BTreeMap<HostId, Peer> = BTreeMap::new();
        for peer in self.store.list(&key::peers(network)).await?.items {
            peers.insert(peer.value.host.clone(), peer.value);
        }
        let mut statuses: BTreeMap<HostId, MembershipStatus> = BTreeMap::new();
        for status in self.store.list(&key::statuses(network)).await?.items {
            if let AnyKey::Status(_, host) = status.key.parse() {
                statuses.insert(host, status.value);
            }
        }
        let online = self.online().await?;
        let row = |membership: Versioned<Membership>| {
            let membership = membership.value;
            let host = hosts.remove(&membership.host)?;
            Some(PeerRow {
                peer: peers.remove(&membership.host),
                status: statuses.remove(&membership.host),
                location: host.location(),
                online: online.contains(&membership.host),
                host,
                membership,
            })
        };
        Ok(members.into_iter().filter_map(row).collect())
    }

    /// One peer, or that there is none.
    pub(crate) async fn peer(&self, network: &NetworkId, host: &HostId) -> Result<PeerRow, CallError> {
        let membership = self.membership(network, host).await?.value;
        let host_record = self.host(host).await?.value;
        Ok(PeerRow {
            peer: self.store.get(&key::peer(network, host)).await?.map(|peer| peer.value),
            status: self.store.get(&key::status(network, host)).await?.map(|status| status.value),
            location: host_record.location(),
            online: self.store.get(&key::presence(host)).await?.is_some(),
            host: host_record,
            membership,
        })
    }

    /// The membership, or what of it is missing.
    pub(crate) async fn membership(
        &self,
        network: &NetworkId,
        host: &HostId,
    ) -> Result<Versioned<Membership>, CallError> {
        match self.store.get(&key::membership(network, host)).await? {
            Some(membership) => Ok(membership),
            None => {
                self.network(network).await?;
                Err(CallError::NotFound(format!("network {network} has no peer {host}")))
            }
        }
    }

    /// Changes what an admin decides of a peer.
    pub(crate) async fn update_peer(
        &self,
        network: &NetworkId,
        host: &HostId,
        update: &PeerUpdate,
        actor: &str,
    ) -> Result<Membership, CallError> {
        for _ in 0..TRIES {
            let current = self.membership(network, host).await?;
            let mut changed = current.value.clone();
            let mut transaction = self.store.transaction();
            if let Some(labels) = &update.labels {
                changed.labels.clone_from(labels);
            }
            if let Some(address) = update.static_address {
                if let Some(address) = address.filter(|address| changed.static_address != Some(*address)) {
                    transaction = self.claim_address(transaction, network, host, address).await?;
                }
                changed.static_address = address;
            }
            if changed == current.value {
                return Ok(changed);
            }
            match self.change_peer(transaction, &current, &changed, actor).commit().await {
                Ok(_) => return Ok(changed),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("peer {host} keeps changing at the same moment; repeat the call")))
    }

    /// Adds the change of a membership, if nobody else changes it, and its event.
    pub(crate) fn change_peer(
        &self,
        transaction: Transaction,
        current: &Versioned<Membership>,
        changed: &Membership,
        actor: &str,
    ) -> Transaction {
        let (network, host) = (Some(&changed.network), Some(&changed.host));
        let message = differences(&current.value, changed);
        let transaction = transaction.unchanged(&current.key, current.modified).put(&current.key, changed);
        self.note(transaction, Note { kind: "peer.updated", network, host, actor, message })
    }

    /// Adds a host's claim to an address that is inside the network and nobody else's. It rewrites the network's record: of
    /// two claims the second is looked at again, a new address space counts the first, and what the controller has planned
    /// without it is refused.
    async fn claim_address(
        &self,
        transaction: Transaction,
        network: &NetworkId,
        host: &HostId,
        address: Ipv4Addr,
    ) -> Result<Transaction, CallError> {
        let Versioned { key: record_key, value: record, modified, .. } = self.network(network).await?;
        if !space::is_usable(record.address_space, address) {
            let space = record.address_space;
            return Err(CallError::invalid(
                "ipv4_address",
                format!("is {address}, which no host of {space} can have; choose one inside, not its first or last"),
            ));
        }
        let taken = |why: &str, by: &HostId| {
            Err(CallError::exists("ipv4_address", format!("is {address}, which {why} {by}; choose another")))
        };
        let allocation_key = key::allocation(network, address);
        let transaction = match self.store.get(&allocation_key).await? {
            None => transaction.absent(&allocation_key),
            Some(own) if own.value.host == *host => transaction.unchanged(&allocation_key, own.modified),
            Some(held) if held.value.hold == Hold::Held => return taken("belongs to", &held.value.host),
            Some(left) => return taken("was left a moment ago by", &left.value.host),
        };
        let members = self.store.list(&key::memberships(network)).await?.complete()?;
        let mut others = members.iter().map(|member| &member.value).filter(|member| member.host != *host);
        if let Some(other) = others.find(|member| member.static_address == Some(address)) {
            return taken("was asked for already by", &other.host);
        }
        Ok(transaction.unchanged(&record_key, modified).put(&record_key, &record))
    }

    /// Ends a membership, and a plain machine's record with it: it stood for this membership only.
    pub(crate) async fn remove_peer(&self, network: &NetworkId, host: &HostId, actor: &str) -> Result<(), CallError> {
        let current = self.membership(network, host).await?;
        if current.value.plain {
            return self.agents.remove_host(host, actor).await;
        }
        self.agents.remove_membership(current, actor).await
    }
}

/// What an event says of a change.
fn differences(before: &Membership, after: &Membership) -> String {
    let mut differences = Vec::new();
    if before.labels != after.labels {
        differences.push("labels".to_owned());
    }
    match after.static_address {
        address if address == before.static_address => {}
        Some(address) => differences.push(format!("asks for {address}")),
        None => differences.push("asks for no certain address any more".to_owned()),
    }
    if before.desired_state != after.desired_state {
        differences.push(format!("is to be {}", after.desired_state));
    }
    format!("peer {} changed: {}", after.host, differences.join(", "))
}
