//! The daemon's state, and how the device is made to agree with it. Level-triggered: whatever happened, [`Agent::reconcile`] looks at what
//! should be and what is, and is safe to call again.

use std::{collections::BTreeMap, sync::Arc};

use cladnet_model::{NetworkId, PeerState};
use cladnet_pki::channel::ServiceUrl;
use cladnet_proto::cladnet::v1::{Applied, Delta, Snapshot, Welcome, service_message::Message};
use prost::Message as _;
use tracing::{debug, info, warn};

use super::{
    Agent,
    membership::{Membership, Target},
};
use crate::{
    configuration::{Configuration, Refusal},
    control::protocol::ServiceStatus,
    failure::chain,
    netlink::conflicting_route,
    state::{Identity, MembershipRecord, StateDir},
    sync::Subject,
};

/// What the daemon knows and wants.
#[derive(Default)]
pub(crate) struct Core {
    pub identity: Option<Arc<Identity>>,
    /// Why there is no identity although there are files: nothing may be joined over them.
    pub blocked: Option<String>,
    pub memberships: BTreeMap<NetworkId, Membership>,
    pub link: ServiceStatus,
    /// What does not work, by what it is about.
    pub problems: BTreeMap<String, String>,
}

impl Core {
    /// Reads the state. What cannot be read becomes a problem, never an end: a loop of crashes helps nobody.
    pub(super) fn load(state: &StateDir, machine_id: &str) -> Self {
        let mut core = Self::default();
        match state.identity() {
            Ok(Some(identity)) if same_machine(&identity.machine_id, machine_id) => {
                core.identity = Some(Arc::new(identity))
            }
            Ok(Some(identity)) => {
                core.blocked = Some(format!(
                    "the state in {} belongs to another machine (host {}): this disk is a copy, and two machines must not be one host; \
                     run `cladnet-agent leave --all` here, then join again",
                    state.path().display(),
                    identity.host
                ));
            }
            Ok(None) => {}
            Err(error) => {
                core.blocked = Some(format!(
                    "{}; bring the file back, or run `cladnet-agent leave --all` to give this host's identity up, then join again",
                    chain(&error)
                ));
            }
        }
        if let Some(blocked) = &core.blocked {
            warn!(problem = blocked, "this host's identity cannot be used");
        } else if let Some(identity) = core.identity.clone() {
            core.load_memberships(state, &identity);
        }
        core
    }

    fn load_memberships(&mut self, state: &StateDir, identity: &Identity) {
        let found = match state.memberships() {
            Ok(found) => found,
            Err(error) => {
                warn!(error = chain(&error), "memberships cannot be read");
                self.problems.insert("state".into(), chain(&error));
                return;
            }
        };
        for error in found.errors {
            warn!(error = chain(&error), "a membership cannot be used");
            let advice = "leave that network and join it again, or bring the file back";
            self.problems.insert(chain(&error), format!("{}; {advice}", chain(&error)));
        }
        for record in found.records {
            let configuration = match restore(&record, identity) {
                Ok(configuration) => configuration,
                Err(problem) => {
                    warn!(network = %record.network, problem, "the last configuration cannot be used; waiting for the service's");
                    None
                }
            };
            self.memberships.insert(record.network.clone(), Membership::new(record, configuration));
        }
    }

    /// The services of this host's identity.
    pub(super) fn services(&self) -> Vec<ServiceUrl> {
        let urls = self.identity.iter().flat_map(|identity| &identity.services);
        urls.filter_map(|url| url.parse().ok()).collect()
    }
}

/// Without a machine id nothing can be told, and nothing is.
fn same_machine(saved: &str, found: &str) -> bool {
    saved.is_empty() || found.is_empty() || saved == found
}

fn restore(record: &MembershipRecord, identity: &Identity) -> Result<Option<Configuration>, String> {
    if record.snapshot.is_empty() {
        return Ok(None);
    }
    let snapshot = Snapshot::decode(record.snapshot.as_slice()).map_err(|error| error.to_string())?;
    Configuration::from_snapshot(&identity.host, &record.network, None, snapshot)
        .map(Some)
        .map_err(|error| error.to_string())
}

impl Agent {
    pub(super) async fn reconcile_all(&self, core: &mut Core) {
        for membership in core.memberships.values_mut() {
            self.reconcile(membership).await;
        }
        self.publish(core);
    }

    /// What failed may have become possible: a route is gone, a device is back.
    pub(super) async fn retry_failed(&self, core: &mut Core) {
        for membership in core.memberships.values_mut().filter(|m| m.state == PeerState::Failed) {
            self.reconcile(membership).await;
        }
        self.publish(core);
    }

    /// Makes the device's interface what it should be.
    pub(super) async fn reconcile(&self, membership: &mut Membership) {
        let facts = self.facts.borrow().clone();
        let before = (membership.state, membership.reason.clone());
        match membership.target(&facts) {
            Target::Up(config) => {
                let outcome = if membership.running {
                    self.device.update_interface(*config).await.map_err(|error| chain(&error))
                } else {
                    self.raise(membership, *config).await
                };
                (membership.state, membership.reason) = match outcome {
                    Ok(()) => (PeerState::Tunneling, String::new()),
                    Err(reason) => (PeerState::Failed, reason),
                };
            }
            Target::Down(state, reason) => {
                if membership.running {
                    membership.running = false;
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

    async fn raise(&self, membership: &mut Membership, config: crate::device::InterfaceConfig) -> Result<(), String> {
        let routes = self.netlink.routes().await.map_err(|error| chain(&error))?;
        let space = config.address.trunc();
        if let Some(route) =
            conflicting_route(&routes, space, |interface| self.config.interface_prefix.names(interface))
        {
            return Err(format!(
                "address space {space} overlaps this host's route {} on {}; the network needs another address space, or the host another route",
                route.destination, route.interface
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

    /// Takes a network's interface down and forgets its key.
    pub(super) async fn forget(&self, core: &mut Core, network: &NetworkId) {
        let Some(mut membership) = core.memberships.remove(network) else { return };
        if membership.running {
            membership.running = false;
            if let Err(error) = self.device.remove_interface(&membership.record.interface).await {
                warn!(interface = membership.record.interface, error = chain(&error), "interface not removed");
            }
        }
        if let Err(error) = tokio::task::block_in_place(|| self.state.forget_membership(network)) {
            warn!(%network, error = chain(&error), "membership file not removed");
        }
        self.publish(core);
    }

    async fn welcome(&self, core: &mut Core, welcome: &Welcome) {
        let listed = |network: &NetworkId| welcome.network_ids.iter().any(|id| id == network.as_str());
        let ended: Vec<_> = core
            .memberships
            .iter()
            .filter(|(network, membership)| !listed(network) && membership.ends_by_absence())
            .map(|(network, _)| network.clone())
            .collect();
        for network in ended {
            warn!(%network, "the service says that this host is no member any more");
            self.forget(core, &network).await;
        }
        core.problems.retain(|about, _| !about.starts_with("member of "));
        for id in &welcome.network_ids {
            if !core.memberships.keys().any(|network| network.as_str() == id) {
                let problem = format!(
                    "the service counts this host a member of {id}, but its key is not here; remove the peer with \
                     `cladnet peer remove`, or leave and join again"
                );
                core.problems.insert(format!("member of {id}"), problem);
            }
        }
    }

    async fn snapshot(&self, core: &mut Core, snapshot: Snapshot) -> Result<(), Refusal> {
        let Some(identity) = core.identity.clone() else { return Ok(()) };
        let id = snapshot.membership.as_ref().map(|m| m.network_id.clone()).ok_or(Refusal::NoMembership)?;
        let Some(membership) = id.parse().ok().and_then(|network: NetworkId| core.memberships.get_mut(&network)) else {
            debug!(network = id, "a snapshot of a network that this host has no key of");
            return Ok(());
        };
        let network = membership.record.network.clone();
        match Configuration::from_snapshot(&identity.host, &network, membership.configuration.as_ref(), snapshot) {
            Ok(configuration) => {
                membership.configuration = Some(configuration);
                membership.resync = false;
            }
            Err(refusal) => {
                membership.resync = true;
                return Err(refusal);
            }
        }
        self.applied_anew(core, &network).await;
        Ok(())
    }

    async fn delta(&self, core: &mut Core, delta: Delta) -> Result<(), Refusal> {
        let id = delta.network_id.clone();
        let Some(membership) = id.parse().ok().and_then(|network: NetworkId| core.memberships.get_mut(&network)) else {
            debug!(network = id, "a delta of a network that this host has no key of");
            return Ok(());
        };
        let network = membership.record.network.clone();
        let configuration = membership.configuration.as_mut().filter(|_| !membership.resync);
        if let Err(refusal) = configuration.ok_or(Refusal::NoBase).and_then(|configuration| configuration.apply(delta))
        {
            membership.resync = true;
            return Err(refusal);
        }
        self.applied_anew(core, &network).await;
        Ok(())
    }

    async fn applied_anew(&self, core: &mut Core, network: &NetworkId) {
        if let Some(membership) = core.memberships.get_mut(network) {
            membership.unsaved = true;
            self.reconcile(membership).await;
        }
        self.publish(core);
        self.unsaved.notify_one();
    }
}

impl Subject for Arc<Agent> {
    async fn applied(&self) -> Vec<Applied> {
        let core = self.core.lock().await;
        let sound = core.memberships.values().filter(|membership| !membership.resync);
        sound.filter_map(|membership| Some(membership.configuration.as_ref()?.applied())).collect()
    }

    async fn take(&self, message: Message) -> Result<(), Refusal> {
        let mut core = self.core.lock().await;
        match message {
            Message::Welcome(welcome) => self.welcome(&mut core, &welcome).await,
            Message::Snapshot(snapshot) => self.snapshot(&mut core, snapshot).await?,
            Message::Delta(delta) => self.delta(&mut core, delta).await?,
            Message::Ended(ended) => {
                if let Ok(network) = ended.network_id.parse() {
                    info!(%network, reason = ended.reason, "this host is no member any more");
                    self.forget(&mut core, &network).await;
                }
            }
            Message::Command(command) => self.carry_out(command),
            Message::Pong(()) => {}
        }
        Ok(())
    }

    async fn link(&self, status: ServiceStatus) {
        self.core.lock().await.link = status;
    }

    async fn renewed(&self, certificate: String) {
        let mut core = self.core.lock().await;
        let Some(identity) = &core.identity else { return };
        let identity = Arc::new(Identity { certificate, ..Identity::clone(identity) });
        if let Err(error) = tokio::task::block_in_place(|| self.state.save_identity(&identity)) {
            warn!(error = chain(&error), "renewed certificate not saved");
            core.problems
                .insert("certificate".into(), format!("the renewed certificate is not saved: {}", chain(&error)));
        } else {
            core.problems.remove("certificate");
        }
        core.identity = Some(identity.clone());
        self.identity.send_replace(Some(identity));
    }
}
