//! Taking an agent away: it leaves first, and tells the service so with its own certificate.

use cladnet_model::{HostId, NetworkId, deployment::FailureReason};

use super::{Machine, Said};
use crate::{
    failed::Failed,
    script::{LEAVE, REMOVE},
};

impl Machine<'_> {
    /// Lets the agent end one of its memberships; says what it could not do.
    pub(crate) async fn leave(&self, network: &NetworkId) -> Result<Option<String>, Failed> {
        warning(&self.agent(&["leave", network.as_str()]).await?)
    }

    /// Lets the agent leave every network, of which `last` may be the only one, and give up its identity.
    pub(crate) async fn leave_all(&self, last: &NetworkId) -> Result<Option<String>, Failed> {
        let answer = LEAVE.run(self.remote, self.seen.root(), &[last.as_str()]).await?;
        warning(&Said { code: answer.number("exit"), text: answer.text("answer").to_owned() })
    }

    /// Removes unit, program, settings and state; the state may be that of `host` and of no other.
    pub(crate) async fn remove(&self, host: Option<&HostId>) -> Result<Vec<String>, Failed> {
        let host = host.map_or("", |host| host.as_str());
        let answer = REMOVE.run(self.remote, self.seen.root(), &[self.seen.init.as_str(), host]).await?;
        let left = answer.get("left").map(|path| format!("{path} was not put there by a deployment and stays"));
        Ok([Some("the agent and its files are removed".to_owned()), left].into_iter().flatten().collect())
    }
}

fn warning(said: &Said) -> Result<Option<String>, Failed> {
    if said.code != 0 {
        let detail = format!("the agent does not leave: {}", said.message());
        return Err(Failed::new(FailureReason::Internal, detail));
    }
    let left: Option<serde_json::Value> = serde_json::from_str(&said.text).ok();
    Ok(left.and_then(|left| left["warning"].as_str().map(str::to_owned)))
}
