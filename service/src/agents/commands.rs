//! Commands to agents, wherever their streams are: over this replica's own stream, or through a record in the store that
//! the replica which holds the stream claims and answers. The requester waits until its deadline and no longer.

mod ask;
mod relay;

use std::{future::Future, time::Duration};

use cladnet_model::{CommandId, HostId, NetworkId};
use cladnet_proto::cladnet::v1::{AgentCommand, CommandResult, PathsCommand, agent_command::Command};
use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tokio::time::{Instant, timeout_at};

use super::Agents;
pub(crate) use ask::Asked;
pub(super) use relay::{Answers, take};

/// The largest answer, encoded: it may have to pass through the store.
pub(crate) const MAX_RESULT: usize = 64 * 1024;

/// Agents that one call asks at a time.
pub(super) const AT_A_TIME: usize = 64;

/// How long an agent is waited for that has little to do: of a large network many may be silent, and those who are asked
/// after them must have their turn.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// Of its time, what an agent is not given, so that its answer is here in time.
const RETURN_TIME: Duration = Duration::from_millis(500);

/// Why a command has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// No replica holds a stream of the host.
    #[error("the agent is not connected")]
    Offline,
    #[error("the agent did not answer in time")]
    TimedOut,
    /// The time of all was over before this agent's turn, or the next part of it.
    #[error("the time was over before the agent was asked for all")]
    NotAsked,
    /// The agent could not carry it out, or its answer could not be carried here.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    /// The word of [`cladnet_proto::cladnet::v1::ControlResult::outcome`].
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::TimedOut | Self::NotAsked => "timed-out",
            Self::Failed(_) => "failed",
        }
    }
}

impl Agents {
    /// Lets the agent of a host carry a command out. Answers at `deadline` at the latest.
    pub(crate) async fn command(
        &self,
        host: &HostId,
        command: Command,
        deadline: Instant,
    ) -> Result<CommandResult, CommandError> {
        let id = CommandId::generate(rand::random());
        let asked = async {
            match self.shared.streams.get(host) {
                Some(handle) => handle.ask(agent_command(&id, command, deadline)).await,
                None => self.shared.relay(host, &id, command, deadline).await,
            }
        };
        timeout_at(deadline, asked).await.unwrap_or(Err(CommandError::TimedOut)).and_then(carried_out)
    }

    /// Whether the agent of a host answers by `deadline`: its stream may outlive it for a while. It is asked for its path
    /// to itself, of which there is none.
    pub(crate) async fn answers(&self, network: &NetworkId, host: &HostId, deadline: Instant) -> bool {
        let question =
            PathsCommand { network_id: network.to_string(), host_ids: vec![host.to_string()], measure: false };
        let answer = self.command(host, Command::Paths(question), turn(deadline)).await;
        matches!(answer, Ok(_) | Err(CommandError::Failed(_)))
    }

    /// Asks many hosts, not all at a time; the answers are in the order of the hosts. Whoever is slow keeps one place and
    /// no more.
    pub(crate) async fn ask_all<'a, T, F>(
        &self,
        hosts: impl IntoIterator<Item = &'a HostId>,
        ask: impl Fn(&'a HostId) -> F,
    ) -> Vec<(&'a HostId, T)>
    where
        F: Future<Output = T>,
    {
        let numbered = |(number, host)| {
            let asked = ask(host);
            async move { (number, (host, asked.await)) }
        };
        // Made before any is awaited: a stream that holds the closure would not be `Send` for every lifetime.
        let asked: Vec<_> = hosts.into_iter().enumerate().map(numbered).collect();
        let mut answers: Vec<(usize, _)> = stream::iter(asked).buffer_unordered(AT_A_TIME).collect().await;
        answers.sort_unstable_by_key(|(number, _)| *number);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// Until when an agent is waited for that is asked now for what it knows.
pub(super) fn turn(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + ANSWER_TIME)
}

/// The command as it travels to the agent.
fn agent_command(id: &CommandId, command: Command, deadline: Instant) -> AgentCommand {
    let left = deadline.saturating_duration_since(Instant::now());
    let given = left.saturating_sub(RETURN_TIME.min(left / 5));
    AgentCommand {
        command_id: id.to_string(),
        timeout: prost_types::Duration::try_from(given).ok(),
        command: Some(command),
    }
}

fn carried_out(result: CommandResult) -> Result<CommandResult, CommandError> {
    if result.error.is_empty() { Ok(result) } else { Err(CommandError::Failed(result.error)) }
}

/// Refuses an answer that is too large to be carried everywhere.
fn bounded(result: CommandResult) -> Result<CommandResult, CommandError> {
    match result.encoded_len() {
        length if length > MAX_RESULT => Err(CommandError::Failed(format!(
            "the agent's answer has {length} bytes; at most {MAX_RESULT} are carried"
        ))),
        _ => Ok(result),
    }
}

#[cfg(test)]
mod tests;
