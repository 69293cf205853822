//! Making the device agree with what should be. Level-triggered: whatever happened, [`Agent::reconcile`] looks at what
//! should be and what is, and is safe to call again.

use cladnet_model::{NetworkId, PeerState};
use jiff::Timestamp;
use prost::Message as _;
use tracing::{info, warn};

use super::{
    Agent,
    core::Core,
    membership::{Membership, Target},
    subnets::Occasion,
};
use crate::{device::InterfaceConfig, failure::chain, netlink::conflicting_route, paths::Prices};

impl Agent {
    pub(super) async fn reconcile_all(&self, core: &mut Core) {
        self.settle_subnets(core).await;
        for membership in core.memberships.values_mut() {
            self.reconcile(membership).await;
        }
        self.forward(core, Occasion::Review).await;
        self.publish(core);
    }

    /// What failed may have become possible: a route is gone, a device is back. A day later, other prices may be in force.
    /// What the host was asked to do for subnets may have been undone.
    pub(super) async fn review(&self, core: &mut Core) {
        let now = Timestamp::now();
        for membership in core.memberships.values_mut() {
            if membership.state == PeerState::Failed || !membership.prices.hold_at(now) {
                self.reconcile(membership).await;
            }
        }
        if self.forwarder.lock().await.has_work() {
            self.forward(core, Occasion::Review).await;
        }
        self.publish(core);
    }

    /// Makes the device agree about one network, and about those that its subnets were in the way of, or that were in the
    /// way of its own.
    pub(super) async fn reconcile_network(&self, core: &mut Core, network: &NetworkId) {
        let changed = self.settle_subnets(core).await;
        for (id, membership) in &mut core.memberships {
            if id == network || changed.contains(id) {
                self.reconcile(membership).await;
            }
        }
        self.forward(core, Occasion::News).await;
    }

    /// Makes the device's interface what it should be.
    async fn reconcile(&self, membership: &mut Membership) {
        let facts = self.facts.borrow().clone();
        let before = (membership.state, membership.reason.clone());
        self.read_meter(membership).await;
        membership.prices = Prices::at(membership.prices.book.clone(), Timestamp::now());
        match membership.target(&facts) {
            Target::Up(config) => {
                let outcome = if membership.running {
                    self.device.update_interface(*config).await.map_err(|error| chain(&error))
                } else {
                    self.raise(membership, *config).await
                };
                if outcome.is_ok() {
                    let pairs = membership.pairs(&facts);
                    self.device.set_pairs(&membership.record.interface, pairs).await;
                }
                (membership.state, membership.reason) = match outcome {
                    Ok(()) => (PeerState::Tunneling, String::new()),
                    Err(reason) => (PeerState::Failed, reason),
                };
            }
            Target::Down(state, reason) => {
                if membership.running {
                    membership.running = false;
                    membership.state = PeerState::Closing;
                    let closing = membership.status();
                    self.statuses.send_modify(|told| drop(told.insert(membership.record.network.clone(), closing)));
                    if let Err(error) = self.device.remove_interface(&membership.record.interface).await {
                        warn!(interface = membership.record.interface, error = chain(&error), "interface not removed");
                    }
                }
                (membership.state, membership.reason) = (state, reason.to_owned());
            }
        }
        if before != (membership.state, membership.reason.clone()) {
            let (network, state, reason) = (&membership.record.network, membership.state, &membership.reason);
            if state == PeerState::Failed {
                warn!(%network, reason, "network failed");
            } else {
                info!(%network, %state, reason, "network changed");
            }
        }
    }

    async fn raise(&self, membership: &mut Membership, config: InterfaceConfig) -> Result<(), String> {
        let routes = self.netlink.routes().await.map_err(|error| chain(&error))?;
        let space = config.address.trunc();
        if let Some(route) =
            conflicting_route(&routes, space, |interface| self.config.interface_prefix.names(interface))
        {
            return Err(format!(
                "address space {space} overlaps this host's route {route}; the network needs another address space, or the host another route"
            ));
        }
        if let Some(service) = self.service_addresses().into_iter().find(|address| space.contains(address)) {
            return Err(format!(
                "address space {space} holds {service}, where this host's service is; the network needs another address space"
            ));
        }
        if self.netlink.link(&config.name).await.map_err(|error| chain(&error))?.is_some() {
            return Err(format!("interface {} exists already and is not ours; remove it", config.name));
        }
        self.device.add_interface(config).await.map_err(|error| chain(&error))?;
        membership.running = true;
        Ok(())
    }

    /// Tells the stream, and whoever waits, how the memberships are.
    pub(super) fn publish(&self, core: &Core) {
        let statuses = core.memberships.iter().map(|(network, m)| (network.clone(), m.status())).collect();
        self.statuses.send_if_modified(|published| {
            let new = *published != statuses;
            *published = statuses;
            new
        });
    }

    /// Writes what changed; true if everything is on disk.
    pub(super) fn save(&self, core: &mut Core) -> bool {
        for membership in core.memberships.values_mut().filter(|membership| membership.unsaved) {
            if let Some(configuration) = &membership.configuration {
                membership.record.snapshot = configuration.to_snapshot().encode_to_vec();
            }
            match tokio::task::block_in_place(|| self.state.save_membership(&membership.record)) {
                Ok(()) => membership.unsaved = false,
                Err(error) => {
                    let problem = format!(
                        "{}; traffic goes on, but a restart would know only what was saved before",
                        chain(&error)
                    );
                    if core.problems.insert("save".into(), problem).is_none() {
                        warn!(error = chain(&error), "configuration not saved; trying again");
                    }
                    return false;
                }
            }
        }
        if core.problems.remove("save").is_some() {
            info!("configuration saved again");
        }
        true
    }
}
