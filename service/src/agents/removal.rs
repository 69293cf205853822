//! How a membership ends, and a host: in one transaction with everything that hangs on it, so that no key of a gone
//! member stays taken. What the controller wrote of it, the controller clears.

use cladnet_model::{HostId, Membership, NetworkId};
use cladnet_store::{StoreError, Transaction, Versioned, key};
use tracing::info;

use super::{Agents, Shared};
use crate::{error::CallError, events::Note};

/// Tries against somebody who keeps changing the same host.
const ATTEMPTS: usize = 16;

impl Agents {
    /// Ends the membership that was seen, changed since or not. `actor` is who asked for it, as in events.
    pub(crate) async fn remove_membership(&self, seen: Versioned<Membership>, actor: &str) -> Result<(), CallError> {
        self.shared.remove_membership(seen, actor).await
    }

    /// Ends every membership of a host and the host itself: its certificate admits to nothing from now on.
    pub(crate) async fn remove_host(&self, host: &HostId, actor: &str) -> Result<(), CallError> {
        self.shared.remove_host(host, actor).await
    }

    /// Adds the end of a membership to a transaction, for those who end many at once.
    pub(crate) fn end_membership(&self, transaction: Transaction, membership: &Membership, actor: &str) -> Transaction {
        self.shared.ending(transaction, membership, actor)
    }
}

impl Shared {
    /// Ends a host's membership.
    pub(super) async fn leave(&self, network: &NetworkId, host: &HostId) -> Result<(), CallError> {
        let found = self.parts.store.get(&key::membership(network, host)).await?;
        let found = found.ok_or_else(|| CallError::NotFound(format!("{host} is no member of network {network}")))?;
        self.remove_membership(found, host.as_str()).await
    }

    async fn remove_membership(&self, seen: Versioned<Membership>, actor: &str) -> Result<(), CallError> {
        let created = seen.created;
        let mut current = seen;
        for _ in 0..ATTEMPTS {
            let transaction = self.parts.store.transaction().unchanged(&current.key, current.modified);
            let transaction = self.ending(transaction, &current.value, actor);
            let Membership { network, host, .. } = &current.value;
            match transaction.commit().await {
                Ok(_) => {
                    info!(%host, %network, actor, "membership ended");
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let found = self.parts.store.get(&current.key).await?.filter(|found| found.created == created);
            current = found.ok_or_else(|| {
                CallError::NotFound(format!("somebody else ended the membership of {host} in network {network}"))
            })?;
        }
        Err(CallError::Conflict(format!("the membership of {} keeps changing; try again", current.value.host)))
    }

    pub(super) async fn remove_host(&self, host: &HostId, actor: &str) -> Result<(), CallError> {
        let host_key = key::host(host);
        let mut seen = None;
        for _ in 0..ATTEMPTS {
            let found = self.parts.store.get(&host_key).await?;
            let record = found.ok_or_else(|| CallError::NotFound(format!("there is no host {host}")))?;
            if *seen.get_or_insert(record.created) != record.created {
                return Err(CallError::NotFound(format!("somebody else removed {host}; this one enrolled since")));
            }
            // Every join rewrites the host's record: at its revision the view knows all memberships.
            self.reached(record.modified.get()).await?;
            let memberships: Vec<Membership> = {
                let view = self.view();
                view.memberships_of(host).cloned().collect()
            };
            let message = format!("{} ({host}) was removed", record.value.facts.name);
            let note = Note { kind: "host.removed", network: None, host: Some(host), actor, message };
            let transaction = self.parts.store.transaction().unchanged(&host_key, record.modified);
            let transaction = memberships
                .iter()
                .fold(transaction, |transaction, membership| self.ending(transaction, membership, actor))
                .delete(&host_key)
                .delete(&key::usage_cursor(host));
            match self.note(transaction, note).commit().await {
                Ok(_) => {
                    info!(%host, actor, memberships = memberships.len(), "host removed");
                    return Ok(());
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("{host} keeps changing; try again")))
    }

    fn ending(&self, transaction: Transaction, membership: &Membership, actor: &str) -> Transaction {
        let Membership { network, host, .. } = membership;
        let message = format!("{host} left network {network}");
        let note = Note { kind: "peer.removed", network: Some(network), host: Some(host), actor, message };
        let transaction = transaction
            .delete(&key::membership(network, host))
            .delete(&key::status(network, host))
            .delete(&key::public_key(&membership.public_key));
        self.note(transaction, note)
    }
}
