//! Hosts: machines with an identity, or plain ones that stand in for one.

use std::collections::{BTreeMap, BTreeSet};

use cladnet_model::{CloudLocation, Host, HostId, NetworkId, Presence};
use cladnet_proto::{cladnet::v1, convert};
use cladnet_store::{AnyKey, Listing, StoreError, Undecodable, Versioned, key};

use crate::{Service, error::CallError, events::Note, networks::TRIES};

/// A host with what is known of it from elsewhere. One whose record cannot be read is there all the same.
pub(crate) struct HostRow {
    pub(crate) id: HostId,
    record: Result<Host, Undecodable>,
    networks: BTreeSet<NetworkId>,
    online: bool,
}

impl HostRow {
    /// As the API shows it.
    pub(crate) fn wire(&self) -> v1::Host {
        match &self.record {
            Ok(host) => convert::host(host, &host.location(), self.online, &self.networks),
            Err(record) => v1::Host {
                host_id: self.id.to_string(),
                online: self.online,
                network_ids: self.networks.iter().map(ToString::to_string).collect(),
                problem: why_unreadable(record),
                ..v1::Host::default()
            },
        }
    }
}

/// For people.
pub(crate) fn why_unreadable(record: &Undecodable) -> String {
    let Undecodable { key, error } = record;
    format!("its record {key} cannot be read: {error}")
}

impl Service {
    /// The host, or that there is none.
    pub(crate) async fn host(&self, id: &HostId) -> Result<Versioned<Host>, CallError> {
        let found = self.store.get(&key::host(id)).await?;
        found.ok_or_else(|| CallError::NotFound(format!("there is no host {id}")))
    }

    /// All hosts, by id.
    pub(crate) async fn host_rows(&self) -> Result<Vec<HostRow>, CallError> {
        let (online, memberships) = (self.online().await?, self.memberships_by_key().await?);
        Ok(rows(self.store.list(&key::hosts()).await?, memberships, &online))
    }

    /// One host as a row.
    pub(crate) async fn host_row(&self, id: &HostId) -> Result<HostRow, CallError> {
        let host = self.host(id).await?.value;
        let memberships = self.memberships_by_key().await?.into_iter();
        let networks = memberships.filter(|(_, host)| host == id).map(|(network, _)| network).collect();
        let online = self.store.get(&key::presence(id)).await?.is_some();
        Ok(HostRow { id: id.clone(), record: Ok(host), networks, online })
    }

    /// Who is a member of what, by the keys of the memberships: whether they can be read does not matter.
    pub(crate) async fn memberships_by_key(&self) -> Result<Vec<(NetworkId, HostId)>, CallError> {
        let all = self.store.list(&key::all_memberships()).await?;
        let readable = all.items.iter().map(|item| item.key.parse());
        let unreadable = all.undecodable.iter().map(|record| AnyKey::parse(&record.key));
        let membership = |key| if let AnyKey::Membership(network, host) = key { Some((network, host)) } else { None };
        Ok(readable.chain(unreadable).filter_map(membership).collect())
    }

    /// Hosts whose agent is connected to some replica.
    pub(crate) async fn online(&self) -> Result<BTreeSet<HostId>, CallError> {
        let presences = self.store.list(&key::presences()).await?;
        let host = |presence: Versioned<Presence>| match presence.key.parse() {
            AnyKey::Presence(host) => Some(host),
            _ => None,
        };
        Ok(presences.items.into_iter().filter_map(host).collect())
    }

    /// The hosts that are members of a network, for decisions: an error if a record that may matter cannot be read.
    pub(crate) async fn every_host_of(&self, network: &NetworkId) -> Result<BTreeMap<HostId, Host>, CallError> {
        let members = self.store.list(&key::memberships(network)).await?.complete()?;
        let members: BTreeSet<HostId> = members.into_iter().map(|member| member.value.host).collect();
        let hosts = self.store.list(&key::hosts()).await?.complete()?.into_iter().map(|host| host.value);
        Ok(hosts.filter(|host| members.contains(&host.id)).map(|host| (host.id.clone(), host)).collect())
    }

    /// Takes over what a provisioner knows of a host's cloud; what is absent stays as it was injected before, but for fields
    /// that are to be cleared. Answers where the host is now, by all sources.
    pub(crate) async fn inject_location(
        &self,
        id: &HostId,
        location: &CloudLocation,
        clear: &[&str],
        actor: &str,
    ) -> Result<CloudLocation, CallError> {
        for _ in 0..TRIES {
            let current = self.host(id).await?;
            let mut injected = location.merged(&current.value.injected);
            for field in clear {
                injected.slot(field).into_iter().for_each(|slot| *slot = None);
            }
            if injected == current.value.injected {
                return Ok(current.value.location());
            }
            let changed = Host { injected, ..current.value.clone() };
            let transaction = self.store.transaction().unchanged(&current.key, current.modified);
            let message = format!("cloud location of {} injected", changed.facts.name);
            let note = Note { kind: "host.located", network: None, host: Some(id), actor, message };
            match self.note(transaction.put(&current.key, &changed), note).commit().await {
                Ok(_) => return Ok(changed.location()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("host {id} keeps changing at the same moment; repeat the call")))
    }
}

/// A row for every host, by id.
fn rows(hosts: Listing<Host>, memberships: Vec<(NetworkId, HostId)>, online: &BTreeSet<HostId>) -> Vec<HostRow> {
    let mut networks: BTreeMap<HostId, BTreeSet<NetworkId>> = BTreeMap::new();
    for (network, host) in memberships {
        networks.entry(host).or_default().insert(network);
    }
    let readable = hosts.items.into_iter().map(|item| (item.key.parse(), Ok(item.value)));
    let unreadable = hosts.undecodable.into_iter().map(|record| (AnyKey::parse(&record.key), Err(record)));
    let row = |(key, record)| {
        let AnyKey::Host(id) = key else { return None };
        let (networks, online) = (networks.remove(&id).unwrap_or_default(), online.contains(&id));
        Some(HostRow { id, record, networks, online })
    };
    let mut rows: Vec<HostRow> = readable.chain(unreadable).filter_map(row).collect();
    rows.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    rows
}

#[cfg(test)]
mod tests {
    use cladnet_model::HostFacts;
    use cladnet_store::{DecodeError, Revision};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_host_whose_record_cannot_be_read_is_listed_with_the_reason() {
        let id = |text: &str| -> HostId { text.parse().expect("an id") };
        let value = Host {
            id: id("host-b"),
            facts: HostFacts { name: "vm-b".to_owned(), ..HostFacts::default() },
            injected: CloudLocation::default(),
            identity: String::new(),
            enrolled_at: Timestamp::UNIX_EPOCH,
        };
        let (revision, damaged) = (Revision::from(1), key::host(&id("host-a")).path().to_owned());
        let hosts = Listing {
            items: vec![Versioned { key: key::host(&value.id), value, created: revision, modified: revision }],
            undecodable: vec![Undecodable { key: damaged.clone(), error: DecodeError::Newer { found: 2 } }],
            revision,
        };
        let network: NetworkId = "prod".parse().expect("an id");
        let memberships = ["host-a", "host-b"].map(|host| (network.clone(), id(host))).into();
        let rows: Vec<v1::Host> = rows(hosts, memberships, &[id("host-a")].into()).iter().map(HostRow::wire).collect();
        let shown = |n: usize| (rows[n].host_id.as_str(), rows[n].host_name.as_str(), rows[n].online);
        assert_eq!((shown(0), shown(1)), (("host-a", "", true), ("host-b", "vm-b", false)));
        assert!(rows.iter().all(|row| row.network_ids == ["prod"]), "{rows:?}");
        assert!(rows[0].problem.contains(&format!("{damaged} cannot be read")), "{}", rows[0].problem);
        assert_eq!(rows[1].problem, "");
    }
}
