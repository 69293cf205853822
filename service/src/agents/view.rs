//! What a replica knows of the store: every record that agents depend on, joined per network, kept current by one watch.
//! Pure: it is fed updates and says what they changed. A record that cannot be read keeps its last readable value, and
//! while there is none its network counts as incomplete: absence is never removal.

mod network;
mod tariffs;

use std::collections::{BTreeMap, BTreeSet};

use cladnet_model::{
    CommandRecord, Host, HostId, KeyId, Membership, MembershipStatus, NetworkId, Presence, SessionId,
    rule::NetworkRules,
};
use cladnet_store::{AnyKey, AnyRecord, Batch, Change, Key, Listing, Revision, Undecodable, Update, Versioned};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tracing::{error, warn};

pub(crate) use network::{NetworkState, fingerprint};
pub(crate) use tariffs::Tariffs;

/// The state at [`View::revision`].
#[derive(Debug, Default)]
pub(crate) struct View {
    /// None before the first listing.
    revision: Option<i64>,
    epoch: Option<String>,
    networks: BTreeMap<NetworkId, NetworkState>,
    hosts: BTreeMap<HostId, (Host, Revision)>,
    networks_of: BTreeMap<HostId, BTreeSet<NetworkId>>,
    statuses: BTreeMap<(NetworkId, HostId), MembershipStatus>,
    presences: BTreeMap<HostId, (Presence, Revision)>,
    /// Hosts that count as connected: by the events, they came and have not gone.
    connected: BTreeSet<HostId>,
    /// When each API key expires, if it does.
    api_keys: BTreeMap<KeyId, Option<Timestamp>>,
    /// When each session of the admin web ends.
    sessions: BTreeMap<SessionId, Timestamp>,
    tariffs: Tariffs,
    /// Keys with a value that was never readable.
    unreadable: BTreeMap<String, AnyKey>,
}

/// What an update changed, for those who must be told.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Their members have something new to be told.
    pub(crate) networks: BTreeSet<NetworkId>,
    /// Their record, one of their memberships or what they reported of it changed.
    pub(crate) hosts: BTreeSet<HostId>,
    pub(crate) presences: BTreeSet<HostId>,
    pub(crate) commands: Vec<CommandChange>,
    /// There are other prices: every agent has something new to be told.
    pub(crate) tariffs: bool,
    /// The store was restored, or went back in time: what streams remember means nothing now.
    pub(crate) reset: bool,
}

/// What happened to a command's record.
#[derive(Debug)]
pub(crate) enum CommandChange {
    Put(CommandRecord, Revision),
    Deleted(Key<AnyRecord>),
}

impl View {
    /// The revision that the view shows; none before it has seen the store.
    pub(crate) fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// Changes when the store is restored from a backup.
    pub(crate) fn epoch(&self) -> &str {
        self.epoch.as_deref().unwrap_or_default()
    }

    /// A host's record and when it was written.
    pub(crate) fn host(&self, host: &HostId) -> Option<&(Host, Revision)> {
        self.hosts.get(host)
    }

    /// Where a host's stream is, and when that was written.
    pub(crate) fn presence(&self, host: &HostId) -> Option<&(Presence, Revision)> {
        self.presences.get(host)
    }

    /// Whether a host counts as connected.
    pub(crate) fn is_connected(&self, host: &HostId) -> bool {
        self.connected.contains(host)
    }

    /// Whether a host counts as connected and no replica holds its stream: the one that did has crashed.
    pub(crate) fn is_lost(&self, host: &HostId) -> bool {
        self.connected.contains(host) && !self.presences.contains_key(host)
    }

    /// Whether there is such an API key, and it has not expired.
    pub(crate) fn admits(&self, key: &KeyId, now: Timestamp) -> bool {
        self.api_keys.get(key).is_some_and(|expires_at| expires_at.is_none_or(|expires_at| now < expires_at))
    }

    /// Whether there is such a session, and it is not over.
    pub(crate) fn in_session(&self, session: &SessionId, now: Timestamp) -> bool {
        self.sessions.get(session).is_some_and(|end| now < *end)
    }

    /// The prices in force; none while a document of them was never readable, or before the view has seen the store.
    pub(crate) fn tariffs(&self) -> Option<&Tariffs> {
        let is_tariff = |key: &AnyKey| matches!(key, AnyKey::Tariff(_));
        let is_known = self.revision.is_some() && !self.unreadable.values().any(is_tariff);
        is_known.then_some(&self.tariffs)
    }

    /// What the agent last reported of a membership.
    pub(crate) fn status(&self, network: &NetworkId, host: &HostId) -> Option<&MembershipStatus> {
        self.statuses.get(&(network.clone(), host.clone()))
    }

    /// A network that lives.
    pub(crate) fn network(&self, network: &NetworkId) -> Option<&NetworkState> {
        self.networks.get(network).filter(|state| state.record().is_some())
    }

    /// The living networks that a living host is a member of.
    pub(crate) fn networks_of(&self, host: &HostId) -> impl Iterator<Item = (&NetworkId, &NetworkState)> {
        let networks = self.hosts.get(host).and_then(|_| self.networks_of.get(host));
        networks.into_iter().flatten().filter_map(|id| Some((id, self.network(id)?)))
    }

    /// Every membership of a host, also in a network that is gone.
    pub(crate) fn memberships_of(&self, host: &HostId) -> impl Iterator<Item = &Membership> {
        let networks = self.networks_of.get(host).into_iter().flatten();
        networks.filter_map(|network| self.networks.get(network)?.membership(host))
    }

    /// The address spaces of all networks.
    pub(crate) fn address_spaces(&self) -> Vec<Ipv4Net> {
        self.networks.values().filter_map(|state| Some(state.record()?.address_space)).collect()
    }

    /// Whether the network has rules that were never readable: nobody may be told that there are none.
    pub(crate) fn lacks_rules(&self, network: &NetworkId) -> bool {
        self.unreadable.values().any(|key| matches!(key, AnyKey::Rules(id) if id == network))
    }

    /// Every host that a change of this network concerns.
    pub(crate) fn members(&self, network: &NetworkId) -> impl Iterator<Item = &HostId> {
        self.networks.get(network).into_iter().flat_map(NetworkState::members)
    }

    /// Whether a record of the network, or of one of its hosts, was never readable: what is missing may be there.
    pub(crate) fn is_incomplete(&self, network: &NetworkId) -> bool {
        self.unreadable.values().any(|key| match key {
            AnyKey::Network(id) | AnyKey::Membership(id, _) | AnyKey::Peer(id, _) => id == network,
            AnyKey::Host(host) => self.networks_of.get(host).is_some_and(|networks| networks.contains(network)),
            _ => false,
        })
    }

    /// Whether every record that says which networks a host is in could be read: else one of them may be missing.
    pub(crate) fn knows_networks_of(&self, host: &HostId) -> bool {
        let is_doubtful = |key: &AnyKey| match key {
            AnyKey::Membership(_, member) => member == host,
            AnyKey::Network(id) => self.networks_of.get(host).is_some_and(|networks| networks.contains(id)),
            _ => false,
        };
        self.hosts.contains_key(host) && !self.unreadable.values().any(is_doubtful)
    }

    /// Takes the next update in.
    pub(crate) fn apply(&mut self, update: Update<AnyRecord>) -> Changes {
        let mut changes = Changes::default();
        match update {
            Update::Listing(listing) => self.apply_listing(listing, &mut changes),
            Update::Batch(batch) => self.apply_batch(batch, &mut changes),
        }
        changes
    }

    fn apply_listing(&mut self, listing: Listing<AnyRecord>, changes: &mut Changes) {
        let revision = listing.revision.get();
        self.revision = Some(revision);
        for item in listing.items {
            self.put(item, revision, changes);
        }
        for undecodable in listing.undecodable {
            self.cannot_read(undecodable);
        }
    }

    fn apply_batch(&mut self, batch: Batch<AnyRecord>, changes: &mut Changes) {
        let revision = batch.revision.get();
        if self.revision.is_some_and(|known| revision < known) {
            warn!(from = self.revision, to = revision, "the store went back in time");
            self.networks.values_mut().for_each(|network| network.forget_history(revision));
            changes.reset = true;
        }
        self.revision = Some(revision);
        for change in batch.changes {
            match change {
                Change::Put(item) => self.put(item, revision, changes),
                Change::Deleted(key) => self.delete(key, revision, changes),
                Change::Undecodable(undecodable) => self.cannot_read(undecodable),
            }
        }
    }

    fn cannot_read(&mut self, undecodable: Undecodable) {
        let key = AnyKey::parse(&undecodable.key);
        error!(key = undecodable.key, error = &undecodable.error as &dyn std::error::Error, "record cannot be read");
        if !self.has(&key) {
            self.unreadable.insert(undecodable.key, key);
        }
    }

    fn has(&self, key: &AnyKey) -> bool {
        match key {
            AnyKey::Network(network) => self.network(network).is_some(),
            AnyKey::Rules(network) => self.networks.get(network).is_some_and(|state| state.rules().is_some()),
            AnyKey::Host(host) => self.hosts.contains_key(host),
            AnyKey::Membership(network, host) => {
                self.networks.get(network).is_some_and(|state| state.memberships.contains_key(host))
            }
            AnyKey::Peer(network, host) => {
                self.networks.get(network).is_some_and(|state| state.peers.contains_key(host))
            }
            AnyKey::Tariff(origin) => self.tariffs.has(*origin),
            _ => true,
        }
    }

    fn put(&mut self, item: Versioned<AnyRecord>, revision: i64, changes: &mut Changes) {
        self.unreadable.remove(item.key.path());
        match (item.key.parse(), item.value) {
            (_, AnyRecord::Cluster(cluster)) => self.set_epoch(cluster.epoch, changes),
            (AnyKey::Network(id), AnyRecord::Network(network)) => {
                self.network_mut(&id, revision).record = Some(network);
                self.refresh_network(&id, revision, changes);
            }
            (AnyKey::Rules(id), AnyRecord::Rules(rules)) => self.set_rules(&id, Some(&rules), revision, changes),
            (AnyKey::Host(id), AnyRecord::Host(host)) => {
                let name = host.facts.name.clone();
                let before = self.hosts.insert(id.clone(), (*host, item.modified));
                self.refresh_host(&id, revision, changes);
                if before.is_none_or(|(before, _)| before.facts.name != name) {
                    self.settle_subnets_with(&id, revision, changes);
                }
            }
            (AnyKey::Membership(network, host), AnyRecord::Membership(membership)) => {
                self.network_mut(&network, revision).memberships.insert(host.clone(), membership);
                self.networks_of.entry(host.clone()).or_default().insert(network.clone());
                self.refresh_member(&network, host, revision, changes);
            }
            (AnyKey::Peer(network, host), AnyRecord::Peer(peer)) => {
                self.network_mut(&network, revision).peers.insert(host.clone(), peer);
                self.refresh_peer(&network, &host, revision, changes);
            }
            (AnyKey::Status(network, host), AnyRecord::Status(status)) => {
                self.statuses.insert((network, host.clone()), status);
                changes.hosts.insert(host);
            }
            (AnyKey::Presence(host), AnyRecord::Presence(presence)) => {
                self.presences.insert(host.clone(), (presence, item.modified));
                changes.presences.insert(host);
            }
            (AnyKey::Stream(host), _) => {
                self.connected.insert(host.clone());
                changes.presences.insert(host);
            }
            (AnyKey::Tariff(origin), AnyRecord::Tariff(record)) => {
                self.tariffs.put(origin, record.document);
                changes.tariffs = true;
            }
            (AnyKey::Session(id), AnyRecord::Session(session)) => drop(self.sessions.insert(id, session.ends_at())),
            (AnyKey::ApiKey(id), AnyRecord::ApiKey(key)) => drop(self.api_keys.insert(id, key.expires_at)),
            (_, AnyRecord::Command(command)) => changes.commands.push(CommandChange::Put(command, item.modified)),
            _ => {}
        }
    }

    fn delete(&mut self, key: Key<AnyRecord>, revision: i64, changes: &mut Changes) {
        self.unreadable.remove(key.path());
        match key.parse() {
            AnyKey::Network(id) => {
                self.network_mut(&id, revision).record = None;
                self.refresh_network(&id, revision, changes);
                changes.hosts.extend(self.members(&id).cloned().collect::<Vec<_>>());
            }
            AnyKey::Rules(id) => self.set_rules(&id, None, revision, changes),
            AnyKey::Host(id) => {
                self.hosts.remove(&id);
                self.refresh_host(&id, revision, changes);
                self.settle_subnets_with(&id, revision, changes);
            }
            AnyKey::Membership(network, host) => {
                self.network_mut(&network, revision).memberships.remove(&host);
                if let Some(networks) = self.networks_of.get_mut(&host) {
                    networks.remove(&network);
                    if networks.is_empty() {
                        self.networks_of.remove(&host);
                    }
                }
                self.refresh_member(&network, host, revision, changes);
            }
            AnyKey::Peer(network, host) => {
                self.network_mut(&network, revision).peers.remove(&host);
                self.refresh_peer(&network, &host, revision, changes);
            }
            AnyKey::Status(network, host) => drop(self.statuses.remove(&(network, host))),
            AnyKey::Presence(host) => {
                self.presences.remove(&host);
                changes.presences.insert(host);
            }
            AnyKey::Tariff(origin) => {
                self.tariffs.delete(origin);
                changes.tariffs = true;
            }
            AnyKey::Stream(host) => drop(self.connected.remove(&host)),
            AnyKey::Session(id) => drop(self.sessions.remove(&id)),
            AnyKey::ApiKey(id) => drop(self.api_keys.remove(&id)),
            AnyKey::Command(..) => changes.commands.push(CommandChange::Deleted(key)),
            _ => {}
        }
    }

    fn set_epoch(&mut self, epoch: String, changes: &mut Changes) {
        changes.reset |= self.epoch.as_ref().is_some_and(|known| *known != epoch);
        self.epoch = Some(epoch);
    }

    fn network_mut(&mut self, id: &NetworkId, revision: i64) -> &mut NetworkState {
        self.networks.entry(id.clone()).or_insert_with(|| NetworkState::since(revision))
    }

    fn set_rules(&mut self, id: &NetworkId, rules: Option<&NetworkRules>, revision: i64, changes: &mut Changes) {
        let network = self.network_mut(id, revision);
        network.set_rules(rules);
        network.touch(revision);
        changes.networks.insert(id.clone());
        self.settle_subnets(id, revision, changes);
        self.drop_if_empty(id);
    }

    /// The network came, went or got other settings: each of its members is concerned.
    fn refresh_network(&mut self, id: &NetworkId, revision: i64, changes: &mut Changes) {
        let Some(network) = self.networks.get_mut(id) else { return };
        for host in network.memberships.keys().cloned().collect::<Vec<_>>() {
            network.refresh(&host, self.hosts.get(&host).map(|(host, _)| host), revision);
        }
        network.touch(revision);
        changes.networks.insert(id.clone());
        self.drop_if_empty(id);
    }

    /// The host came, went or reported something: its peers in every network are concerned, and it itself.
    fn refresh_host(&mut self, id: &HostId, revision: i64, changes: &mut Changes) {
        let record = self.hosts.get(id).map(|(host, _)| host);
        for network_id in self.networks_of.get(id).into_iter().flatten() {
            let Some(network) = self.networks.get_mut(network_id) else { continue };
            if network.refresh(id, record, revision) {
                changes.networks.insert(network_id.clone());
            }
            network.touch(revision);
        }
        changes.hosts.insert(id.clone());
    }

    /// A host came, went or has another name, by which rules may mean it.
    fn settle_subnets_with(&mut self, host: &HostId, revision: i64, changes: &mut Changes) {
        for network in self.networks_of.get(host).cloned().unwrap_or_default() {
            self.settle_subnets(&network, revision, changes);
        }
    }

    /// Tells anew what is behind whom where a change has moved it.
    fn settle_subnets(&mut self, id: &NetworkId, revision: i64, changes: &mut Changes) {
        let (hosts, Some(network)) = (&self.hosts, self.networks.get_mut(id)) else { return };
        let record = |host: &HostId| hosts.get(host).map(|(host, _)| host);
        for host in network.settle_subnets(|host| record(host).map(|host| host.facts.name.as_str())) {
            network.refresh(&host, record(&host), revision);
            network.touch(revision);
            changes.networks.insert(id.clone());
            changes.hosts.insert(host);
        }
    }

    fn refresh_member(&mut self, network_id: &NetworkId, host: HostId, revision: i64, changes: &mut Changes) {
        self.refresh_peer(network_id, &host, revision, changes);
        self.settle_subnets(network_id, revision, changes);
        changes.hosts.insert(host);
    }

    fn refresh_peer(&mut self, network_id: &NetworkId, host: &HostId, revision: i64, changes: &mut Changes) {
        let Some(network) = self.networks.get_mut(network_id) else { return };
        if network.refresh(host, self.hosts.get(host).map(|(host, _)| host), revision) {
            changes.networks.insert(network_id.clone());
        }
        network.touch(revision);
        changes.hosts.insert(host.clone());
        self.drop_if_empty(network_id);
    }

    fn drop_if_empty(&mut self, id: &NetworkId) {
        if self.networks.get(id).is_some_and(NetworkState::is_empty) {
            self.networks.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;
