//! What is done on a machine, one file per step. Every step begins by looking, so that it may be taken again by whoever
//! comes after one that was cut off.

pub(crate) mod inspect;
pub(crate) mod install;
pub(crate) mod join;
pub(crate) mod plan;
pub(crate) mod remove;
pub(crate) mod settle;
pub(crate) mod traces;
pub(crate) mod upload;
pub(crate) mod verify;

use cladnet_model::deployment::FailureReason;

use crate::{
    failed::Failed,
    remote::{As, Remote},
    script::{AGENT, CLEAN},
};
use inspect::{AgentStatus, Inspection};

/// A machine that is connected to and was looked at.
pub(crate) struct Machine<'a> {
    pub remote: &'a Remote,
    pub seen: &'a Inspection,
}

/// What the agent's command line answered.
pub(crate) struct Said {
    pub code: u64,
    pub text: String,
}

impl Machine<'_> {
    /// Asks the agent.
    pub(crate) async fn agent(&self, arguments: &[&str]) -> Result<Said, Failed> {
        let answer = AGENT.run(self.remote, self.seen.root(), arguments).await?;
        Ok(Said { code: answer.number("exit"), text: answer.text("answer").to_owned() })
    }

    /// What the agent tells of itself now.
    pub(crate) async fn status(&self) -> Result<AgentStatus, Failed> {
        let said = self.agent(&["status"]).await?;
        AgentStatus::parse(&said.text).ok_or_else(|| {
            Failed::new(FailureReason::UnsupportedSystem, format!("the agent does not answer: {}", said.message()))
        })
    }

    /// Takes the directory for uploads away; what cannot be done now, the next attempt does.
    pub(crate) async fn clean(&self) {
        if let Some(staging) = &self.seen.staging {
            let _ = CLEAN.run(self.remote, As::User, &[staging]).await;
        }
    }

    /// Where uploads go.
    fn staging(&self) -> Result<&str, Failed> {
        self.seen.staging.as_deref().ok_or_else(|| {
            Failed::new(FailureReason::DiskFull, "the user's home directory cannot be written; uploads go there first")
        })
    }
}

impl Said {
    /// The sentence of a failure, or whatever it said.
    pub(crate) fn message(&self) -> String {
        let failure: Option<serde_json::Value> = serde_json::from_str(&self.text).ok();
        let message = failure.as_ref().and_then(|failure| failure["error"]["message"].as_str());
        message.unwrap_or(&self.text).to_owned()
    }
}
