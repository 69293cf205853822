//! Commands between replicas, as records: the requester creates one, the replica that holds the host's stream claims it by
//! compare-and-swap, asks the agent and answers in the record; the requester reads the answer and deletes the record.
//! Whoever crashes on the way leaves a record that is deleted when its deadline is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cladnet_model::{CommandId, CommandRecord, CommandState, HostId};
use cladnet_proto::cladnet::v1::{AgentCommand, CommandResult, agent_command::Command};
use cladnet_store::{AnyKey, Revision, StoreError, key};
use prost::Message as _;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, warn};

use super::{CommandError, agent_command, bounded};
use crate::agents::{Shared, view::CommandChange};

/// So long after its deadline a record is somebody's who crashed: replicas' clocks may differ by less.
const ORPHANED: Duration = Duration::from_secs(60);

/// Who waits here for an answer in the store.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<HashMap<CommandId, oneshot::Sender<CommandRecord>>>);

impl Answers {
    fn expect(&self, id: &CommandId) -> oneshot::Receiver<CommandRecord> {
        let (sender, answer) = oneshot::channel();
        self.0.lock().expect("no holder of this lock panics").insert(id.clone(), sender);
        answer
    }

    fn take(&self, id: &CommandId) -> Option<oneshot::Sender<CommandRecord>> {
        self.0.lock().expect("no holder of this lock panics").remove(id)
    }
}

impl Shared {
    /// Asks through the store; the caller sets the deadline.
    pub(super) async fn relay(
        self: &Arc<Self>,
        host: &HostId,
        id: &CommandId,
        command: Command,
        deadline: Instant,
    ) -> Result<CommandResult, CommandError> {
        if self.view().presence(host).is_none_or(|(presence, _)| presence.replica == self.parts.replica) {
            return Err(CommandError::Offline);
        }
        let record = CommandRecord {
            id: id.clone(),
            host: host.clone(),
            payload: BASE64_STANDARD.encode(agent_command(id, command, deadline).encode_to_vec()),
            requested_by: self.parts.replica.clone(),
            deadline: self.parts.clock.now() + deadline.saturating_duration_since(Instant::now()),
            state: CommandState::Pending,
        };
        let answer = self.answers.expect(id);
        let _request = Request { shared: self.clone(), host: host.clone(), id: id.clone() };
        self.parts.store.create(&key::command(host, id), &record).await.map_err(unwritten)?;
        let record = answer.await.map_err(|_| CommandError::Offline)?;
        match record.state {
            CommandState::Answered { result } => decode(&result),
            CommandState::Pending | CommandState::Claimed { .. } => Err(CommandError::Offline),
        }
    }

    /// Claims a command of another replica and has it carried out by the agent whose stream is here.
    async fn serve(&self, record: CommandRecord, written: Revision) -> Result<(), StoreError> {
        let key = key::command(&record.host, &record.id);
        let claimed = CommandState::Claimed { replica: self.parts.replica.clone() };
        let claimed = CommandRecord { state: claimed, ..record };
        let revision = match self.parts.store.replace(&key, &claimed, written).await {
            Err(StoreError::Conflict { .. }) => return Ok(()), // another stream's replica, or nobody waits any more
            outcome => outcome?,
        };
        let result = self.carry_out(&claimed).await.unwrap_or_else(|error| CommandResult {
            command_id: claimed.id.to_string(),
            error: error.to_string(),
            ..CommandResult::default()
        });
        let answered = CommandState::Answered { result: BASE64_STANDARD.encode(result.encode_to_vec()) };
        match self.parts.store.replace(&key, &CommandRecord { state: answered, ..claimed }, revision).await {
            Err(StoreError::Conflict { .. }) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    async fn carry_out(&self, record: &CommandRecord) -> Result<CommandResult, CommandError> {
        let unreadable = |_| CommandError::Failed("the command cannot be read; it is of another release".to_owned());
        let payload = BASE64_STANDARD.decode(&record.payload).map_err(|_| unreadable(()))?;
        let command = AgentCommand::decode(&payload[..]).map_err(|_| unreadable(()))?;
        let handle = self.streams.get(&record.host).ok_or(CommandError::Offline)?;
        let left = record.deadline.duration_since(self.parts.clock.now());
        let deadline = Instant::now() + Duration::try_from(left).unwrap_or_default();
        timeout_at(deadline, handle.ask(command)).await.unwrap_or(Err(CommandError::TimedOut))
    }
}

/// Takes a change of a command's record in: an answer for somebody here, a command for an agent here, or an orphan.
pub(crate) fn take(shared: &Arc<Shared>, change: CommandChange) {
    let (record, written) = match change {
        CommandChange::Put(record, written) => (record, written),
        CommandChange::Deleted(key) => {
            if let AnyKey::Command(_, id) = key.parse() {
                drop(shared.answers.take(&id)); // whoever waits learns that no answer will come
            }
            return;
        }
    };
    if record.deadline + ORPHANED < shared.parts.clock.now() {
        let shared = shared.clone();
        tokio::spawn(async move {
            let deleted = shared.parts.store.delete(&key::command(&record.host, &record.id), written).await;
            debug!(command = %record.id, ?deleted, "orphaned command");
        });
        return;
    }
    match record.state {
        CommandState::Answered { .. } => {
            if let Some(answer) = shared.answers.take(&record.id) {
                let _ = answer.send(record); // whoever asked may have given up
            }
        }
        CommandState::Pending if shared.streams.get(&record.host).is_some() => {
            let shared = shared.clone();
            tokio::spawn(async move {
                let (id, host) = (record.id.clone(), record.host.clone());
                if let Err(error) = shared.serve(record, written).await {
                    warn!(%error, command = %id, %host, "command of another replica not answered");
                }
            });
        }
        CommandState::Pending | CommandState::Claimed { .. } => {}
    }
}

/// A request on its way; dropped, it leaves nothing behind.
struct Request {
    shared: Arc<Shared>,
    host: HostId,
    id: CommandId,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.shared.answers.take(&self.id);
        let (shared, key) = (self.shared.clone(), key::command(&self.host, &self.id));
        tokio::spawn(async move {
            // Unconditional: the holder may be about to answer, and nobody waits for that.
            for _ in 0..3 {
                match shared.parts.store.transaction().delete(&key).commit().await {
                    Ok(_) => return,
                    Err(error) => debug!(%error, %key, "command's record not deleted; trying again"),
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
}

fn decode(result: &str) -> Result<CommandResult, CommandError> {
    let unreadable = || CommandError::Failed("the answer cannot be read; it is of another release".to_owned());
    let bytes = BASE64_STANDARD.decode(result).map_err(|_| unreadable())?;
    bounded(CommandResult::decode(&bytes[..]).map_err(|_| unreadable())?)
}

fn unwritten(error: StoreError) -> CommandError {
    CommandError::Failed(format!("the command could not be handed to the agent's replica: {error}"))
}
