//! Taking an agent away: it leaves first, and if it cannot tell the service so, we do.

use cladnet_model::{HostId, NetworkId, deployment::FailureReason};

use super::Machine;
use crate::{api::ServiceAccess, failed::Failed, script::REMOVE};

/// What is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaving<'a> {
    Network(&'a NetworkId),
    /// Every network, and the identity.
    Everything,
}

impl Machine<'_> {
    /// Lets the agent leave; says what it said.
    pub(crate) async fn leave(
        &self,
        service: &ServiceAccess,
        host: Option<&HostId>,
        leaving: Leaving<'_>,
    ) -> Result<String, Failed> {
        let said = match leaving {
            Leaving::Network(network) => self.agent(&["leave", network.as_str()]).await?,
            Leaving::Everything => self.agent(&["leave", "--all"]).await?,
        };
        if said.code != 0 {
            let detail = format!("the agent does not leave: {}", said.message());
            return Err(Failed::new(FailureReason::Internal, detail));
        }
        // Also if the agent told the service already: then there is nothing left to remove.
        if let Some(host) = host {
            match leaving {
                Leaving::Network(network) => service.remove_peer(network, host).await?,
                Leaving::Everything => service.remove_host(host).await?,
            }
        }
        Ok("left".to_owned())
    }

    /// Removes unit, program, settings and state.
    pub(crate) async fn remove(&self) -> Result<Vec<String>, Failed> {
        let answer = REMOVE.run(self.remote, self.seen.root(), &[self.seen.init.as_str()]).await?;
        let left = answer.get("left").map(|path| format!("{path} was not put there by a deployment and stays"));
        Ok([Some("the agent and its files are removed".to_owned()), left].into_iter().flatten().collect())
    }
}
