//! Hosts: machines with an identity, or plain ones that stand in for one.

use std::collections::{BTreeMap, BTreeSet};

use cladnet_model::{CloudLocation, Host, HostId, NetworkId, Presence};
use cladnet_proto::{cladnet::v1, convert};
use cladnet_store::{AnyKey, StoreError, Versioned, key};

use crate::{Service, error::CallError, events::Note, networks::TRIES};

/// A host with what is known of it from elsewhere.
pub(crate) struct HostRow {
    pub(crate) host: Host,
    pub(crate) networks: BTreeSet<NetworkId>,
    pub(crate) online: bool,
}

impl HostRow {
    /// As the API shows it.
    pub(crate) fn wire(&self) -> v1::Host {
        convert::host(&self.host, &self.host.location(), self.online, &self.networks)
    }
}

impl Service {
    /// The host, or that there is none.
    pub(crate) async fn host(&self, id: &HostId) -> Result<Versioned<Host>, CallError> {
        let found = self.store.get(&key::host(id)).await?;
        found.ok_or_else(|| CallError::NotFound(format!("there is no host {id}")))
    }

    /// All hosts, by id.
    pub(crate) async fn host_rows(&self) -> Result<Vec<HostRow>, CallError> {
        let online = self.online().await?;
        let mut networks: BTreeMap<HostId, BTreeSet<NetworkId>> = BTreeMap::new();
        for membership in self.store.list(&key::all_memberships()).await?.items {
            networks.entry(membership.value.host).or_default().insert(membership.value.network);
        }
        let row = |host: Versioned<Host>| HostRow {
            networks: networks.remove(&host.value.id).unwrap_or_default(),
            online: online.contains(&host.value.id),
            host: host.value,
        };
        Ok(self.store.list(&key::hosts()).await?.items.into_iter().map(row).collect())
    }

    /// One host as a row.
    pub(crate) async fn host_row(&self, id: &HostId) -> Result<HostRow, CallError> {
        let host = self.host(id).await?.value;
        let memberships = self.store.list(&key::all_memberships()).await?.items.into_iter();
        let networks = memberships.map(|item| item.value).filter(|item| item.host == *id).map(|item| item.network);
        let networks = networks.collect();
        let online = self.store.get(&key::presence(id)).await?.is_some();
        Ok(HostRow { host, networks, online })
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

    /// Takes over what a provisioner knows of a host's cloud; what is absent stays as it was injected before.
    pub(crate) async fn inject_location(
        &self,
        id: &HostId,
        location: &CloudLocation,
        actor: &str,
    ) -> Result<(), CallError> {
        for _ in 0..TRIES {
            let current = self.host(id).await?;
            let injected = location.merged(&current.value.injected);
            if injected == current.value.injected {
                return Ok(());
            }
            let changed = Host { injected, ..current.value.clone() };
            let transaction = self.store.transaction().unchanged(&current.key, current.modified);
            let message = format!("cloud location of {} injected", changed.facts.name);
            let note = Note { kind: "host.located", network: None, host: Some(id), actor, message };
            match self.note(transaction.put(&current.key, &changed), note).commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("host {id} keeps changing at the same moment; repeat the call")))
    }
}
