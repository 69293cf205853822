//! What the service's messages change of the daemon's state, and what they end. Pure.

use cladnet_model::NetworkId;
use cladnet_proto::{
    cladnet::v1::{Delta, MembershipEnded, Snapshot, Welcome},
    convert,
};
use cladnet_tunnel::MAX_INTERFACES;
use tracing::{debug, warn};

use super::core::Core;
use crate::configuration::{Configuration, Refusal};

impl Core {
    /// Takes a snapshot on and tells whose interface it may change. A network that cannot be read is that network's problem only:
    /// a fresh snapshot would say the same again. Other refusals are for a fresh snapshot to heal.
    pub(super) fn take_snapshot(&mut self, snapshot: Snapshot) -> Result<Option<NetworkId>, Refusal> {
        let Some(identity) = self.identity.clone() else { return Ok(None) };
        let id = snapshot.membership.as_ref().map(|m| m.network_id.clone()).ok_or(Refusal::NoMembership)?;
        let Some(network) = readable(&id) else { return Ok(None) };
        let Some(membership) = self.memberships.get_mut(&network) else {
            debug!(%network, "a snapshot of a network that this host has no key of");
            if self.early.len() < MAX_INTERFACES {
                match Configuration::from_snapshot(&identity.host, &network, None, snapshot) {
                    Ok(configuration) => drop(self.early.insert(network, configuration)),
                    Err(refusal) => self.refuse(&network, refusal)?,
                }
            }
            return Ok(None);
        };
        match Configuration::from_snapshot(&identity.host, &network, membership.configuration.as_ref(), snapshot) {
            Ok(configuration) => {
                membership.configuration = Some(configuration);
                membership.resync = false;
                self.problems.remove(&about(&network));
            }
            Err(refusal) => self.refuse(&network, refusal)?,
        }
        Ok(Some(network))
    }

    /// Takes a delta on, as [`Core::take_snapshot`].
    pub(super) fn take_delta(&mut self, delta: Delta) -> Result<Option<NetworkId>, Refusal> {
        let Some(network) = readable(&delta.network_id) else { return Ok(None) };
        let unreadable = self.problems.contains_key(&about(&network));
        let Some(membership) = self.memberships.get_mut(&network) else {
            debug!(%network, "a delta of a network that this host has no key of");
            // What does not fit is learnt again when the join is through.
            if let Some(mut configuration) = self.early.remove(&network)
                && configuration.apply(delta).is_ok()
            {
                self.early.insert(network, configuration);
            }
            return Ok(None);
        };
        if unreadable && !delta.membership.as_ref().is_some_and(Configuration::can_read) {
            return Ok(None);
        }
        let configuration = membership.configuration.as_mut().filter(|_| !membership.resync);
        if let Err(refusal) = configuration.ok_or(Refusal::NoBase).and_then(|configuration| configuration.apply(delta))
        {
            self.refuse(&network, refusal)?;
        }
        Ok(Some(network))
    }

    /// The network whose membership here this message ends. One joined anew meanwhile has another key, and is not meant; of a
    /// service that names no key, one made a moment ago is not.
    pub(super) fn ended_by(&self, ended: &MembershipEnded) -> Option<NetworkId> {
        let network = readable(&ended.network_id)?;
        let membership = self.memberships.get(&network)?;
        let is_meant = match ended.public_key.as_slice() {
            [] => membership.is_confirmed(),
            key => key == membership.record.public_key().0,
        };
        is_meant.then_some(network)
    }

    /// The networks that a welcome is silent about, if its silence means anything.
    pub(super) fn missing_in(&self, welcome: &Welcome) -> Vec<NetworkId> {
        let listed = |network: &NetworkId| welcome.network_ids.iter().any(|id| id == network.as_str());
        let confirmed = self.memberships.iter().filter(|(_, membership)| membership.is_confirmed());
        let missing = confirmed.map(|(network, _)| network).filter(|network| welcome.complete && !listed(network));
        missing.cloned().collect()
    }

    fn refuse(&mut self, network: &NetworkId, refusal: Refusal) -> Result<(), Refusal> {
        if let Some(membership) = self.memberships.get_mut(network) {
            membership.resync = true;
        }
        let Refusal::Field(error) = refusal else { return Err(refusal) };
        warn!(%network, %error, "a configuration cannot be read; going on with the one before");
        let problem = format!(
            "the service's configuration of {network} cannot be read ({error}), the one before stays; a newer cladnet-agent may read it"
        );
        self.problems.insert(about(network), problem);
        Ok(())
    }
}

/// What a network's problem is kept under.
pub(super) fn about(network: &NetworkId) -> String {
    format!("configuration of {network}")
}

fn readable(id: &str) -> Option<NetworkId> {
    convert::required("network_id", id)
        .inspect_err(|error| warn!(id, %error, "a message about a network is left out"))
        .ok()
}
