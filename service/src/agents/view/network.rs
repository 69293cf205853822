//! One network as its members are told it: the peers that are the join of four records, a digest over them, and which of
//! them changed after a revision. What changed is answered from the peers themselves, not from a log of messages, so an
//! agent that fell behind by any amount is told each changed peer once.

use std::collections::{BTreeMap, BTreeSet};

use cladnet_model::{
    Host, HostId, Membership, Network, Peer, SetDigest,
    path::PairPolicy,
    rule::{self, Member, NetworkRules, RuleSet, advertised},
};
use cladnet_proto::{
    cladnet::v1::{AdvertisedPrefix, RemotePeer, RuleDocument},
    convert,
};
use prost::Message;
use ring::digest::{SHA256, digest};

/// Removals that are remembered; whoever is further behind gets a snapshot.
const MAX_REMOVALS: usize = 4_096;

/// Names some content: half a SHA-256 of its encoding, which the message carries in `fingerprint`.
pub(crate) fn fingerprint(message: &impl Message) -> Vec<u8> {
    digest(&SHA256, &message.encode_to_vec()).as_ref()[..16].to_vec()
}

/// A network's records and what follows from them. Changed only by [`super::View`].
#[derive(Debug, Default)]
pub(crate) struct NetworkState {
    pub(super) record: Option<Network>,
    rules: Option<ToldRules>,
    /// What is behind whom by the rules.
    advertised: BTreeMap<HostId, Vec<AdvertisedPrefix>>,
    pub(super) memberships: BTreeMap<HostId, Membership>,
    pub(super) peers: BTreeMap<HostId, Peer>,
    told: BTreeMap<HostId, Told>,
    by_revision: BTreeSet<(i64, HostId)>,
    removed: BTreeMap<HostId, i64>,
    removed_by_revision: BTreeSet<(i64, HostId)>,
    floor: i64,
    revision: i64,
    digest: SetDigest,
}

/// The rules as every member is told them.
#[derive(Debug)]
struct ToldRules {
    set: RuleSet,
    document: RuleDocument,
    fingerprint: Vec<u8>,
}

#[derive(Debug)]
struct Told {
    peer: RemotePeer,
    revision: i64,
}

/// What an agent must do to have the peers of now.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PeerChanges {
    pub(crate) upserts: Vec<RemotePeer>,
    pub(crate) removals: Vec<String>,
}

impl NetworkState {
    /// An empty network whose history is known from `revision` on.
    pub(super) fn since(revision: i64) -> Self {
        Self { floor: revision, revision, ..Self::default() }
    }

    /// Revision of the last change.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// The settings; none if the network is gone.
    pub(crate) fn record(&self) -> Option<&Network> {
        self.record.as_ref()
    }

    /// What every member is told of the rules; none if there are none.
    pub(crate) fn rules(&self) -> Option<&RuleDocument> {
        self.rules.as_ref().map(|rules| &rules.document)
    }

    /// What holds for packets from one member to another; `name` is that of a host.
    pub(crate) fn pair_policy<'a>(
        &self,
        from: &HostId,
        to: &HostId,
        name: impl Fn(&HostId) -> Option<&'a str>,
    ) -> Option<PairPolicy> {
        let network = self.record()?.pair_policy();
        let member = |host: &HostId| {
            let labels = &self.membership(host)?.labels;
            Some(Member::new(host.clone(), name(host)?.to_owned(), self.peer(host)?.address, labels))
        };
        let (from, to) = (member(from), member(to));
        let parties = from.as_ref().and_then(Member::party).zip(to.as_ref().and_then(Member::party));
        Some(match (&self.rules, parties) {
            (Some(rules), Some((from, to))) => rule::policy(&rules.set, &network, &from, &to),
            _ => network,
        })
    }

    /// Names [`NetworkState::rules`]; empty if there are none.
    pub(crate) fn rules_fingerprint(&self) -> &[u8] {
        self.rules.as_ref().map_or(&[], |rules| &rules.fingerprint)
    }

    /// The membership of a host.
    pub(crate) fn membership(&self, host: &HostId) -> Option<&Membership> {
        self.memberships.get(host)
    }

    /// Every host with a membership.
    pub(crate) fn members(&self) -> impl Iterator<Item = &HostId> {
        self.memberships.keys()
    }

    /// The controller's answer to a membership.
    pub(crate) fn peer(&self, host: &HostId) -> Option<&Peer> {
        self.peers.get(host)
    }

    /// All peers but `except`.
    pub(crate) fn peers_for(&self, except: &HostId) -> Vec<RemotePeer> {
        self.told.iter().filter(|(host, _)| *host != except).map(|(_, told)| told.peer.clone()).collect()
    }

    /// Number of peers but `except`, and digest over them.
    pub(crate) fn digest_for(&self, except: &HostId) -> (usize, SetDigest) {
        match self.told.get(except) {
            Some(own) => (self.told.len() - 1, self.digest.toggled(except.as_str(), &own.peer.fingerprint)),
            None => (self.told.len(), self.digest),
        }
    }

    /// What changed after `revision`, for everybody but `except`; none if that is no longer known.
    pub(crate) fn changes_since(&self, revision: i64, except: &HostId) -> Option<PeerChanges> {
        if revision < self.floor {
            return None;
        }
        let after = |set: &'_ BTreeSet<(i64, HostId)>| {
            let mut hosts: Vec<HostId> =
                set.iter().rev().take_while(|(at, _)| *at > revision).map(|(_, host)| host.clone()).collect();
            hosts.retain(|host| host != except);
            hosts
        };
        let upserts = after(&self.by_revision);
        let removals = after(&self.removed_by_revision);
        Some(PeerChanges {
            upserts: upserts.iter().filter_map(|host| Some(self.told.get(host)?.peer.clone())).collect(),
            removals: removals.iter().map(ToString::to_string).collect(),
        })
    }

    /// Whether nothing is left of the network.
    pub(super) fn is_empty(&self) -> bool {
        self.record.is_none() && self.rules.is_none() && self.memberships.is_empty() && self.peers.is_empty()
    }

    pub(super) fn set_rules(&mut self, rules: Option<&NetworkRules>) {
        self.rules = rules.and_then(|NetworkRules { rules, .. }| {
            let document = convert::rule_document(rules)?;
            Some(ToldRules { set: rules.clone(), fingerprint: fingerprint(&document), document })
        });
    }

    /// What is behind a member.
    pub(crate) fn advertised(&self, host: &HostId) -> &[AdvertisedPrefix] {
        self.advertised.get(host).map_or(&[], Vec::as_slice)
    }

    /// Works out anew what is behind whom, by the labels and the names of now, and says for whom that changed. Where nothing is
    /// advertised it costs nothing.
    pub(super) fn settle_subnets<'a>(&mut self, name: impl Fn(&HostId) -> Option<&'a str>) -> BTreeSet<HostId> {
        let before = std::mem::take(&mut self.advertised);
        if let Some(rules) = self.rules.as_ref().map(|rules| &rules.set).filter(|rules| !rules.advertises_nothing()) {
            let member = |(id, membership): (&HostId, &Membership)| {
                Some(Member::new(id.clone(), name(id)?.to_owned(), None, &membership.labels))
            };
            let members: Vec<Member> = self.memberships.iter().filter_map(member).collect();
            let behind = advertised(rules, &members).into_iter();
            self.advertised = behind.map(|(host, behind)| (host, convert::advertised(&behind))).collect();
        }
        let hosts = before.keys().chain(self.advertised.keys());
        hosts.filter(|host| before.get(*host) != self.advertised.get(*host)).cloned().collect()
    }

    /// Something changed that members are told beside peers.
    pub(super) fn touch(&mut self, revision: i64) {
        self.revision = revision;
    }

    /// Forgets which changes came when: the store went back in time.
    pub(super) fn forget_history(&mut self, revision: i64) {
        (self.floor, self.revision) = (revision, revision);
        self.removed.clear();
        self.removed_by_revision.clear();
        self.by_revision.clear();
        for (host, told) in &mut self.told {
            told.revision = revision;
            self.by_revision.insert((revision, host.clone()));
        }
    }

    /// Joins a host's records anew after one of them changed at `revision`; says whether peers see a difference.
    pub(super) fn refresh(&mut self, id: &HostId, host: Option<&Host>, revision: i64) -> bool {
        let new = self.join(id, host);
        let old = self.told.get(id);
        if old.map(|old| &old.peer.fingerprint) == new.as_ref().map(|new| &new.fingerprint) {
            return false;
        }
        if let Some(old) = self.told.remove(id) {
            self.digest.toggle(id.as_str(), &old.peer.fingerprint);
            self.by_revision.remove(&(old.revision, id.clone()));
        }
        self.forget_removal(id);
        match new {
            Some(peer) => {
                self.digest.toggle(id.as_str(), &peer.fingerprint);
                self.by_revision.insert((revision, id.clone()));
                self.told.insert(id.clone(), Told { peer, revision });
            }
            None => self.remember_removal(id, revision),
        }
        self.touch(revision);
        true
    }

    fn join(&self, id: &HostId, host: Option<&Host>) -> Option<RemotePeer> {
        self.record.as_ref()?;
        let host = host?;
        let mut peer = convert::remote_peer(host, self.memberships.get(id)?, self.peers.get(id)?, &host.location())?;
        peer.advertised = self.advertised(id).to_vec();
        peer.fingerprint = fingerprint(&peer);
        Some(peer)
    }

    fn remember_removal(&mut self, id: &HostId, revision: i64) {
        self.removed.insert(id.clone(), revision);
        self.removed_by_revision.insert((revision, id.clone()));
        if self.removed.len() > MAX_REMOVALS
            && let Some((revision, oldest)) = self.removed_by_revision.pop_first()
        {
            self.removed.remove(&oldest);
            self.floor = self.floor.max(revision);
        }
    }

    fn forget_removal(&mut self, id: &HostId) {
        if let Some(revision) = self.removed.remove(id) {
            self.removed_by_revision.remove(&(revision, id.clone()));
        }
    }
}
