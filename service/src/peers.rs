//! Peers: memberships with everything that is known of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use cladnet_model::{
    Allocation, CloudLocation, Hold, Host, HostId, Labels, Membership, MembershipStatus, NetworkId, Peer, PeerState,
    TokenId, end_of_quarantine, space, validate::Checks,
};
use cladnet_proto::{
    cladnet::v1,
    convert::{self, PeerRecords},
};
use cladnet_store::{AnyKey, Listing, StoreError, Transaction, Undecodable, Versioned, key};

use crate::{
    Service,
    control::{Outcome, PeerOutcome},
    error::CallError,
    events::Note,
    hosts::why_unreadable,
    networks::TRIES,
};

/// A membership with the records around it.
pub(crate) struct PeerRow {
    pub(crate) membership: Membership,
    pub(crate) host: Host,
    pub(crate) peer: Option<Peer>,
    pub(crate) status: Option<MembershipStatus>,
    /// The host's, from all sources.
    pub(crate) location: CloudLocation,
    pub(crate) online: bool,
    /// As [`cladnet_model::PublicKeyOwner::token`]; not looked up for lists.
    pub(crate) shown_token: Option<TokenId>,
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
            shown_token: self.shown_token.as_ref(),
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

/// The peers of a network, by host id. One with a record that cannot be read is there all the same.
pub(crate) struct Peers {
    pub(crate) rows: Vec<PeerRow>,
    pub(crate) unreadable: Vec<UnreadablePeer>,
}

/// A peer of which too little is known to do anything with it.
pub(crate) struct UnreadablePeer {
    pub(crate) host: HostId,
    /// Its host's; empty if it is the host's record that cannot be read.
    pub(crate) name: String,
    record: Undecodable,
}

impl UnreadablePeer {
    /// For people.
    pub(crate) fn detail(&self) -> String {
        why_unreadable(&self.record)
    }

    /// As the API shows it.
    pub(crate) fn wire(&self, network: &NetworkId) -> v1::Peer {
        v1::Peer {
            network_id: network.to_string(),
            host_id: self.host.to_string(),
            host_name: self.name.clone(),
            state: PeerState::Failed.to_string(),
            state_reason: self.detail(),
            ..v1::Peer::default()
        }
    }

    fn is(&self, text: &str) -> bool {
        self.host.as_str() == text || (self.name == text && !text.is_empty())
    }
}

impl Peers {
    /// As the API shows them.
    pub(crate) fn wire(&self, network: &NetworkId) -> Vec<v1::Peer> {
        let unreadable = self.unreadable.iter().map(|peer| peer.wire(network));
        let mut peers: Vec<v1::Peer> = self.rows.iter().map(PeerRow::wire).chain(unreadable).collect();
        peers.sort_unstable_by(|one, other| one.host_id.cmp(&other.host_id));
        peers
    }

    /// What becomes of a command to those that cannot be read.
    pub(crate) fn unreadable_outcomes(&self) -> Vec<PeerOutcome> {
        let outcome = |peer: &UnreadablePeer| PeerOutcome {
            host: peer.host.clone(),
            name: peer.name.clone(),
            outcome: Outcome::Failed,
            detail: peer.detail(),
        };
        self.unreadable.iter().map(outcome).collect()
    }
}

/// Finds the peer that a person means: by its host's id, else by its host's name if only one has it. `field` is where the
/// person wrote it.
pub(crate) fn find<'a>(
    peers: &'a Peers,
    network: &NetworkId,
    field: &str,
    text: &str,
) -> Result<&'a PeerRow, CallError> {
    if let Some(peer) = peers.rows.iter().find(|peer| peer.id().as_str() == text) {
        return Ok(peer);
    }
    if let Some(UnreadablePeer { record, .. }) = peers.unreadable.iter().find(|peer| peer.is(text)) {
        return Err(StoreError::Decode { key: record.key.clone(), source: record.error.clone() }.into());
    }
    let named: Vec<&PeerRow> = peers.rows.iter().filter(|peer| peer.name() == text).collect();
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
    pub(crate) labels: Option<LabelUpdate>,
    /// The address to ask for; `Some(None)` asks for no certain one any more.
    pub(crate) static_address: Option<Option<Ipv4Addr>>,
}

/// What becomes of a peer's labels.
#[derive(Debug, Clone)]
pub(crate) enum LabelUpdate {
    Replace(Labels),
    /// Others stay.
    Change {
        add: Labels,
        remove: BTreeSet<String>,
    },
}

impl LabelUpdate {
    fn of(&self, before: &Labels) -> Result<Labels, CallError> {
        let labels = match self {
            Self::Replace(labels) => labels.clone(),
            Self::Change { add, remove } => {
                let left = before.iter().filter(|(name, _)| !remove.contains(*name));
                left.chain(add).map(|(name, value)| (name.clone(), value.clone())).collect()
            }
        };
        let mut checks = Checks::default();
        checks.labels("labels", &labels);
        checks.finish()?;
        Ok(labels)
    }
}

impl Service {
    /// Every peer of a network; the network must be there.
    pub(crate) async fn peers(&self, network: &NetworkId) -> Result<Peers, CallError> {
        self.network(network).await?;
        let mut damaged = BTreeMap::new();
        let memberships = by_host(self.store.list(&key::memberships(network)).await?, &mut damaged);
        let mut hosts = by_host(self.store.list(&key::hosts()).await?, &mut damaged);
        let mut peers = by_host(self.store.list(&key::peers(network)).await?, &mut damaged);
        let mut statuses = by_host(self.store.list(&key::statuses(network)).await?, &mut damaged);
        let online = self.online().await?;
        // Hosts of other networks, and what is left of members that are gone, are nobody's here.
        damaged.retain(|host, record: &mut Undecodable| {
            memberships.contains_key(host) || matches!(AnyKey::parse(&record.key), AnyKey::Membership(..))
        });
        let unreadable = |(host, record): (&HostId, &Undecodable)| UnreadablePeer {
            host: host.clone(),
            name: hosts.get(host).map(|record| record.facts.name.clone()).unwrap_or_default(),
            record: record.clone(),
        };
        let unreadable = damaged.iter().map(unreadable).collect();
        let row = |(id, membership)| {
            let host: Host = hosts.remove(&id)?;
            Some(PeerRow {
                peer: peers.remove(&id),
                status: statuses.remove(&id),
                location: host.location(),
                online: online.contains(&id),
                host,
                membership,
                shown_token: None,
            })
        };
        let readable = memberships.into_iter().filter(|(host, _)| !damaged.contains_key(host));
        Ok(Peers { rows: readable.filter_map(row).collect(), unreadable })
    }

    /// One peer, or that there is none.
    pub(crate) async fn peer(&self, network: &NetworkId, host: &HostId) -> Result<PeerRow, CallError> {
        let membership = self.membership(network, host).await?.value;
        let host_record = self.host(host).await?.value;
        let owner = self.store.get(&key::public_key(&membership.public_key)).await?;
        Ok(PeerRow {
            peer: self.store.get(&key::peer(network, host)).await?.map(|peer| peer.value),
            status: self.store.get(&key::status(network, host)).await?.map(|status| status.value),
            location: host_record.location(),
            online: self.store.get(&key::presence(host)).await?.is_some(),
            host: host_record,
            membership,
            shown_token: owner.and_then(|owner| owner.value.token),
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
                changed.labels = labels.of(&current.value.labels)?;
                if changed.labels != current.value.labels {
                    transaction = self.check_labels(transaction, &changed).await?;
                }
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
        let refused = |why: String| Err(CallError::exists("ipv4_address", format!("is {address}, which {why}")));
        let taken = |why: &str, by: &HostId| refused(format!("{why} {by}; choose another"));
        let allocation_key = key::allocation(network, address);
        let transaction = match self.store.get(&allocation_key).await? {
            None => transaction.absent(&allocation_key),
            Some(own) if own.value.host == *host => transaction.unchanged(&allocation_key, own.modified),
            Some(Versioned { value: Allocation { host, hold, .. }, modified, .. }) => match hold {
                Hold::Held => return taken("belongs to", &host),
                Hold::Quarantined { since } if end_of_quarantine(since) > self.clock.now() => {
                    let until = end_of_quarantine(since);
                    return refused(format!(
                        "is kept back until {until} because {host} has left; ask for it then, or choose another"
                    ));
                }
                Hold::Quarantined { .. } => transaction.unchanged(&allocation_key, modified),
            },
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

/// The records of a listing by the host that their keys name; `damaged` gets those that cannot be read, the first of each
/// host.
fn by_host<T>(listing: Listing<T>, damaged: &mut BTreeMap<HostId, Undecodable>) -> BTreeMap<HostId, T> {
    let host_of = |key: AnyKey| match key {
        AnyKey::Host(host) | AnyKey::Membership(_, host) | AnyKey::Peer(_, host) | AnyKey::Status(_, host) => {
            Some(host)
        }
        _ => None,
    };
    for record in listing.undecodable {
        if let Some(host) = host_of(AnyKey::parse(&record.key)) {
            damaged.entry(host).or_insert(record);
        }
    }
    listing.items.into_iter().filter_map(|item| Some((host_of(item.key.parse())?, item.value))).collect()
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
