//! What a VM's init is asked over its socket, and what it answers: one JSON line each way per connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};

/// A program that a VM keeps running: 100 ms after it ends, it is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    pub name: String,
    /// The program (an absolute path, or one found on the usual search path) and its arguments.
    pub command: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// A service as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: String,
    pub command: Vec<String>,
    pub state: ServiceState,
    /// How often it was started again without being asked to.
    pub restarts: u32,
    /// How its last run ended, such as `exit 0` or `signal SIGKILL`.
    pub last_end: Option<String>,
}

/// Whether a service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// `pid` is the one inside the VM.
    Running {
        pid: i32,
    },
    /// Ended, and about to be started again.
    Restarting,
    /// Asked to end; it has not yet.
    Stopping {
        pid: i32,
    },
    Stopped,
}

/// Where a VM's init is asked from inside the VM; only root may.
pub(crate) const SOCKET_INSIDE: &str = "/run/cladnet-init.sock";

/// Longer than a service may take to end.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Add(ServiceSpec),
    /// Adds a service; one of the same name is stopped first.
    Replace(ServiceSpec),
    Start(String),
    /// Answered when the service has ended.
    Stop(String),
    /// Stops a service and starts it again; done even if who asked is of the service and ends with it.
    Restart(String),
    /// Stops a service and forgets it.
    Remove(String),
    Kill {
        service: String,
        signal: i32,
    },
    Status,
    /// Ends everything but init, empties `/run` and `/tmp`, starts the services.
    Reboot,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Response {
    Services(Vec<ServiceStatus>),
    Refused(Refusal),
}

/// Why init did not do what it was asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    NoService(String),
    Failed(String),
}

impl Refusal {
    pub(crate) fn into_error(self, init: &str) -> Error {
        match self {
            Self::NoService(name) => Error::NoService(name),
            Self::Failed(message) => Error::Process { process: init.to_owned(), message },
        }
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// Asks the init of `vm` and returns its services as they are then.
pub(crate) fn ask_init(socket: &Path, vm: &str, request: &Request) -> Result<Vec<ServiceStatus>> {
    match ask(socket, request, ANSWER_WITHIN)? {
        Response::Services(services) => Ok(services),
        Response::Refused(refusal) => Err(refusal.into_error(&format!("init of {vm}"))),
    }
}

/// Asks a process of the sandbox one question.
pub(crate) fn ask<A: DeserializeOwned>(socket: &Path, request: &impl Serialize, within: Duration) -> Result<A> {
    let doing = || format!("ask {}", socket.display());
    let mut stream = UnixStream::connect(socket).doing(doing)?;
    stream.set_read_timeout(Some(within)).doing(doing)?;
    let broken = |source| Error::Record { path: socket.to_owned(), source };
    let mut line = serde_json::to_string(request).map_err(broken)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).doing(doing)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).doing(doing)?;
    serde_json::from_str(&answer).map_err(broken)
}
