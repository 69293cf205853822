//! What the leader knows: the records it plans by, at one revision. Pure: it is fed updates and says which networks they
//! concern. A record that cannot be read is still there: its host stays a member, its address stays taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use cladnet_model::{Allocation, Hold, HostId, Membership, Network, NetworkId, Peer};
use cladnet_store::{AnyKey, AnyRecord, Change, Revision, Undecodable, Update, Versioned};
use jiff::Timestamp;
use tracing::warn;

/// Everything the leader knows.
#[derive(Debug, Default)]
pub(crate) struct World {
    revision: Revision,
    networks: BTreeMap<NetworkId, NetworkView>,
    hosts: BTreeSet<HostId>,
}

/// What the leader knows of one network, dead or alive.
#[derive(Debug, Default)]
pub(crate) struct NetworkView {
    pub(crate) network: Known<Network>,
    pub(crate) memberships: BTreeMap<HostId, Known<Membership>>,
    pub(crate) peers: BTreeMap<HostId, Known<Peer>>,
    pub(crate) allocations: BTreeMap<Ipv4Addr, Known<Allocation>>,
}

/// What is known of one key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum Known<T> {
    #[default]
    Absent,
    Unreadable,
    Record(T, Revision),
}

impl<T> Known<T> {
    pub(crate) fn record(&self) -> Option<&T> {
        match self {
            Self::Record(record, _) => Some(record),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// What happened to a key, without its value.
enum News {
    Put(AnyRecord, Revision),
    Unreadable,
    Deleted,
}

impl World {
    /// The revision up to which everything is known.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn network(&self, network: &NetworkId) -> Option<&NetworkView> {
        self.networks.get(network)
    }

    /// Whether there is a record of the host, readable or not.
    pub(crate) fn has_host(&self, host: &HostId) -> bool {
        self.hosts.contains(host)
    }

    /// Every network of which anything is left.
    pub(crate) fn network_ids(&self) -> impl Iterator<Item = &NetworkId> {
        self.networks.keys()
    }

    /// Takes in an update; says which networks it concerns.
    pub(crate) fn apply(&mut self, update: Update<AnyRecord>) -> BTreeSet<NetworkId> {
        let mut concerned = BTreeSet::new();
        match update {
            Update::Listing(listing) => {
                *self = Self { revision: listing.revision, ..Self::default() };
                listing.undecodable.into_iter().for_each(|bad| self.note_unreadable(bad, &mut concerned));
                listing.items.into_iter().for_each(|item| self.note_put(item, &mut concerned));
            }
            Update::Batch(batch) => {
                self.revision = batch.revision;
                for change in batch.changes {
                    match change {
                        Change::Put(item) => self.note_put(item, &mut concerned),
                        Change::Undecodable(bad) => self.note_unreadable(bad, &mut concerned),
                        Change::Deleted(key) => self.note(key.parse(), News::Deleted, &mut concerned),
                    }
                }
            }
        }
        self.networks.retain(|_, view| !view.is_empty());
        concerned
    }

    fn note_put(&mut self, item: Versioned<AnyRecord>, concerned: &mut BTreeSet<NetworkId>) {
        self.note(item.key.parse(), News::Put(item.value, item.modified), concerned);
    }

    fn note_unreadable(&mut self, bad: Undecodable, concerned: &mut BTreeSet<NetworkId>) {
        warn!(key = bad.key, error = %bad.error, "unreadable record; what depends on it stays as it is");
        self.note(AnyKey::parse(&bad.key), News::Unreadable, concerned);
    }

    fn note(&mut self, key: AnyKey, news: News, concerned: &mut BTreeSet<NetworkId>) {
        let network = match key {
            AnyKey::Host(host) => return self.note_host(host, &news, concerned),
            AnyKey::Network(network) => {
                let of_kind = |record| if let AnyRecord::Network(network) = record { Some(network) } else { None };
                self.view(&network).network = news.known(of_kind);
                network
            }
            AnyKey::Membership(network, host) => {
                let of_kind = |record| if let AnyRecord::Membership(member) = record { Some(member) } else { None };
                keep(&mut self.view(&network).memberships, host, news.known(of_kind));
                network
            }
            AnyKey::Peer(network, host) => {
                let of_kind = |record| if let AnyRecord::Peer(peer) = record { Some(peer) } else { None };
                keep(&mut self.view(&network).peers, host, news.known(of_kind));
                network
            }
            AnyKey::Allocation(network, address) => {
                let of_kind = |record| if let AnyRecord::Allocation(held) = record { Some(held) } else { None };
                keep(&mut self.view(&network).allocations, address, news.known(of_kind));
                network
            }
            _ => return,
        };
        concerned.insert(network);
    }

    /// Only a host's coming and going concerns its networks, not what it reports.
    fn note_host(&mut self, host: HostId, news: &News, concerned: &mut BTreeSet<NetworkId>) {
        let changed = match news {
            News::Deleted => self.hosts.remove(&host),
            News::Put(..) | News::Unreadable => self.hosts.insert(host.clone()),
        };
        if changed {
            let member_of = self.networks.iter().filter(|(_, view)| view.memberships.contains_key(&host));
            concerned.extend(member_of.map(|(network, _)| network.clone()));
        }
    }

    fn view(&mut self, network: &NetworkId) -> &mut NetworkView {
        self.networks.entry(network.clone()).or_default()
    }
}

impl News {
    fn known<T>(self, of_kind: impl FnOnce(AnyRecord) -> Option<T>) -> Known<T> {
        match self {
            Self::Deleted => Known::Absent,
            Self::Unreadable => Known::Unreadable,
            Self::Put(record, revision) => {
                of_kind(record).map_or(Known::Unreadable, |record| Known::Record(record, revision))
            }
        }
    }
}

fn keep<K: Ord, T>(known: &mut BTreeMap<K, Known<T>>, key: K, now: Known<T>) {
    match now {
        Known::Absent => drop(known.remove(&key)),
        now => drop(known.insert(key, now)),
    }
}

impl NetworkView {
    fn is_empty(&self) -> bool {
        matches!(self.network, Known::Absent)
            && self.memberships.is_empty()
            && self.peers.is_empty()
            && self.allocations.is_empty()
    }

    /// The allocations to plan by. What cannot be read keeps its address from everybody.
    pub(crate) fn allocations_or_stand_ins(&self, network: &NetworkId, now: Timestamp) -> Vec<Allocation> {
        let of = |(address, known): (&Ipv4Addr, &Known<Allocation>)| match known {
            Known::Record(allocation, _) => allocation.clone(),
            Known::Absent | Known::Unreadable => Allocation {
                network: network.clone(),
                address: *address,
                host: "unreadable".parse().expect("a valid id"),
                hold: Hold::Quarantined { since: now },
            },
        };
        self.allocations.iter().map(of).collect()
    }
}
