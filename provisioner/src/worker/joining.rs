//! From a machine with an agent to a member of the network, and to the knowledge which host it is. What a machine says of
//! itself is a claim: a host is this machine if it has shown the service a token that was given to this machine only.

use cladnet_model::{
    HostId, TokenId,
    deployment::{DeploymentState, FailureReason},
};

use super::{
    journal::{Journal, Stop},
    machine::Work,
};
use crate::{
    FailPoint,
    failed::Failed,
    steps::{Machine, inspect::AgentStatus, join::TOKEN_TTL},
};

impl Work {
    /// Lets the agent join. One that is a member already only shows its token, unless this was done before.
    pub(super) async fn become_member(
        &self,
        machine: &Machine<'_>,
        before: &AgentStatus,
        journal: &Journal,
    ) -> Result<HostId, Stop> {
        let is_member = before.network(&self.claim.deployment().network).is_some();
        let claimed = before.host.as_ref().map(|host| &host.id).filter(|_| is_member);
        let known = self.connections.known_host(&self.name).await?;
        let host = match known.filter(|known| Some(known) == claimed) {
            Some(known) => known,
            None => {
                journal.enter(DeploymentState::Joining).await?;
                let host = self.join(machine, claimed, journal).await?;
                self.connections.keep_host(&self.name, Some(&host)).await?;
                self.pass(FailPoint::Joined);
                host
            }
        };
        journal.change(|progress| progress.host = Some(host.clone())).await?;
        Ok(host)
    }

    /// A token is known before it is made, so that whoever comes after us can take it back.
    async fn join(&self, machine: &Machine<'_>, claimed: Option<&HostId>, journal: &Journal) -> Result<HostId, Stop> {
        let config = &self.shared.config;
        let wish = self.connections.host(&self.name)?;
        let id = TokenId::generate(rand::random());
        journal.change(|progress| progress.token = Some(id.clone())).await?;
        let token = config.service.create_token(&id, &self.claim.deployment().network, &wish.labels, TOKEN_TTL).await?;
        self.pass(FailPoint::TokenMade);
        let joined = async {
            machine.deliver(&token).await?;
            self.pass(FailPoint::TokenDelivered);
            machine.join(&config.service_urls).await
        };
        let (joined, host) = match joined.await {
            Err(failed) if claimed.is_none() => {
                self.take_back_token(journal).await?;
                return Err(failed.into());
            }
            joined => (joined, self.who_showed(machine, &token.id).await),
        };
        match &joined {
            Ok(()) => journal.change(|progress| progress.token = None).await?,
            // A member does not need the token, and has not used it.
            Err(_) => self.take_back_token(journal).await?,
        }
        match host? {
            Some(host) => {
                journal.say(&format!("joined: {host} has shown the token of this machine"));
                Ok(host)
            }
            None => Err(unproven(claimed, joined.err()).into()),
        }
    }

    /// The host that the agent says it is, if that one has shown the token.
    async fn who_showed(&self, machine: &Machine<'_>, token: &TokenId) -> Result<Option<HostId>, Failed> {
        let Some(claimed) = machine.status().await?.host else {
            return Err(Failed::new(FailureReason::JoinFailed, "the agent has joined and yet has no identity"));
        };
        let service = &self.shared.config.service;
        let shown = service.has_shown(&self.claim.deployment().network, &claimed.id, token).await?;
        Ok(shown.then_some(claimed.id))
    }

    /// Takes back the token of an attempt that did not end well; one that cannot be taken back now expires soon.
    pub(super) async fn take_back_token(&self, journal: &Journal) -> Result<(), Stop> {
        let Some(token) = journal.progress().token else { return Ok(()) };
        match self.shared.config.service.revoke_token(&token).await {
            Ok(()) => journal.change(|progress| progress.token = None).await,
            Err(error) => {
                journal.say(&format!("a token was not taken back ({error}); it expires within ten minutes"));
                Ok(())
            }
        }
    }
}

fn unproven(claimed: Option<&HostId>, refused: Option<Failed>) -> Failed {
    let host = claimed.map_or("a host", |host| host.as_str());
    let said = refused.map(|refused| format!(" ({refused})")).unwrap_or_default();
    let detail = format!(
        "the agent there says it is {host}, which has not shown the token of this machine{said}; nothing was changed of that host. Look at the machine; if it is yours, let its agent leave with `cladnet-agent leave --all` and deploy again"
    );
    Failed::new(FailureReason::HostUnproven, detail)
}
