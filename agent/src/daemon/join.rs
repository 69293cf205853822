//! `join`: becoming a host, or a member of a further network.

use std::{sync::Arc, time::Duration};

use cladnet_model::{DesiredState, JoinToken, NetworkId, PeerState};
use cladnet_pki::channel::ServiceUrl;
use cladnet_proto::cladnet::v1::HostFacts;
use tokio::{
    task::block_in_place,
    time::{Instant, timeout_at},
};
use tracing::info;

use super::{
    Agent,
    core::{Core, member_of},
    membership::Membership,
};
use crate::{
    control::{Reply, protocol::NetworkStatus, server::Caller},
    enrol::{self, EnrolError},
    facts::machine,
    failure::{Failure, Kind},
    state::{Identity, MembershipRecord, Pending, StateError},
};

impl Agent {
    /// Becomes a member of the token's network and waits for its interface; `wait` is for both. Nobody is asked any more
    /// when the caller is gone: the next one shall not wait for a join that nobody waits for.
    pub(super) async fn join(
        &self,
        services: &[String],
        token: &str,
        wait: Duration,
        caller: Caller,
    ) -> Result<Reply, Failure> {
        let services = services.iter().map(|url| url.parse()).collect::<Result<Vec<ServiceUrl>, _>>();
        let services = services.map_err(|error| Failure::new(Kind::Usage, format!("service URL {error}")))?;
        let token: JoinToken = token.parse().map_err(|error| Failure::new(Kind::Usage, format!("token {error}")))?;
        let deadline = Instant::now() + wait;
        let network = {
            let _one_at_a_time = self.changing.lock().await;
            let identity = self.may_join(&token).await?;
            let pending = self.pending(&token, identity.is_none())?;
            // STUN is asked while the connection is made.
            self.services.send_modify(|known| {
                known.extend(services.iter().filter(|s| !known.contains(s)).cloned().collect::<Vec<_>>())
            });
            let ask = || self.ask_to_join(&services, &token, &pending, identity.clone());
            let asked = tokio::select! {
                asked = enrol::until(deadline, ask) => Some(asked),
                () = caller.gone() => None, // what became of the last attempt is not known: its keys stay
            };
            match asked {
                Some(Ok((identity, network))) => self.adopt(identity, network, pending).await?,
                failed => {
                    if matches!(&failed, Some(Err(error)) if !error.is_uncertain()) {
                        self.on_disk(|| self.state.forget_pending())?;
                    }
                    self.services.send_replace(self.core.lock().await.services());
                    let gone = || Failure::new(Kind::Failed, "whoever asked to join is gone".to_owned());
                    return Err(failed.and_then(Result::err).map_or_else(gone, Failure::from));
                }
            }
        };
        let status = self.wait_for(&network, deadline).await?;
        match status.state {
            PeerState::Failed => {
                Err(Failure::new(Kind::Failed, format!("joined {network}, but it failed: {}", status.reason)))
            }
            _ => Ok(Reply::Network(status)),
        }
    }

    /// The identity to join with; none for a host that has none yet.
    async fn may_join(&self, token: &JoinToken) -> Result<Option<Arc<Identity>>, Failure> {
        let core = self.core.lock().await;
        if let Some(blocked) = &core.blocked {
            return Err(Failure::new(Kind::Configuration, blocked.clone()));
        }
        match &core.identity {
            Some(identity) if !enrol::belongs_to(identity, token) => Err(Failure::new(
                Kind::Conflict,
                format!(
                    "this host belongs to the service at {} (as {}), and the token to another; leave first: `cladnet-agent leave --all`",
                    identity.services.join(", "),
                    identity.host
                ),
            )),
            identity => Ok(identity.clone()),
        }
    }

    /// The keys of an attempt whose answer was lost, or fresh ones; on disk before anybody sees them.
    fn pending(&self, token: &JoinToken, needs_identity: bool) -> Result<Pending, Failure> {
        let text = token.to_string();
        let saved = self.on_disk(|| self.state.pending())?;
        let same = |p: &Pending| p.token_hash == enrol::token_hash(&text) && p.enrolment.is_some() == needs_identity;
        if let Some(pending) = saved.filter(same) {
            return Ok(pending);
        }
        let pending = enrol::prepare(&text, needs_identity)?;
        self.on_disk(|| self.state.save_pending(&pending))?;
        Ok(pending)
    }

    async fn ask_to_join(
        &self,
        services: &[ServiceUrl],
        token: &JoinToken,
        pending: &Pending,
        identity: Option<Arc<Identity>>,
    ) -> Result<(Arc<Identity>, NetworkId), EnrolError> {
        match identity {
            None => {
                let facts = || HostFacts::from(&self.facts.borrow().host);
                let (identity, network) = enrol::enrol(services, token, pending, &machine::machine_id(), facts).await?;
                Ok((Arc::new(identity), network))
            }
            Some(identity) => {
                let mut identity = Identity::clone(&identity);
                for service in services.iter().map(ToString::to_string) {
                    if !identity.services.contains(&service) {
                        identity.services.push(service);
                    }
                }
                let network = enrol::join(&identity, token, pending).await?;
                Ok((Arc::new(identity), network))
            }
        }
    }

    /// Keeps what was given: the membership first, so that an identity never stands without it.
    async fn adopt(&self, identity: Arc<Identity>, network: NetworkId, pending: Pending) -> Result<NetworkId, Failure> {
        let mut core = self.core.lock().await;
        self.forget_if_rejoined(&mut core, &network).await;
        let record = MembershipRecord {
            network: network.clone(),
            private_key: pending.private_key,
            interface: self.free_interface(&core).await?,
            wish: DesiredState::Up,
            left: false,
            snapshot: Vec::new(),
        };
        self.on_disk(|| {
            self.state.save_membership(&record)?;
            self.state.save_identity(&identity)?;
            self.state.forget_pending()
        })?;
        info!(host = %identity.host, %network, interface = record.interface, "joined");
        let configuration = core.early.remove(&network);
        let membership = Membership {
            unsaved: configuration.is_some(),
            ..Membership::new(record, configuration, core.book.clone())
        };
        core.memberships.insert(network.clone(), membership);
        core.identity = Some(identity.clone());
        core.leaving.remove(&network);
        core.problems.remove(&member_of(network.as_str()));
        self.services.send_replace(core.services());
        self.reconcile_all(&mut core).await;
        self.identity.send_replace(Some(identity));
        self.unsaved.notify_one();
        Ok(network)
    }

    async fn forget_if_rejoined(&self, core: &mut Core, network: &NetworkId) {
        if core.memberships.contains_key(network) {
            self.forget(core, network).await;
        }
    }

    /// The first interface name that nobody has.
    async fn free_interface(&self, core: &Core) -> Result<String, Failure> {
        for number in 0..u16::MAX {
            let name = self.config.interface_prefix.interface(number);
            let taken = core.memberships.values().any(|membership| membership.record.interface == name);
            // A name that cannot be asked about is found out when the interface is made.
            if !taken && !matches!(self.netlink.link(&name).await, Ok(Some(_))) {
                return Ok(name);
            }
        }
        Err(Failure::new(Kind::Conflict, "no interface name is free"))
    }

    /// Waits until a network is up, or will not be.
    async fn wait_for(&self, network: &NetworkId, deadline: Instant) -> Result<NetworkStatus, Failure> {
        let mut statuses = self.statuses.subscribe();
        let settled =
            statuses.wait_for(|statuses| statuses.get(network).is_none_or(|s| s.state != PeerState::Configuring));
        let _ = timeout_at(deadline, settled).await;
        let core = self.core.lock().await;
        let membership = core.memberships.get(network);
        membership.map(|membership| super::report::network(membership, &[])).ok_or_else(|| {
            Failure::new(Kind::Failed, format!("{network} was joined, and ended at once by the service"))
        })
    }

    pub(super) fn on_disk<T>(&self, act: impl FnOnce() -> Result<T, StateError>) -> Result<T, Failure> {
        block_in_place(act).map_err(|error| match error {
            StateError::Io { .. } => Failure::caused(Kind::Failed, &error),
            StateError::Unusable { .. } => Failure::caused(Kind::Configuration, &error),
        })
    }
}
