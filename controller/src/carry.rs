//! One step of a plan as one fenced transaction. Its compares are what the plan was decided by: the same membership, the
//! same allocation, the same settings of the network, and, where something is taken away, that its reason still holds in
//! the store itself. So a leader that knows too little can be refused, but never do harm.

use std::net::Ipv4Addr;

use cladnet_model::{Allocation, Hold, HostId, NetworkId, Peer, Step};
use cladnet_store::{Fence, Key, Store, Transaction, key};
use jiff::Timestamp;

use crate::world::{Known, NetworkView, World};

/// What all steps of one plan share.
pub(crate) struct Carrier<'a> {
    pub(crate) store: &'a Store,
    pub(crate) fence: &'a Fence,
    pub(crate) world: &'a World,
    pub(crate) id: &'a NetworkId,
    pub(crate) view: &'a NetworkView,
    /// The moment of the plan.
    pub(crate) now: Timestamp,
}

impl Carrier<'_> {
    /// The transaction that carries out a step.
    pub(crate) fn transaction(&self, step: &Step) -> Transaction {
        match step {
            Step::Release { address, host } => self.release(*address, host),
            Step::Reclaim { address, .. } => self.reclaim(*address),
            Step::Give { host, address } => self.give(host, *address),
            Step::Report { host, address, problem } => self.report(host, *address, problem),
            Step::Forget { host } => self.without_member(host).delete(&key::peer(self.id, host)),
        }
    }

    fn give(&self, host: &HostId, address: Ipv4Addr) -> Transaction {
        let (key, known) = self.allocation(address);
        let transaction = as_known(self.with_member(host), &key, known);
        let allocation = Allocation { network: self.id.clone(), address, host: host.clone(), hold: Hold::Held };
        let transaction = match known {
            Known::Record(held, _) if *held == allocation => transaction,
            _ => transaction.put(&key, &allocation),
        };
        transaction.put(&key::peer(self.id, host), &self.peer(host, Some(address), ""))
    }

    fn report(&self, host: &HostId, address: Option<Ipv4Addr>, problem: &str) -> Transaction {
        self.with_member(host).put(&key::peer(self.id, host), &self.peer(host, address, problem))
    }

    fn release(&self, address: Ipv4Addr, host: &HostId) -> Transaction {
        let (key, known) = self.allocation(address);
        let hold = Hold::Quarantined { since: self.now };
        let allocation = Allocation { network: self.id.clone(), address, host: host.clone(), hold };
        let guarded = match self.is_member(host) {
            true => self.with_member(host), // it has, or will have, another address
            false => self.without_member(host),
        };
        as_known(guarded, &key, known).put(&key, &allocation)
    }

    fn reclaim(&self, address: Ipv4Addr) -> Transaction {
        let (key, known) = self.allocation(address);
        as_known(self.begin(), &key, known).delete(&key)
    }

    /// Only while the host is a member as the plan knew it, of a network as the plan knew it.
    fn with_member(&self, host: &HostId) -> Transaction {
        let membership = self.view.memberships.get(host).unwrap_or(&Known::Absent);
        let transaction = as_known(self.begin(), &key::membership(self.id, host), membership);
        transaction.exists(&key::host(host))
    }

    /// Only while the host is not a member: not listed, or no more, or of a network that is no more.
    fn without_member(&self, host: &HostId) -> Transaction {
        match (&self.view.network, self.view.memberships.contains_key(host)) {
            (Known::Absent, _) => self.begin(),
            (_, false) => self.begin().absent(&key::membership(self.id, host)),
            (_, true) => self.begin().absent(&key::host(host)),
        }
    }

    fn begin(&self) -> Transaction {
        let network = key::network(self.id);
        as_known(self.store.transaction().fence(self.fence), &network, &self.view.network)
    }

    fn is_member(&self, host: &HostId) -> bool {
        self.view.memberships.contains_key(host) && self.world.has_host(host)
    }

    fn allocation(&self, address: Ipv4Addr) -> (Key<Allocation>, &Known<Allocation>) {
        (key::allocation(self.id, address), self.view.allocations.get(&address).unwrap_or(&Known::Absent))
    }

    fn peer(&self, host: &HostId, address: Option<Ipv4Addr>, problem: &str) -> Peer {
        Peer { network: self.id.clone(), host: host.clone(), address, problem: problem.to_owned() }
    }
}

/// Only while the key is as it was known.
fn as_known<T>(transaction: Transaction, key: &Key<T>, known: &Known<T>) -> Transaction {
    match known {
        Known::Absent => transaction.absent(key),
        Known::Unreadable => transaction.exists(key),
        Known::Record(_, revision) => transaction.unchanged(key, *revision),
    }
}
