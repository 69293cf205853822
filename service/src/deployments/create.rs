//! Making a deployment.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use cladnet_model::{
    Allocation, Deployment, DeploymentHost, DeploymentId, Hold, HostId, KeyId, Network, NetworkId,
    deployment::{AddressPolicy, DeploymentSettings, DeploymentTurn, Holder, Surroundings},
    end_of_quarantine,
};
use cladnet_proto::{cladnet::v1::CreateDeploymentRequest, convert};
use cladnet_store::{StoreError, Versioned, key};
use tracing::warn;

use crate::{Service, error::CallError, events::Note, networks::TRIES};

/// Machines written in one transaction: with the longest keys and labels they keep within what the store takes.
const BATCH: usize = 20;

impl Service {
    /// Makes a deployment. Its machines and their sealed keys are written first and its head last, so that a provisioner
    /// never sees half of it; what a crash leaves without a head is swept up later.
    pub(crate) async fn create_deployment(
        &self,
        network: &NetworkId,
        request: &CreateDeploymentRequest,
        actor: &KeyId,
    ) -> Result<DeploymentId, CallError> {
        let record = self.network(network).await?;
        let settings = self.checked(&record.value, request).await?;
        self.check_not_busy(&settings.hosts).await?;
        let now = self.clock.now();
        let head = Deployment {
            id: DeploymentId::at(now, rand::random()),
            network: network.clone(),
            action: settings.action,
            hosts: settings.hosts.iter().map(|host| host.name.clone()).collect(),
            concurrency: settings.concurrency,
            accept_new_host_keys: request.accept_new_host_keys,
            keep_credentials: request.keep_credentials,
            created_at: now,
            created_by: actor.clone(),
            cancelled_at: None,
            finished_at: None,
        };
        let made = match self.write_machines(&head.id, &settings, request).await {
            Ok(()) => self.write_head(&record, &head, &settings.hosts).await,
            Err(error) => Err(error.into()),
        };
        if let Err(refused) = made {
            // Without the head nobody will use them, but keys should not lie about.
            if let Err(error) = self.delete_machines(&head.id).await {
                warn!(deployment = %head.id, error = &error as &dyn std::error::Error, "keys not deleted yet");
            }
            return Err(refused);
        }
        Ok(head.id)
    }

    async fn checked(
        &self,
        network: &Network,
        request: &CreateDeploymentRequest,
    ) -> Result<DeploymentSettings, CallError> {
        let draft = convert::deployment_draft(request);
        let asks = draft.hosts.iter().any(|host| !host.overlay_address.is_empty());
        let taken = if asks { self.holders(&network.id).await? } else { BTreeMap::new() };
        // Which addresses are the control plane's the provisioner knows: it connects from there.
        let policy = AddressPolicy::default();
        let around = Surroundings { space: network.address_space, taken: &taken, policy: &policy };
        Ok(draft.check(&around)?)
    }

    /// Who has an overlay address of the network, or has asked for it.
    async fn holders(&self, network: &NetworkId) -> Result<BTreeMap<Ipv4Addr, Holder>, CallError> {
        let hosts = self.every_host_of(network).await?;
        let holder = |id: &HostId| match hosts.get(id) {
            Some(host) => Holder {
                name: host.facts.name.clone(),
                addresses: host.facts.endpoints.iter().map(|endpoint| endpoint.address.ip().to_canonical()).collect(),
                until: None,
            },
            None => Holder { name: id.to_string(), ..Holder::default() },
        };
        let members = self.store.list(&key::memberships(network)).await?.complete()?;
        let wanted = members.iter().filter_map(|member| Some((member.value.static_address?, &member.value.host)));
        let mut holders: BTreeMap<_, _> = wanted.map(|(address, host)| (address, holder(host))).collect();
        let allocations = self.store.list(&key::allocations(network)).await?.complete()?;
        for Allocation { address, host, hold, .. } in allocations.into_iter().map(|held| held.value) {
            let until = match hold {
                Hold::Held => None,
                // The same host may have it back.
                Hold::Quarantined { .. } if hosts.contains_key(&host) => None,
                Hold::Quarantined { since } => Some(end_of_quarantine(since)),
            };
            if until.is_none_or(|until| until > self.clock.now()) {
                holders.insert(address, Holder { until, ..holder(&host) });
            }
        }
        Ok(holders)
    }

    /// Whether another deployment, of whatever network, is at one of these machines. One that was cancelled and that nobody
    /// works on will not be any more.
    async fn check_not_busy(&self, hosts: &[DeploymentHost]) -> Result<(), CallError> {
        let bastion = |host: &DeploymentHost| hosts.iter().find(|other| Some(&other.name) == host.bastion.as_ref());
        let wanted: BTreeSet<String> = hosts.iter().map(|host| host.place(bastion(host))).collect();
        let heads = self.store.list(&key::deployments()).await?;
        for unreadable in &heads.undecodable {
            // Refusing everybody's deployments for it would be worse than two at one machine, where every step looks first.
            warn!(error = unreadable as &dyn std::error::Error, "a deployment cannot be read; taken for idle");
        }
        for head in heads.items {
            let head = head.value;
            if head.finished_at.is_some() {
                continue;
            }
            let other = self.deployment(&head.id).await?;
            if head.cancelled_at.is_some() && !other.claimed {
                continue;
            }
            let is_over = |host: &&DeploymentHost| {
                other.progress.get(&host.name).is_some_and(|progress| progress.state.is_final())
            };
            let place =
                |host: &DeploymentHost| host.place(host.bastion.as_ref().and_then(|name| other.machines.get(name)));
            let mut at_work = other.machines.values().filter(|host| !is_over(host));
            if let Some(busy) = at_work.find(|host| wanted.contains(&place(host))) {
                return Err(CallError::Precondition(format!(
                    "{} works on {} already, as machine {}; wait for it, or cancel it first",
                    head.id,
                    busy.ssh.place(),
                    busy.name
                )));
            }
        }
        Ok(())
    }

    async fn write_machines(
        &self,
        id: &DeploymentId,
        settings: &DeploymentSettings,
        request: &CreateDeploymentRequest,
    ) -> Result<(), StoreError> {
        let store = match &self.config.deployment_key {
            Some(key) => self.store.sealing_with(key.clone()),
            None => self.store.clone(),
        };
        let machines: Vec<_> = settings.hosts.iter().zip(&request.hosts).collect();
        for batch in machines.chunks(BATCH) {
            let write = batch.iter().fold(store.transaction(), |write, (host, sent)| {
                write
                    .put(&key::deployment_host(id, &host.name), *host)
                    .put_sealed(&key::deployment_credential(id, &host.name), sent.private_key.trim().as_bytes())
            });
            write.commit().await?;
        }
        Ok(())
    }

    /// Turns it into a job, if its network is still there and no other job came to its machines meanwhile.
    async fn write_head(
        &self,
        network: &Versioned<Network>,
        head: &Deployment,
        hosts: &[DeploymentHost],
    ) -> Result<(), CallError> {
        let turn_key = key::deployment_turn();
        for _ in 0..TRIES {
            let turn = self.store.get(&turn_key).await?;
            self.network(&head.network).await?;
            self.check_not_busy(hosts).await?;
            let next = DeploymentTurn { turns: turn.as_ref().map_or(0, |turn| turn.value.turns) + 1 };
            let transaction = match turn {
                Some(turn) => self.store.transaction().unchanged(&turn_key, turn.modified),
                None => self.store.transaction().absent(&turn_key),
            };
            let transaction = transaction.exists(&network.key).absent(&key::deployment(&head.id));
            let transaction = transaction.put(&turn_key, &next).put(&key::deployment(&head.id), head);
            let (count, action) = (hosts.len(), head.action);
            let message = format!("{} made: {action} on {count} machines for network {}", head.id, head.network);
            let (network, actor) = (Some(&head.network), head.created_by.as_str());
            let note = Note { kind: "deployment.created", network, host: None, actor, message };
            match self.note(transaction, note).commit().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict("others keep making deployments at the same moment; repeat the call".to_owned()))
    }
}
