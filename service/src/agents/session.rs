//! What one stream has told its agent, and what to tell it next. Pure, and bounded whatever the agent does: per network
//! it keeps a revision and a digest, never messages, so a slow agent gets what changed meanwhile in one piece.

use std::collections::BTreeMap;

use cladnet_model::{HostId, NetworkId, PublicKey, SetDigest};
use cladnet_proto::{
    cladnet::v1::{Applied, Delta, MembershipConfig, MembershipEnded, Snapshot, TariffBook, service_message::Message},
    convert,
};

use super::view::{NetworkState, View, fingerprint};

/// One agent's stream.
#[derive(Debug)]
pub(crate) struct Session {
    host: HostId,
    told: BTreeMap<NetworkId, Told>,
    /// Version of the tariff book that the agent has; empty for one that knows none.
    tariff_book: String,
}

/// What the agent has of one network.
#[derive(Debug, Clone)]
struct Told {
    revision: i64,
    count: usize,
    digest: Vec<u8>,
    /// Fingerprint of its membership; unknown if it has it from an earlier stream.
    membership: Option<Vec<u8>>,
    /// Names the membership among those that the host has had of this network; empty if unknown.
    public_key: Vec<u8>,
}

/// What the agent should have of one network.
struct Wanted {
    /// Without the rules, which [`Wanted::membership`] adds.
    membership: MembershipConfig,
    public_key: PublicKey,
    count: usize,
    digest: SetDigest,
}

impl Session {
    /// A stream whose agent says that it has `applied`. What belongs to another epoch, or makes no sense, counts as
    /// nothing: a snapshot follows.
    pub(crate) fn new(host: HostId, epoch: &str, applied: Vec<Applied>) -> Self {
        let told = applied.into_iter().filter(|applied| applied.epoch == epoch).filter_map(|applied| {
            let told = Told {
                revision: applied.revision,
                count: usize::try_from(applied.count).ok()?,
                digest: applied.digest,
                membership: None,
                public_key: applied.public_key,
            };
            Some((applied.network_id.parse().ok()?, told))
        });
        Self { host, told: told.collect(), tariff_book: String::new() }
    }

    /// The same of an agent that knows prices, and has those of this version.
    #[must_use]
    pub(crate) fn with_tariff_book(self, version: String) -> Self {
        Self { tariff_book: version, ..self }
    }

    /// The next message that brings the agent closer to the view; none when it has everything. A network of which the
    /// agent has seen more than this replica is left alone until [`View::revision`] reaches [`Session::waits_for`].
    pub(crate) fn next(&mut self, view: &View) -> Option<Message> {
        let now = view.revision()?;
        if let Some(ended) = self.ended(view, now) {
            return Some(Message::Ended(ended));
        }
        if let Some(book) = self.tariff_book(view) {
            return Some(Message::TariffBook(book));
        }
        for (id, network) in view.networks_of(&self.host) {
            if view.lacks_rules(id) {
                continue; // without them everything would be allowed
            }
            let Some(wanted) = Wanted::of(&self.host, id, network, view) else { continue };
            let told = self.told.get_mut(id);
            if told.as_ref().is_some_and(|told| told.revision > now) {
                continue;
            }
            if let Some(told) = told.filter(|told| wanted.is(told)) {
                told.public_key = wanted.public_key.0.to_vec();
                continue;
            }
            let told = self.told.get(id);
            if told.is_some_and(|told| told.membership.is_none()) && view.is_incomplete(id) {
                continue; // better an old configuration than one with holes
            }
            let message = told
                .and_then(|told| delta(&self.host, view.epoch(), network, told, &wanted))
                .unwrap_or_else(|| snapshot(&self.host, view.epoch(), network, told, &wanted));
            let told = wanted.told(message_revision(&message));
            self.told.insert(id.clone(), told);
            return Some(message);
        }
        None
    }

    /// The revision that the view must reach before everything can be told; none if it need not wait.
    pub(crate) fn waits_for(&self, view: &View) -> Option<i64> {
        let now = view.revision().unwrap_or_default();
        self.told.values().map(|told| told.revision).filter(|revision| *revision > now).max()
    }

    /// The prices in force, if the agent has others: before what networks tell, so that no path is chosen by old ones.
    fn tariff_book(&mut self, view: &View) -> Option<TariffBook> {
        let wanted = view.tariffs()?.wire();
        if self.tariff_book.is_empty() || self.tariff_book == wanted.version {
            return None;
        }
        self.tariff_book.clone_from(&wanted.version);
        Some(TariffBook::clone(wanted))
    }

    /// A network that the agent has and is no longer a member of. One that this replica may not have seen yet is not.
    fn ended(&mut self, view: &View, now: i64) -> Option<MembershipEnded> {
        let is_member = |id: &NetworkId| view.networks_of(&self.host).any(|(member, _)| member == id);
        let gone = self
            .told
            .iter()
            .find(|(id, told)| told.revision <= now && !is_member(id) && !view.is_incomplete(id))
            .map(|(id, _)| id.clone())?;
        let public_key = self.told.remove(&gone)?.public_key;
        let reason = match view.network(&gone) {
            Some(_) => "the host was removed from the network",
            None => "the network was deleted",
        };
        Some(MembershipEnded { network_id: gone.to_string(), reason: reason.to_owned(), public_key })
    }
}

impl Wanted {
    fn of(host: &HostId, id: &NetworkId, network: &NetworkState, view: &View) -> Option<Self> {
        let record_of_host = &view.host(host)?.0;
        let (record, membership) = (network.record()?, network.membership(host)?);
        debug_assert_eq!(&record.id, id);
        let public_key = membership.public_key;
        let mut membership = convert::membership_config(record, membership, network.peer(host), record_of_host);
        membership.advertised = network.advertised(host).to_vec();
        // The rules enter by their own fingerprint: they are the same for all members, and long.
        membership.fingerprint = network.rules_fingerprint().to_vec();
        membership.fingerprint = fingerprint(&membership);
        let (count, digest) = network.digest_for(host);
        let digest = digest.toggled(host.as_str(), &membership.fingerprint);
        Some(Self { membership, public_key, count, digest })
    }

    /// What the agent is sent: with the rules.
    fn membership(&self, network: &NetworkState) -> MembershipConfig {
        MembershipConfig { rules: network.rules().cloned(), ..self.membership.clone() }
    }

    fn is(&self, told: &Told) -> bool {
        self.count == told.count && self.digest.as_bytes()[..] == told.digest[..]
    }

    fn told(self, revision: i64) -> Told {
        Told {
            revision,
            count: self.count,
            digest: self.digest.as_bytes().to_vec(),
            membership: Some(self.membership.fingerprint),
            public_key: self.public_key.0.to_vec(),
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.count).unwrap_or(u32::MAX)
    }
}

/// What changed since the agent was told; none if that is not known, or if nothing did and yet it has something else.
fn delta(host: &HostId, epoch: &str, network: &NetworkState, told: &Told, wanted: &Wanted) -> Option<Message> {
    if network.revision() <= told.revision {
        return None;
    }
    let changes = network.changes_since(told.revision, host)?;
    let same_membership = told.membership.as_ref() == Some(&wanted.membership.fingerprint);
    Some(Message::Delta(Delta {
        epoch: epoch.to_owned(),
        network_id: wanted.membership.network_id.clone(),
        base_revision: told.revision,
        revision: network.revision(),
        membership: (!same_membership).then(|| wanted.membership(network)),
        upserts: changes.upserts,
        removals: changes.removals,
        count: wanted.count(),
        digest: wanted.digest.as_bytes().to_vec(),
    }))
}

/// Everything. An agent that has seen a later revision than the last change is not sent back behind it.
fn snapshot(host: &HostId, epoch: &str, network: &NetworkState, told: Option<&Told>, wanted: &Wanted) -> Message {
    Message::Snapshot(Snapshot {
        epoch: epoch.to_owned(),
        revision: told.map_or(i64::MIN, |told| told.revision).max(network.revision()),
        membership: Some(wanted.membership(network)),
        peers: network.peers_for(host),
        count: wanted.count(),
        digest: wanted.digest.as_bytes().to_vec(),
    })
}

fn message_revision(message: &Message) -> i64 {
    match message {
        Message::Snapshot(snapshot) => snapshot.revision,
        Message::Delta(delta) => delta.revision,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
