//! A plan in the making: who ends up with which address, and only then the steps from what is there to that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use jiff::Timestamp;

use super::{Plan, Step, end_of_quarantine};
use crate::{Allocation, Hold, HostId, Membership, Network, Peer, space};

/// What a member's peer record shall say.
#[derive(Default)]
struct Outcome {
    address: Option<Ipv4Addr>,
    problem: String,
}

pub(super) struct Draft<'a> {
    now: Timestamp,
    network: &'a Network,
    members: BTreeMap<&'a HostId, &'a Membership>,
    peers: BTreeMap<&'a HostId, &'a Peer>,
    allocations: BTreeMap<Ipv4Addr, &'a Allocation>,
    outcomes: BTreeMap<&'a HostId, Outcome>,
    /// The addresses of `outcomes`.
    owners: BTreeMap<Ipv4Addr, &'a HostId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        now: Timestamp,
        network: &'a Network,
        memberships: impl IntoIterator<Item = &'a Membership>,
        peers: impl IntoIterator<Item = &'a Peer>,
        allocations: impl IntoIterator<Item = &'a Allocation>,
    ) -> Self {
        let memberships = memberships.into_iter().filter(|membership| membership.network == network.id);
        let peers = peers.into_iter().filter(|peer| peer.network == network.id);
        let allocations = allocations.into_iter().filter(|allocation| allocation.network == network.id);
        Self {
            now,
            network,
            members: memberships.map(|membership| (&membership.host, membership)).collect(),
            peers: peers.map(|peer| (&peer.host, peer)).collect(),
            allocations: allocations.map(|allocation| (allocation.address, allocation)).collect(),
            outcomes: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    /// Whoever holds an address keeps it; of several the one asked for, then the one in use, then the lowest.
    pub(super) fn keep(&mut self) {
        let mut best: BTreeMap<&HostId, Ipv4Addr> = BTreeMap::new();
        for (address, allocation) in &self.allocations {
            let Some(member) = self.members.get(&allocation.host) else { continue };
            if allocation.hold != Hold::Held || !self.is_usable(*address) {
                continue;
            }
            let in_use = self.peers.get(&allocation.host).and_then(|peer| peer.address);
            let rank = |address| (member.static_address != Some(address), in_use != Some(address), address);
            let kept = best.entry(&allocation.host).or_insert(*address);
            *kept = std::cmp::min_by_key(*kept, *address, |address| rank(*address));
        }
        for (host, address) in best {
            self.assign(host, address);
        }
    }

    /// Whoever asks for an address gets it unless somebody else has it, or had it lately. Who joined first chooses
    /// first.
    pub(super) fn give_static(&mut self) {
        for (host, wish) in self.unmet_wishes() {
            if self.obstacle(host, wish).is_none() {
                self.assign(host, wish);
            }
        }
    }

    /// Whoever comes back has the address it had last, as long as it is kept back for it.
    pub(super) fn give_back(&mut self) {
        let mut last: BTreeMap<&'a HostId, (Timestamp, Ipv4Addr)> = BTreeMap::new();
        for (address, allocation) in &self.allocations {
            let Hold::Quarantined { since } = allocation.hold else { continue };
            let is_free = self.is_usable(*address) && !self.owners.contains_key(address);
            if is_free && self.waits(&allocation.host) {
                let last = last.entry(&allocation.host).or_insert((since, *address));
                *last = std::cmp::max_by_key(*last, (since, *address), |(since, _)| *since);
            }
        }
        for (host, (_, address)) in last {
            self.assign(host, address);
        }
    }

    /// Everybody else gets the lowest free address, in the order of joining.
    pub(super) fn give_lowest(&mut self) {
        let waiting: Vec<_> = self.by_joining().into_iter().filter(|member| self.waits(&member.host)).collect();
        if waiting.is_empty() {
            return;
        }
        let kept_back = self.allocations.values().filter(|held| !self.is_reclaimable(held)).map(|held| held.address);
        let taken: BTreeSet<_> = kept_back.chain(self.owners.keys().copied()).collect();
        let mut free = space::free(self.network.address_space, &taken);
        let mut refused = Vec::new();
        for member in waiting {
            match free.next() {
                Some(address) => self.assign(&member.host, address),
                None => refused.push(&member.host),
            }
        }
        if refused.is_empty() {
            return;
        }
        let problem = self.fullness();
        for host in refused {
            self.outcomes.entry(host).or_default().problem.clone_from(&problem);
        }
    }

    /// Whoever asks for an address and cannot have it is told why. This comes last: until then it may go to its old
    /// host.
    pub(super) fn report_unmet_wishes(&mut self) {
        for (host, wish) in self.unmet_wishes() {
            let problem = self.obstacle(host, wish).unwrap_or_default();
            self.outcomes.entry(host).or_default().problem = problem;
        }
    }

    /// The steps from what is there to what shall be.
    pub(super) fn finish(self) -> Plan {
        let mut plan = Plan::default();
        let mut wake = |at: Timestamp| plan.wake_at = Some(plan.wake_at.map_or(at, |earlier| earlier.min(at)));
        for (address, allocation) in &self.allocations {
            let is_kept = self.owners.get(address) == Some(&&allocation.host);
            let host = allocation.host.clone();
            match allocation.hold {
                _ if is_kept => {}
                Hold::Held => {
                    wake(end_of_quarantine(self.now));
                    plan.steps.push(Step::Release { address: *address, host });
                }
                Hold::Quarantined { .. } if self.is_reclaimable(allocation) => {
                    plan.steps.push(Step::Reclaim { address: *address, host });
                }
                Hold::Quarantined { since } => wake(end_of_quarantine(since)),
            }
        }
        plan.steps.extend(self.outcomes.iter().filter_map(|(host, outcome)| self.step(host, outcome)));
        let gone = self.peers.keys().filter(|host| !self.members.contains_key(*host));
        plan.steps.extend(gone.map(|host| Step::Forget { host: (*host).clone() }));
        plan.steps.sort();
        plan
    }

    /// What brings a member's records to its outcome; nothing, if they say so already.
    fn step(&self, host: &HostId, outcome: &Outcome) -> Option<Step> {
        let peer = self.peers.get(host);
        let is_told = peer.is_some_and(|peer| peer.address == outcome.address && peer.problem == outcome.problem);
        let is_held = outcome.address.is_none_or(|address| self.holds(host, address));
        match outcome.address {
            _ if is_told && is_held => None,
            Some(address) if outcome.problem.is_empty() => Some(Step::Give { host: host.clone(), address }),
            address => Some(Step::Report { host: host.clone(), address, problem: outcome.problem.clone() }),
        }
    }

    fn assign(&mut self, host: &'a HostId, address: Ipv4Addr) {
        let outcome = self.outcomes.entry(host).or_default();
        if let Some(before) = outcome.address.replace(address) {
            self.owners.remove(&before);
        }
        self.owners.insert(address, host);
    }

    /// Why a host cannot have the address it asks for.
    fn obstacle(&self, host: &HostId, wish: Ipv4Addr) -> Option<String> {
        if let Err(problem) = space::check_usable(self.network.address_space, wish) {
            return Some(format!("static address {wish} {problem}"));
        }
        if let Some(owner) = self.owners.get(&wish) {
            return Some(format!("static address {wish} is taken by host {owner}"));
        }
        let allocation = self.allocations.get(&wish)?;
        if allocation.host == *host || self.is_reclaimable(allocation) {
            return None;
        }
        let until = end_of_quarantine(self.kept_back_since(allocation));
        Some(format!("static address {wish} was that of host {} and is kept back until {until}", allocation.host))
    }

    /// Why there is no free address.
    fn fullness(&self) -> String {
        let (space, used) = (self.network.address_space, self.owners.len());
        let full = format!("address space {space} is full: {used} of {} addresses in use", space::capacity(space));
        let kept_back = self.allocations.values().filter(|allocation| {
            let address = allocation.address;
            self.is_usable(address) && !self.owners.contains_key(&address) && !self.is_reclaimable(allocation)
        });
        let since: Vec<Timestamp> = kept_back.map(|allocation| self.kept_back_since(allocation)).collect();
        match since.iter().min() {
            Some(first) => format!("{full}, {} kept back, the first until {}", since.len(), end_of_quarantine(*first)),
            None => full,
        }
    }

    /// Since when an address is kept back that is nobody's any more; a held one is released by this very plan.
    fn kept_back_since(&self, allocation: &Allocation) -> Timestamp {
        match allocation.hold {
            Hold::Held => self.now,
            Hold::Quarantined { since } => since,
        }
    }

    fn is_reclaimable(&self, allocation: &Allocation) -> bool {
        matches!(allocation.hold, Hold::Quarantined { since } if end_of_quarantine(since) <= self.now)
    }

    fn is_usable(&self, address: Ipv4Addr) -> bool {
        space::is_usable(self.network.address_space, address)
    }

    fn holds(&self, host: &HostId, address: Ipv4Addr) -> bool {
        self.allocations.get(&address).is_some_and(|held| held.host == *host && held.hold == Hold::Held)
    }

    /// Whether a host is a member that has no address yet and takes any.
    fn waits(&self, host: &HostId) -> bool {
        let takes_any = self.members.get(host).is_some_and(|member| member.static_address.is_none());
        takes_any && !self.outcomes.contains_key(host)
    }

    /// Who asks for an address that it does not have.
    fn unmet_wishes(&self) -> Vec<(&'a HostId, Ipv4Addr)> {
        let wishes = self.by_joining().into_iter().filter_map(|member| Some((&member.host, member.static_address?)));
        wishes.filter(|(host, wish)| self.owners.get(wish) != Some(host)).collect()
    }

    fn by_joining(&self) -> Vec<&'a Membership> {
        let mut members: Vec<_> = self.members.values().copied().collect();
        members.sort_by_key(|member| (member.joined_at, &member.host));
        members
    }
}
