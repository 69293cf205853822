//! Why a command failed, as one or two sentences for a person and an exit code for a script.

use std::{error::Error, io, path::Path, process::ExitCode};

use cladnet_pki::channel::{ConnectError, DialError};
use cladnet_provisioner::ProvisionerError;
use cladnet_service::{BootstrapError, StartError};
use cladnet_store::StoreError;
use tonic::{Code, Status};

use crate::output::one_line;

/// What the exit code of the binary says; 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The operation was tried and failed.
    Failed = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// What the arguments name does not exist.
    NotFound = 3,
    /// It exists already, is in use, or was changed by somebody else.
    Conflict = 4,
    /// No key, an unknown one, or one whose role may not do this.
    Denied = 5,
    /// No answer from the service.
    Unreachable = 6,
    /// A configuration file, a key file or a certificate file is wrong.
    Configuration = 64,
}

/// A message without the word "error" in front and without a full stop at its end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The operation was tried and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The arguments are wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A setting or a file behind one is wrong.
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(Exit::Configuration, message)
    }

    /// A file that an argument names could not be read.
    pub(crate) fn unreadable(flag: &str, path: &Path, error: &io::Error) -> Self {
        Self::configuration(format!("{flag}: cannot read {}: {error}", path.display()))
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {}", self.message);
        ExitCode::from(self.exit as u8)
    }
}

/// The API's own words; where it names a field, that of the flag comes first.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(error) = ConnectError::find(&status) {
            return error.into();
        }
        let exit = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
            Code::NotFound => Exit::NotFound,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
            Code::Unauthenticated | Code::PermissionDenied => Exit::Denied,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Exit::Unreachable,
            _ => Exit::Failed,
        };
        match status.code() {
            Code::DeadlineExceeded | Code::Cancelled => Self::new(exit, "the service did not answer in time"),
            Code::Unimplemented => {
                Self::new(exit, "the service does not know this command; it is older than this binary")
            }
            _ => Self::new(exit, one_line(&told(&status))),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let advice = match error.reason {
            DialError::Certificate(_) => "; --ca-file must name the ca.pem of that very service",
            _ => "",
        };
        Self::new(Exit::Unreachable, format!("{error}{advice}"))
    }
}

/// A closed pipe is how `head` says that it has seen enough.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(format!("cannot write the output: {error}"))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(exit_of_store(&error), chain(&error))
    }
}

fn exit_of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Options { .. } | StoreError::Seal { .. } => Exit::Configuration,
        StoreError::InUse { .. } => Exit::Conflict,
        StoreError::Unavailable { .. } => Exit::Unreachable,
        StoreError::Denied { .. } => Exit::Denied,
        _ => Exit::Failed,
    }
}

impl From<ProvisionerError> for Failure {
    fn from(error: ProvisionerError) -> Self {
        let exit = match &error {
            ProvisionerError::AgentDirectory(_) => Exit::Configuration,
            ProvisionerError::Store(store) => exit_of_store(store),
        };
        Self::new(exit, chain(&error))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match &error {
            StartError::Bootstrap(BootstrapError::Store(store)) => exit_of_store(store),
            StartError::Bootstrap(BootstrapError::KeyFile { .. }) => Exit::Configuration,
            StartError::Tls(_) | StartError::NotLoopback { .. } => Exit::Configuration,
            StartError::Busy { .. } => Exit::Conflict,
            _ => Exit::Failed,
        };
        Self::new(exit, chain(&error))
    }
}

/// An error and its causes, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_told = cause.to_string();
        if !told.ends_with(&cause_told) {
            told = format!("{told}: {cause_told}");
        }
        below = cause.source();
    }
    told
}

fn told(status: &Status) -> String {
    let field = status.metadata().get("field").and_then(|field| field.to_str().ok());
    let message = match status.message() {
        "" => deepest(status),
        message => message.to_owned(),
    };
    match field {
        Some(field) if !message.contains(field) => format!("{field}: {message}"),
        _ => message,
    }
}

/// The cause below all others, of an answer that carries no words of its own.
fn deepest(status: &Status) -> String {
    let mut told = status.code().description().to_owned();
    let mut below = status.source();
    while let Some(error) = below {
        (told, below) = (error.to_string(), error.source());
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_api_become_exit_codes() {
        for (code, exit) in [
            (Code::InvalidArgument, Exit::Usage),
            (Code::NotFound, Exit::NotFound),
            (Code::AlreadyExists, Exit::Conflict),
            (Code::FailedPrecondition, Exit::Conflict),
            (Code::Unauthenticated, Exit::Denied),
            (Code::PermissionDenied, Exit::Denied),
            (Code::Unavailable, Exit::Unreachable),
            (Code::Internal, Exit::Failed),
        ] {
            assert_eq!(Failure::from(Status::new(code, "x")).exit, exit, "{code:?}");
        }
    }

    #[test]
    fn the_field_is_named_once() {
        let mut status = Status::invalid_argument("is public");
        status.metadata_mut().insert("field", "ipv4_address_space".parse().unwrap());
        assert_eq!(Failure::from(status).to_string(), "ipv4_address_space: is public");
        let mut status = Status::invalid_argument("network_id is empty");
        status.metadata_mut().insert("field", "network_id".parse().unwrap());
        assert_eq!(Failure::from(status).to_string(), "network_id is empty");
    }
}
