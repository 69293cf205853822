//! Networks: what both interfaces do to them. Every check and every change is one transaction with the records it was
//! decided by.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use cladnet_model::{
    HostId, Membership, Network, NetworkId, NetworkSettings, NetworkUpdate,
    advise::DEFAULT_HOSTS,
    network::{AddressPlan, check_fit, check_room},
    rule::{Clash, NetworkRules},
    space,
};
use cladnet_store::{Revision, StoreError, Transaction, Versioned, key};
use ipnet::Ipv4Net;

use crate::{Service, advice::Wish, error::CallError, events::Note};

/// How often a decision is made anew when somebody else changed what it was made by.
pub(crate) const TRIES: usize = 8;

/// Memberships removed in one transaction; each takes a few changes.
const REMOVALS: usize = 20;

/// Tokens deleted in one transaction.
const DELETIONS: usize = 100;

/// What [`Service::delete_network`] does about peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// Refused while there are any.
    OfEmpty,
    /// They are removed with it.
    WithPeers,
}

impl Service {
    /// The network, or that there is none.
    pub(crate) async fn network(&self, id: &NetworkId) -> Result<Versioned<Network>, CallError> {
        let found = self.store.get(&key::network(id)).await?;
        found.ok_or_else(|| CallError::NotFound(format!("there is no network {id}")))
    }

    /// All networks, by id.
    pub(crate) async fn networks(&self) -> Result<Vec<Network>, CallError> {
        Ok(self.store.list(&key::networks()).await?.items.into_iter().map(|item| item.value).collect())
    }

    /// As [`Service::networks`], for decisions: an error if one of them cannot be read.
    pub(crate) async fn every_network(&self) -> Result<Vec<Network>, CallError> {
        Ok(self.store.list(&key::networks()).await?.complete()?.into_iter().map(|item| item.value).collect())
    }

    /// How many memberships each network has.
    pub(crate) async fn peer_counts(&self) -> Result<BTreeMap<NetworkId, usize>, CallError> {
        let mut counts = BTreeMap::new();
        for (network, _) in self.memberships_by_key().await? {
            *counts.entry(network).or_default() += 1;
        }
        Ok(counts)
    }

    /// Creates a network: under a generated id, in a recommended address space, where none is given. Hosts that nobody
    /// expects are 0.
    pub(crate) async fn create_network(
        &self,
        settings: NetworkSettings,
        expected_hosts: u32,
        actor: &str,
    ) -> Result<Network, CallError> {
        let id = settings.id.clone().unwrap_or_else(|| NetworkId::generate(rand::random()));
        if let Some(space) = settings.address_space {
            check_room(space, expected_hosts).map_err(|misfit| CallError::invalid("ipv4_address_space", misfit))?;
        }
        // Of this replica's calls one at a time: they would all be in each other's way.
        let _one_at_a_time = self.creating.lock().await;
        for _ in 0..TRIES {
            let plan = self.store.get(&key::address_plan()).await?;
            let networks = self.store.list(&key::networks()).await?;
            let seen = networks.revision;
            let others: Vec<Network> = networks.complete()?.into_iter().map(|network| network.value).collect();
            if others.iter().any(|network| network.id == id) {
                let reason = format!("is {id}, and there is such a network already; choose another id");
                return Err(CallError::exists("network_id", reason));
            }
            let space = match settings.address_space {
                Some(space) => space,
                None => self.recommended_space(expected_hosts).await?,
            };
            let network = settings.clone().into_network(id.clone(), space, self.clock.now());
            check_fit(&network, [], &others).map_err(|misfit| CallError::invalid("ipv4_address_space", misfit))?;
            self.check_subnets(&network).await?;
            // While there is no such network nothing new can belong to it.
            self.clear_remains(&id, seen, actor).await?;

            let transaction = self.store.transaction().absent(&key::network(&id)).put(&key::network(&id), &network);
            let message = format!("network {id} created with {space}");
            let note = Note { kind: "network.created", network: Some(&id), host: None, actor, message };
            let transaction = self.note(with_plan(transaction, plan.as_ref()), note);
            match transaction.commit().await {
                Ok(_) => return Ok(network),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// Changes a network; with `expected_generation` only if nobody else did meanwhile.
    pub(crate) async fn update_network(
        &self,
        id: &NetworkId,
        update: &NetworkUpdate<'_>,
        expected_generation: Option<u64>,
        actor: &str,
    ) -> Result<Network, CallError> {
        for _ in 0..TRIES {
            let plan = self.store.get(&key::address_plan()).await?;
            let current = self.network(id).await?;
            if let Some(expected) = expected_generation
                && expected != current.value.generation
            {
                return Err(CallError::Conflict(format!(
                    "network {id} is at generation {}, not {expected}: somebody changed it; look again and repeat",
                    current.value.generation
                )));
            }
            let changed = update.apply(&current.value)?;
            if changed == current.value {
                return Ok(changed);
            }
            let mut transaction =
                self.store.transaction().unchanged(&current.key, current.modified).put(&current.key, &changed);
            if changed.address_space != current.value.address_space {
                let given = self.check_new_space(&changed).await?;
                transaction = with_plan(transaction, plan.as_ref());
                if !changed.address_space.contains(&current.value.address_space) {
                    // Nor may the controller give an address meanwhile that is left out.
                    transaction = transaction.none_after(&key::peers(id), given);
                }
            }
            let message = format!("network {id} changed: {}", differences(&current.value, &changed));
            let note = Note { kind: "network.updated", network: Some(id), host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(_) => return Ok(changed),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// A changed address space must keep every address that a peer has or asks for, overlap no other network and no route
    /// of a member. Says up to which revision it knows of addresses given; whoever asks for one rewrites the network.
    async fn check_new_space(&self, network: &Network) -> Result<Revision, CallError> {
        let misfit = |misfit: &dyn std::fmt::Display| CallError::invalid("ipv4_address_space", misfit);
        let hosts = self.every_host_of(&network.id).await?;
        let members = self.store.list(&key::memberships(&network.id)).await?.complete()?;
        let peers = self.store.list(&key::peers(&network.id)).await?;
        let known = peers.revision;
        let given = peers.complete()?.into_iter().filter_map(|peer| Some((peer.value.host, peer.value.address?)));
        let wished = members.into_iter().filter_map(|member| Some((member.value.host, member.value.static_address?)));
        let addresses: BTreeSet<(HostId, Ipv4Addr)> = given.chain(wished).collect();
        let named = addresses
            .iter()
            .map(|(host, address)| (hosts.get(host).map_or(host.as_str(), |host| host.facts.name.as_str()), *address));
        check_fit(network, named, &self.every_network().await?).map_err(|error| misfit(&error))?;
        self.check_subnets(network).await?;
        for host in hosts.values() {
            if let Some(route) = space::conflicting_route(network.address_space, &host.facts.routes) {
                let (space, name) = (network.address_space, &host.facts.name);
                return Err(misfit(&format_args!("is {space}, which overlaps the route {route} of host {name}")));
            }
        }
        Ok(known)
    }

    /// An address space takes no addresses that are reached through a peer of any network.
    async fn check_subnets(&self, network: &Network) -> Result<(), CallError> {
        let space = network.address_space;
        for NetworkRules { network: other, rules, .. } in self.every_rule_set().await? {
            if let Some(Clash { rule, prefix, .. }) = rules.clashes(space, &[]).first() {
                let misfit = format!(
                    "is {space}, which overlaps {prefix}, a subnet behind a peer of network {other} by rule {rule}; remove the rule first"
                );
                return Err(CallError::invalid("ipv4_address_space", misfit));
            }
        }
        Ok(())
    }

    /// Deletes a network with its rules, budget, tokens and connectivity runs, cancels its deployments and, if that is asked
    /// for, ends its memberships; says how many. Agents take their interfaces down, the controller takes the addresses back.
    /// Its bytes stay, under its id: they were paid for.
    pub(crate) async fn delete_network(
        &self,
        id: &NetworkId,
        deletion: Deletion,
        actor: &str,
    ) -> Result<(Network, usize), CallError> {
        let seen = self.store.list(&key::networks()).await?.revision;
        let current = self.network(id).await?;
        let mut removed = 0;
        if deletion == Deletion::WithPeers {
            // Of the network that was seen: somebody else may have deleted it since, and made another under its id.
            removed = self.clear_remains(id, seen.max(current.created), actor).await?;
        }
        for _ in 0..TRIES {
            let transaction = self.store.transaction().same(&current.key, current.created);
            let mut transaction = transaction.delete(&current.key).delete(&key::rules(id)).delete(&key::budget(id));
            if deletion == Deletion::OfEmpty {
                transaction = transaction.none_after(&key::memberships(id), self.seen_empty(id).await?);
            }
            let message = format!("network {id} deleted with {removed} peers");
            let note = Note { kind: "network.deleted", network: Some(id), host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(deleted) => {
                    // Whoever joined while this went on; what is younger belongs to a new network of this id.
                    removed += self.clear_remains(id, deleted, actor).await?;
                    return Ok((current.value, removed));
                }
                Err(StoreError::Conflict { key }) if key == current.key.path() => {
                    return Err(CallError::NotFound(format!("network {id} was deleted by somebody else")));
                }
                Err(StoreError::Conflict { .. }) => {} // somebody joined
                Err(error) => return Err(error.into()),
            }
        }
        Err(busy())
    }

    /// Up to which revision a network is known to have no peers; one that has some is not deleted without force.
    async fn seen_empty(&self, id: &NetworkId) -> Result<Revision, CallError> {
        let members = self.store.list(&key::memberships(id)).await?;
        let seen = members.revision;
        match members.complete()?.len() {
            0 => Ok(seen),
            members => Err(CallError::Precondition(format!(
                "network {id} still has {members} peers; remove them first, or force its deletion"
            ))),
        }
    }

    /// Removes what belongs to a network as it was up to revision `until`, and what an earlier deletion that was cut short
    /// has left. What is younger is not touched. No membership may come to life again in a network that is made under the
    /// same id.
    async fn clear_remains(&self, id: &NetworkId, until: Revision, actor: &str) -> Result<usize, CallError> {
        let removed = self.remove_members(id, until, actor).await?;
        self.delete_tokens(id, until).await?;
        self.delete_runs(id, until).await?;
        self.cancel_deployments(id, until, actor).await?;
        Ok(removed)
    }

    /// A network that is made later under the same id must not admit who holds a token made up to `until`.
    async fn delete_tokens(&self, network: &NetworkId, until: Revision) -> Result<(), CallError> {
        let mut tokens = self.store.list(&key::tokens()).await?.complete()?;
        tokens.retain(|token| token.value.network == *network && token.created <= until);
        for batch in tokens.chunks(DELETIONS) {
            let deletions =
                batch.iter().fold(self.store.transaction(), |deletions, token| deletions.delete(&token.key));
            deletions.commit().await?;
        }
        Ok(())
    }

    /// Ends the memberships of a network that were made up to `until`; says how many.
    async fn remove_members(&self, network: &NetworkId, until: Revision, actor: &str) -> Result<usize, CallError> {
        let mut removed = 0;
        loop {
            let mut members = self.store.list(&key::memberships(network)).await?.complete()?;
            members.retain(|member| member.created <= until);
            if members.is_empty() {
                return Ok(removed);
            }
            for batch in members.chunks(REMOVALS) {
                let removal = |transaction, member| self.removal(transaction, member, actor);
                match batch.iter().fold(self.store.transaction(), removal).commit().await {
                    Ok(_) => removed += batch.len(),
                    Err(StoreError::Conflict { .. }) => {} // one of them changed or went; all are looked at again
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn removal(&self, transaction: Transaction, member: &Versioned<Membership>, actor: &str) -> Transaction {
        let transaction = transaction.unchanged(&member.key, member.modified);
        let transaction = self.agents.end_membership(transaction, &member.value, actor);
        match member.value.plain {
            true => transaction.delete(&key::host(&member.value.host)), // it stood for this membership only
            false => transaction,
        }
    }

    async fn recommended_space(&self, hosts: u32) -> Result<Ipv4Net, CallError> {
        let hosts = if hosts == 0 { DEFAULT_HOSTS } else { hosts };
        let advice = self.advise(Wish { hosts, limit: 1, ..Wish::default() }).await?;
        let best = advice.proposals.first().map(|proposal| proposal.space);
        best.ok_or_else(|| CallError::Precondition(format!("no address space is left: {}", advice.message)))
    }
}

/// Makes two transactions that give out address spaces exclude each other.
fn with_plan(transaction: Transaction, plan: Option<&Versioned<AddressPlan>>) -> Transaction {
    let key = key::address_plan();
    let next = AddressPlan { changes: plan.map_or(0, |plan| plan.value.changes) + 1 };
    match plan {
        Some(plan) => transaction.unchanged(&key, plan.modified).put(&key, &next),
        None => transaction.absent(&key).put(&key, &next),
    }
}

fn busy() -> CallError {
    CallError::Conflict("others keep changing networks at the same time; repeat the call".to_owned())
}

/// What an event says of a change.
fn differences(before: &Network, after: &Network) -> String {
    let mut differences = Vec::new();
    let mut compare = |what: &str, before: String, after: String| {
        if before != after {
            differences.push(format!("{what} from {before} to {after}"));
        }
    };
    compare("name", before.name.clone(), after.name.clone());
    compare("address space", before.address_space.to_string(), after.address_space.to_string());
    compare("rule type", before.rule_type.to_string(), after.rule_type.to_string());
    compare("encryption policy", before.encryption_policy.to_string(), after.encryption_policy.to_string());
    let settings = |network: &Network| network.path_settings.to_string();
    compare("path settings", settings(before), settings(after));
    if before.description != after.description {
        differences.push("description".to_owned());
    }
    differences.join(", ")
}
