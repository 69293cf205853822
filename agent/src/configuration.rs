//! The configuration of one membership: what a snapshot says and deltas change, taken on only if it adds up.
//! Pure; where it comes from (the stream, the disk) and what is done with it (the device) is elsewhere.

use std::{collections::BTreeMap, net::Ipv4Addr};

use cladnet_model::{
    CloudLocation, DesiredState, EncryptionPolicy, Endpoint, HostId, Labels, NetworkId, PublicKey, SetDigest,
    path::{Author, Encryption, PairPolicy, PathSettings, Policy},
    rule::{self, KindWord, Member, Party, RuleSet, selectable},
};
use cladnet_proto::{
    cladnet::v1::{Applied, Delta, MembershipConfig, RemotePeer, RuleDocument, Snapshot},
    convert::{self, FieldError},
};
use ipnet::Ipv4Net;
use tracing::warn;

use crate::subnets::{self, Subnet};

/// Why a snapshot or delta is not taken on. Nothing has changed then; the way out is a fresh snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a delta came before any snapshot")]
    NoBase,
    #[error("it is of epoch {found:?}, but {applied:?} is applied")]
    Epoch { applied: String, found: String },
    #[error("it starts at revision {found}, but {applied} is applied")]
    Base { applied: i64, found: i64 },
    #[error("its revision {found} is older than {applied}, which is applied")]
    Stale { applied: i64, found: i64 },
    #[error("it names {found} peers, but holds {held}")]
    Count { found: u32, held: usize },
    #[error("its digest does not match its content")]
    Digest,
    #[error("it has no membership")]
    NoMembership,
    #[error("it is for network {found:?}, not {expected}")]
    Network { expected: NetworkId, found: String },
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// What the membership itself is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub name: String,
    pub address_space: Ipv4Net,
    /// None until the controller has given one.
    pub address: Option<Ipv4Addr>,
    /// What holds for every pair, as far as no path rule says otherwise.
    pub policy: PairPolicy,
    pub desired_state: DesiredState,
    /// This host's, as the service knows it from all sources.
    pub location: CloudLocation,
    /// Of the network.
    pub rules: RuleSet,
    /// This host's own, as rules see them.
    pub labels: Labels,
    /// What the others reach through this host.
    pub subnets: Vec<Subnet>,
}

/// Another peer of the network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remote {
    pub host: HostId,
    pub name: String,
    pub address: Ipv4Addr,
    pub public_key: PublicKey,
    pub endpoints: Vec<Endpoint>,
    pub location: CloudLocation,
    pub desired_state: DesiredState,
    /// As rules see them.
    pub labels: Labels,
    pub plain: bool,
    /// What is reached through it beside itself.
    pub subnets: Vec<Subnet>,
}

/// The configuration that is applied.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    host: HostId,
    network: NetworkId,
    epoch: String,
    revision: i64,
    membership: MembershipConfig,
    settings: Settings,
    /// As they came, the ones that this release cannot use included: the digest is over all.
    peers: BTreeMap<String, RemotePeer>,
    /// Those that can be used.
    remotes: BTreeMap<HostId, Remote>,
    digest: SetDigest,
}

impl Configuration {
    /// Takes a snapshot on in place of `applied`. Within an epoch revisions only grow; a new epoch may start anywhere.
    pub(crate) fn from_snapshot(
        host: &HostId,
        network: &NetworkId,
        applied: Option<&Self>,
        snapshot: Snapshot,
    ) -> Result<Self, Refusal> {
        if let Some(applied) = applied.filter(|a| a.epoch == snapshot.epoch && a.revision > snapshot.revision) {
            return Err(Refusal::Stale { applied: applied.revision, found: snapshot.revision });
        }
        let membership = snapshot.membership.ok_or(Refusal::NoMembership)?;
        if membership.network_id != network.as_str() {
            return Err(Refusal::Network { expected: network.clone(), found: membership.network_id });
        }
        let settings = Settings::read(&membership)?;
        let peers: BTreeMap<_, _> = snapshot.peers.into_iter().map(|peer| (peer.host_id.clone(), peer)).collect();
        let records = peers.values().map(|peer| (peer.host_id.as_str(), peer.fingerprint.as_slice()));
        let digest = records.collect::<SetDigest>().toggled(host.as_str(), &membership.fingerprint);
        check(snapshot.count, peers.len(), &snapshot.digest, digest)?;
        let remotes = peers.values().filter_map(|peer| Remote::read_or_skip(peer, &settings)).collect::<Vec<_>>();
        Ok(Self {
            host: host.clone(),
            network: network.clone(),
            epoch: snapshot.epoch,
            revision: snapshot.revision,
            membership,
            settings,
            peers,
            remotes: remotes.into_iter().map(|remote| (remote.host.clone(), remote)).collect(),
            digest,
        })
    }

    /// Carries a delta out, or changes nothing. Costs what the delta holds, not what the network does.
    pub(crate) fn apply(&mut self, delta: Delta) -> Result<(), Refusal> {
        if delta.epoch != self.epoch {
            return Err(Refusal::Epoch { applied: self.epoch.clone(), found: delta.epoch });
        }
        if delta.base_revision != self.revision {
            return Err(Refusal::Base { applied: self.revision, found: delta.base_revision });
        }
        if delta.revision < self.revision {
            return Err(Refusal::Stale { applied: self.revision, found: delta.revision });
        }
        let settings = delta.membership.as_ref().map(Settings::read).transpose()?;
        let removals = delta.removals.into_iter().map(|host| (host, None));
        let upserts = delta.upserts.into_iter().map(|peer| (peer.host_id.clone(), Some(peer)));
        let changes: BTreeMap<String, Option<RemotePeer>> = removals.chain(upserts).collect();
        let (digest, count) = self.after(delta.membership.as_ref(), &changes);
        check(delta.count, count, &delta.digest, digest)?;

        if let (Some(membership), Some(settings)) = (delta.membership, settings) {
            self.membership = membership;
            self.settings = settings;
        }
        for (id, change) in changes {
            self.change(id, change);
        }
        self.revision = delta.revision;
        self.digest = digest;
        Ok(())
    }

    /// Digest and number of peers as they will be.
    fn after(
        &self,
        membership: Option<&MembershipConfig>,
        changes: &BTreeMap<String, Option<RemotePeer>>,
    ) -> (SetDigest, usize) {
        let (mut digest, mut count) = (self.digest, self.peers.len());
        if let Some(membership) = membership {
            digest.toggle(self.host.as_str(), &self.membership.fingerprint);
            digest.toggle(self.host.as_str(), &membership.fingerprint);
        }
        for (id, change) in changes {
            if let Some(old) = self.peers.get(id) {
                digest.toggle(id, &old.fingerprint);
                count -= 1;
            }
            if let Some(new) = change {
                digest.toggle(id, &new.fingerprint);
                count += 1;
            }
        }
        (digest, count)
    }

    fn change(&mut self, id: String, change: Option<RemotePeer>) {
        if let Ok(remote) = id.parse::<HostId>() {
            self.remotes.remove(&remote);
        }
        match change {
            Some(peer) => {
                if let Some(remote) = Remote::read_or_skip(&peer, &self.settings) {
                    self.remotes.insert(remote.host.clone(), remote);
                }
                self.peers.insert(id, peer);
            }
            None => drop(self.peers.remove(&id)),
        }
    }

    /// Whether this release understands what a membership is told.
    pub(crate) fn can_read(membership: &MembershipConfig) -> bool {
        Settings::read(membership).is_ok()
    }

    /// The whole, as a snapshot that passes the checks again.
    pub(crate) fn to_snapshot(&self) -> Snapshot {
        Snapshot {
            epoch: self.epoch.clone(),
            revision: self.revision,
            membership: Some(self.membership.clone()),
            peers: self.peers.values().cloned().collect(),
            count: u32::try_from(self.peers.len()).unwrap_or(u32::MAX),
            digest: self.digest.as_bytes().to_vec(),
        }
    }

    /// What the service is told at the start of a stream, by the holder of this public key.
    pub(crate) fn applied(&self, public_key: PublicKey) -> Applied {
        Applied {
            network_id: self.network.to_string(),
            epoch: self.epoch.clone(),
            revision: self.revision,
            count: u32::try_from(self.peers.len()).unwrap_or(u32::MAX),
            digest: self.digest.as_bytes().to_vec(),
            public_key: public_key.0.to_vec(),
        }
    }

    /// This host.
    pub(crate) fn host(&self) -> &HostId {
        &self.host
    }

    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// This host as rules see it.
    pub(crate) fn me(&self) -> Member {
        let Settings { address, labels, .. } = &self.settings;
        Member { host: self.host.clone(), name: String::new(), address: *address, labels: labels.clone() }
    }

    /// The others as rules see them.
    pub(crate) fn members(&self) -> Vec<Member> {
        let remotes = self.remotes.values();
        let member = |remote: &Remote| Member {
            host: remote.host.clone(),
            name: remote.name.clone(),
            address: Some(remote.address),
            labels: remote.labels.clone(),
        };
        remotes.map(member).collect()
    }

    /// What holds for packets to a peer.
    pub(crate) fn policy_to(&self, remote: &Remote) -> PairPolicy {
        let Settings { address, labels, rules, policy, .. } = &self.settings;
        let Some(address) = address else { return policy.clone() };
        let party = |address: Ipv4Addr, labels| Party { address: address.into(), labels: Some(labels) };
        rule::policy(rules, policy, &party(*address, labels), &party(remote.address, &remote.labels))
    }

    /// The peers that can be used, by host.
    pub(crate) fn remotes(&self) -> &BTreeMap<HostId, Remote> {
        &self.remotes
    }
}

fn check(count: u32, held: usize, claimed: &[u8], digest: SetDigest) -> Result<(), Refusal> {
    match () {
        () if usize::try_from(count) != Ok(held) => Err(Refusal::Count { found: count, held }),
        () if claimed != digest.as_bytes() => Err(Refusal::Digest),
        () => Ok(()),
    }
}

impl Settings {
    /// What only ranks paths may be of a newer release and is then as by default; an encryption policy that is not known leaves
    /// nothing in clear.
    fn read(wire: &MembershipConfig) -> Result<Self, Refusal> {
        Ok(Self {
            name: wire.network_name.clone(),
            address_space: convert::required("membership.ipv4_address_space", &wire.ipv4_address_space)?,
            address: convert::optional("membership.ipv4_address", &wire.ipv4_address)?,
            policy: PairPolicy {
                paths: Policy::of(
                    wire.rule_type.parse().unwrap_or_default(),
                    wire.path_settings.as_ref().map(PathSettings::from).unwrap_or_default(),
                ),
                encryption: Encryption {
                    policy: wire.encryption_policy.parse().unwrap_or(EncryptionPolicy::Always),
                    by: Author::default(),
                },
            },
            desired_state: convert::required("membership.desired_state", &wire.desired_state)?,
            location: wire.location.clone().and_then(|wire| CloudLocation::try_from(wire).ok()).unwrap_or_default(),
            rules: wire.rules.as_ref().map_or_else(|| Ok(RuleSet::default()), rules)?,
            labels: wire.labels.clone(),
            subnets: subnets::read(&wire.advertised),
        })
    }
}

/// An access rule that is not understood might refuse what would pass without it, so there are no rules then. Rules of
/// kinds that are not known, or that only rank paths and are of a newer release, are left out.
fn rules(wire: &RuleDocument) -> Result<RuleSet, FieldError> {
    let mut draft = convert::rule_document_draft(wire);
    draft.rules.retain(|rule| rule.kind.parse::<KindWord>().is_ok());
    if let Ok(rules) = draft.check() {
        return Ok(rules);
    }
    draft.rules.retain(|rule| rule.kind.parse() == Ok(KindWord::Access));
    let rules = draft.check().map_err(|error| FieldError::new("membership.rules", error))?;
    warn!("rules other than those of access are left out: one of them is not understood");
    Ok(rules)
}

impl Remote {
    /// One peer that cannot be read never keeps the others away.
    fn read_or_skip(wire: &RemotePeer, settings: &Settings) -> Option<Self> {
        match Self::read(wire, settings) {
            Ok(remote) => Some(remote),
            Err(error) => {
                warn!(host = wire.host_id, %error, "a peer is left out");
                None
            }
        }
    }

    fn read(wire: &RemotePeer, settings: &Settings) -> Result<Self, FieldError> {
        let address: Ipv4Addr = convert::required("ipv4_address", &wire.ipv4_address)?;
        if !settings.address_space.contains(&address) || settings.address == Some(address) {
            let reason = format!("is {address}; it is ours, or not in {}", settings.address_space);
            return Err(FieldError::new("ipv4_address", reason));
        }
        let host = convert::required("host_id", &wire.host_id)?;
        Ok(Self {
            labels: selectable(&wire.labels, &host, &wire.host_name),
            host,
            name: wire.host_name.clone(),
            address,
            public_key: convert::public_key("public_key", &wire.public_key)?,
            // An endpoint of a kind that is not known here is one path less, not one peer less.
            endpoints: wire.endpoints.iter().filter_map(|e| Endpoint::try_from(e.clone()).ok()).collect(),
            location: wire.location.clone().and_then(|wire| CloudLocation::try_from(wire).ok()).unwrap_or_default(),
            desired_state: convert::required("desired_state", &wire.desired_state)?,
            plain: wire.plain,
            subnets: subnets::read(&wire.advertised),
        })
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
