//! Commands to agents whose stream another replica holds: written by one, claimed and answered by the other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CommandId, HostId};

/// A command's record. Writer: the services (by compare-and-swap: requester creates, holder claims and answers).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    pub id: CommandId,
    pub host: HostId,
    /// The command as the sync stream carries it (`cladnet.v1.AgentCommand`, protobuf, base64).
    pub payload: String,
    pub requested_by: String,
    /// After this moment nobody waits for it, and anybody may delete it.
    pub deadline: Timestamp,
    pub state: CommandState,
}

/// How far a command is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum CommandState {
    Pending,
    /// A replica has sent it to the agent.
    Claimed {
        replica: String,
    },
    /// The agent's answer (`cladnet.v1.CommandResult`, protobuf, base64), bounded in size.
    Answered {
        result: String,
    },
}
