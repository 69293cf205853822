//! Commands over a stream of this replica: sent in turn, answered in any order.

use std::{collections::HashMap, sync::Mutex};

use cladnet_proto::cladnet::v1::{AgentCommand, CommandResult};
use tokio::sync::{mpsc, oneshot};

use super::{CommandError, bounded};
use crate::agents::streams::Handle;

/// Commands that may wait for a slow agent to take them.
pub(crate) const QUEUE: usize = 16;

/// The commands of one stream.
#[derive(Debug)]
pub(crate) struct Asked {
    queue: mpsc::Sender<AgentCommand>,
    waiting: Mutex<HashMap<String, oneshot::Sender<CommandResult>>>,
}

impl Asked {
    /// For a stream that takes its commands from the receiver.
    pub(crate) fn new() -> (Self, mpsc::Receiver<AgentCommand>) {
        let (queue, commands) = mpsc::channel(QUEUE);
        (Self { queue, waiting: Mutex::default() }, commands)
    }
}

impl Handle {
    /// Asks the agent and waits for its answer, for ever if need be: the caller sets the deadline.
    pub(super) async fn ask(&self, command: AgentCommand) -> Result<CommandResult, CommandError> {
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting { asked: &self.asked, id: command.command_id.clone() };
        self.asked.lock().insert(waiting.id.clone(), sender);
        let asked = async {
            self.asked.queue.send(command).await.map_err(|_| CommandError::Offline)?;
            bounded(answer.await.map_err(|_| CommandError::Offline)?)
        };
        tokio::select! {
            result = asked => result,
            _ = self.ended() => Err(CommandError::Offline),
        }
    }

    /// An answer came; one that nobody waits for any more is dropped.
    pub(crate) fn answered(&self, result: CommandResult) {
        if let Some(waiting) = self.asked.lock().remove(&result.command_id) {
            let _ = waiting.send(result); // whoever asked may have given up
        }
    }
}

impl Asked {
    /// Questions without an answer.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<CommandResult>>> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}

/// Forgets a question when whoever asked it gives up.
struct Waiting<'a> {
    asked: &'a Asked,
    id: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.asked.lock().remove(&self.id);
    }
}
