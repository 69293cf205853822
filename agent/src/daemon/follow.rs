//! Following the service: what its messages change. Only an authenticated, explicit end takes a membership away; an
//! error never does.

use std::sync::Arc;

use cladnet_model::NetworkId;
use cladnet_proto::{
    cladnet::v1::{Applied, MembershipEnded, TariffBook, Welcome, service_message::Message},
    convert,
};
use tracing::{info, warn};

use super::{
    Agent, clock,
    core::{Core, member_of},
};
use crate::{configuration::Refusal, control::protocol::ServiceStatus, failure::chain, state::Identity, sync::Subject};

impl Subject for Arc<Agent> {
    async fn applied(&self) -> Vec<Applied> {
        let core = self.core.lock().await;
        let sound = core.memberships.values().filter(|membership| !membership.resync);
        sound
            .filter_map(|membership| Some(membership.configuration.as_ref()?.applied(membership.record.public_key())))
            .collect()
    }

    async fn tariff_book_version(&self) -> String {
        self.core.lock().await.book.version().to_owned()
    }

    async fn take(&self, message: Message) -> Result<(), Refusal> {
        let mut core = self.core.lock().await;
        match message {
            Message::Welcome(welcome) => self.welcome(&mut core, &welcome).await,
            Message::Snapshot(snapshot) => {
                let network = core.take_snapshot(snapshot)?;
                self.applied_anew(&mut core, network).await;
            }
            Message::Delta(delta) => {
                let network = core.take_delta(delta)?;
                self.applied_anew(&mut core, network).await;
            }
            Message::Ended(ended) => self.ended(&mut core, &ended).await,
            Message::Command(command) => self.carry_out(command),
            Message::TariffBook(book) => self.priced_anew(&mut core, book).await,
            Message::UsageTaken(taken) => self.usage_taken(taken.sequence),
            Message::Pong(()) => {}
        }
        Ok(())
    }

    async fn link(&self, status: ServiceStatus) {
        if !matches!(status, ServiceStatus::Connected { .. }) {
            self.stop_reporting();
        }
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

impl Agent {
    async fn ended(&self, core: &mut Core, ended: &MembershipEnded) {
        core.early.retain(|network, _| network.as_str() != ended.network_id);
        let Some(network) = core.ended_by(ended) else { return };
        info!(%network, reason = ended.reason, "this host is no member any more");
        self.forget(core, &network).await;
    }

    async fn welcome(self: &Arc<Self>, core: &mut Core, welcome: &Welcome) {
        core.early.clear();
        clock::watch(core, welcome);
        for network in core.missing_in(welcome) {
            warn!(%network, "the service says that this host is no member any more");
            self.forget(core, &network).await;
        }
        let listed = |network: &NetworkId| welcome.network_ids.iter().any(|id| id == network.as_str());
        self.leave_now(core, |network| listed(network) || !welcome.complete);
        core.problems.retain(|about, _| !about.starts_with(&member_of("")));
        for id in &welcome.network_ids {
            let mut known = core.memberships.keys().chain(core.leaving.keys());
            if !known.any(|network| network.as_str() == id) {
                let problem = format!(
                    "the service counts this host a member of {id}, but its key is not here; remove the peer with \
                     `cladnet peer remove`, or leave and join again"
                );
                core.problems.insert(member_of(id), problem);
            }
        }
    }

    /// Other prices: paths are chosen anew. A book that cannot be read leaves the one before in force.
    async fn priced_anew(&self, core: &mut Core, book: TariffBook) {
        let book = match convert::book(book) {
            Ok(book) => Arc::new(book),
            Err(error) => {
                warn!(%error, "the tariff book cannot be read; going on with the one before");
                return;
            }
        };
        info!(version = book.version(), "tariff book changed");
        if let Err(error) = tokio::task::block_in_place(|| self.state.save_tariff_book(&book)) {
            warn!(error = chain(&error), "tariff book not saved; a restart would go on with the one before");
        }
        core.book = book.clone();
        core.memberships.values_mut().for_each(|membership| membership.prices.book = book.clone());
        self.reconcile_all(core).await;
    }

    async fn applied_anew(&self, core: &mut Core, network: Option<NetworkId>) {
        if let Some(network) = network
            && let Some(membership) = core.memberships.get_mut(&network)
        {
            membership.unsaved = true;
            self.reconcile_network(core, &network).await;
        }
        self.publish(core);
        self.unsaved.notify_one();
    }
}
