//! Joining: a token for one use and a few minutes, in a file that only the user reads and that goes with the join. A token
//! that nobody used is taken back.

use std::time::Duration;

use cladnet_model::deployment::FailureReason;

use super::Machine;
use crate::{api::NewToken, failed::Failed, script::JOIN};

/// Longer than the join may take; a token that got lost is worth nothing soon.
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(600);
/// One line.
const DELIVER: Duration = Duration::from_secs(30);
/// How long the agent waits for its interface, in seconds.
const WAIT: &str = "30";

/// The agent's exit code when it cannot reach the service; see `cladnet-agent --help`.
const UNREACHABLE: u64 = 6;
/// The agent's exit code when something there forbids it.
const CONFLICT: u64 = 4;

impl Machine<'_> {
    /// Puts the token where the agent reads it.
    pub(crate) async fn deliver(&self, token: &NewToken) -> Result<(), Failed> {
        Ok(self.remote.upload_text(&token.secret, &self.token_file()?, DELIVER).await?)
    }

    /// Lets the agent join with what was delivered; the file is gone afterwards.
    pub(crate) async fn join(&self, services: &[String]) -> Result<(), Failed> {
        let services = services.join(",");
        let answer = JOIN.run(self.remote, self.seen.root(), &[&services, &self.token_file()?, WAIT]).await?;
        let said = super::Said { code: answer.number("exit"), text: answer.text("answer").to_owned() };
        let message = said.message();
        match said.code {
            0 => Ok(()),
            UNREACHABLE => Err(Failed::new(
                FailureReason::JoinFailed,
                format!("the machine does not reach the service at {services} ({message}); admit TCP to that port"),
            )),
            CONFLICT if message.contains("leave --all") => Err(Failed::new(FailureReason::ForeignAgent, message)),
            _ => Err(Failed::new(FailureReason::JoinFailed, message)),
        }
    }

    fn token_file(&self) -> Result<String, Failed> {
        Ok(format!("{}/token", self.staging()?))
    }
}
