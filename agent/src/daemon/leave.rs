//! Ending memberships: as asked for here, as said by the service, and as it could not be told before.

use std::sync::Arc;

use cladnet_model::{DesiredState, NetworkId};
use tokio::task::block_in_place;
use tracing::{info, warn};

use super::{
    Agent,
    core::{Core, file_of, member_of},
    requests::pick,
    take::about,
};
use crate::{
    control::{Reply, protocol::Left},
    enrol::{self, EnrolError},
    failure::{Failure, chain},
    state::{Identity, MembershipRecord},
};

impl Agent {
    /// Ends memberships; what the service cannot be told now is said in the answer.
    pub(super) async fn leave(&self, network: Option<NetworkId>, all: bool) -> Result<Reply, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let (identity, networks) = {
            let core = self.core.lock().await;
            if let Some(network) = network.as_ref().filter(|network| !all && core.has_lost(network)) {
                let identity = core.identity.clone();
                drop(core);
                return self.leave_lost(identity.as_deref(), network).await;
            }
            let networks = match all {
                true => core.memberships.keys().cloned().collect(),
                false => vec![pick(&core, network)?],
            };
            (core.identity.clone(), networks)
        };
        self.silence(&networks).await;
        let is_settled = self.settle_usage(&networks).await;
        let told = match &identity {
            Some(identity) => enrol::leave(identity, networks.first().filter(|_| !all)).await,
            None => Ok(()),
        };
        let later = !all && told.as_ref().is_err_and(EnrolError::is_unreachable);
        let advice =
            if later { "it will be when it is back" } else { "remove the peer there with `cladnet peer remove`" };
        let untold = told.err().map(|error| format!("the service was not told ({error}); {advice}"));
        // Of a network alone it is reported later.
        let unbilled =
            (all && !is_settled).then(|| "what was sent since the last report is missing in the bill".to_owned());
        let warnings: Vec<_> = untold.into_iter().chain(unbilled).collect();
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        let mut core = self.core.lock().await;
        for network in &networks {
            if later {
                self.leave_later(&mut core, network).await;
            } else {
                self.forget(&mut core, network).await;
            }
        }
        if all {
            self.on_disk(|| self.state.forget_all())?;
            core.identity = None;
            core.blocked = None;
            core.leaving.clear();
            core.problems.clear();
            self.forget_usage();
            self.identity.send_replace(None);
            self.services.send_replace(Vec::new());
        }
        info!(?networks, all, "left");
        Ok(Reply::Left(Left { networks, host: all, warning }))
    }

    /// Takes networks down that are to be left, so that what they have carried can be told to the last byte before they end.
    async fn silence(&self, networks: &[NetworkId]) {
        let mut core = self.core.lock().await;
        for network in networks {
            if let Some(membership) = core.memberships.get_mut(network) {
                membership.record.wish = DesiredState::Down;
                self.reconcile_network(&mut core, network).await;
            }
        }
    }

    /// Ends a membership of which nothing here can be used: what is left of its file goes once the service was told.
    async fn leave_lost(&self, identity: Option<&Identity>, network: &NetworkId) -> Result<Reply, Failure> {
        if let Some(identity) = identity {
            enrol::leave(identity, Some(network)).await?;
        }
        self.on_disk(|| self.state.forget_membership(network))?;
        let mut core = self.core.lock().await;
        for problem in [file_of(network.as_str()), member_of(network.as_str())] {
            core.problems.remove(&problem);
        }
        info!(%network, "left a network of which nothing could be used here");
        Ok(Reply::Left(Left { networks: vec![network.clone()], host: false, warning: None }))
    }

    /// Takes a network's interface down and forgets its key.
    pub(super) async fn forget(&self, core: &mut Core, network: &NetworkId) {
        if self.drop_membership(core, network).await.is_some() {
            self.forget_file(network);
        }
    }

    /// Takes a network's interface down and remembers that the service is to be told.
    pub(super) async fn leave_later(&self, core: &mut Core, network: &NetworkId) {
        let Some(record) = self.drop_membership(core, network).await else { return };
        let record = MembershipRecord { left: true, snapshot: Vec::new(), ..record };
        if let Err(error) = block_in_place(|| self.state.save_membership(&record)) {
            warn!(%network, error = chain(&error), "leaving is not saved");
        }
        core.leaving.insert(network.clone(), record);
    }

    async fn drop_membership(&self, core: &mut Core, network: &NetworkId) -> Option<MembershipRecord> {
        let membership = core.memberships.remove(network)?;
        core.problems.remove(&about(network));
        self.read_meter(&membership).await;
        if membership.running
            && let Err(error) = self.device.remove_interface(&membership.record.interface).await
        {
            warn!(interface = membership.record.interface, error = chain(&error), "interface not removed");
        }
        // What it had may be another network's now.
        self.reconcile_network(core, network).await;
        self.publish(core);
        Some(membership.record)
    }

    fn forget_file(&self, network: &NetworkId) {
        if let Err(error) = block_in_place(|| self.state.forget_membership(network)) {
            warn!(%network, error = chain(&error), "membership file not removed");
        }
    }

    /// Tells the service what it could not be told before.
    pub(super) fn leave_now(self: &Arc<Self>, core: &mut Core, is_member: impl Fn(&NetworkId) -> bool) {
        let Some(identity) = core.identity.clone() else { return };
        for network in core.leaving.keys().cloned().collect::<Vec<_>>() {
            if !is_member(&network) {
                core.leaving.remove(&network);
                self.forget_file(&network);
                continue;
            }
            let (agent, identity) = (self.clone(), identity.clone());
            tokio::spawn(async move { agent.tell_left(&identity, &network).await });
        }
    }

    async fn tell_left(&self, identity: &Identity, network: &NetworkId) {
        // Whoever joins it again meanwhile is not to be thrown out.
        let _one_at_a_time = self.changing.lock().await;
        if !self.core.lock().await.leaving.contains_key(network) {
            return;
        }
        // What is not counted now the service may not take from a host that is no member.
        self.settle_usage(std::slice::from_ref(network)).await;
        match enrol::leave(identity, Some(network)).await {
            Ok(()) => {
                info!(%network, "the service was told that this network was left");
                self.core.lock().await.leaving.remove(network);
                self.forget_file(network);
            }
            Err(error) => {
                warn!(%network, error = chain(&error), "the service cannot be told that this network was left")
            }
        }
    }
}
