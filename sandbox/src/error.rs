//! What can go wrong with a sandbox, worded for the person who asked for it.

use std::io;
use std::path::PathBuf;

/// The result of every operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a sandbox failed. The binary's exit code follows from it: see [`Error::exit_code`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The topology, or a change of it, does not make sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// Path of the field, such as `vms[2].subnet`.
        field: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    #[error("no sandbox {0:?}; `cladnet-sandbox list` names those there are")]
    NoSandbox(String),
    #[error("sandbox {sandbox:?} has no {kind} {name:?}; it has {known}")]
    NotFound { sandbox: String, kind: &'static str, name: String, known: String },
    #[error("there is no service {0:?}")]
    NoService(String),
    #[error("sandbox {0:?} exists already; destroy it first or choose another id")]
    Exists(String),
    #[error("{0}")]
    Conflict(String),
    #[error("this needs root: run it as root or with sudo")]
    NotRoot,
    #[error("cannot find the binary cladnet-sandbox, which runs a sandbox's processes; set CLADNET_SANDBOX_BIN")]
    NoBinary,
    #[error("a machine with SSH needs {program}: install the package {package}")]
    NoProgram { program: &'static str, package: &'static str },
    #[error("cannot {doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot {doing}")]
    Netlink {
        doing: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("{path}: not a record of a sandbox")]
    Record {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// A program that a sandbox is made with (`nft`, `conntrack`) refused.
    #[error("{program} failed: {message}")]
    Program { program: &'static str, message: String },
    /// A process of the sandbox answered a request with an error, or could not start.
    #[error("{process}: {message}")]
    Process { process: String, message: String },
    #[error("{waiting_for} took longer than {seconds} s")]
    Deadline { waiting_for: String, seconds: u64 },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), problem: problem.into() }
    }

    /// The exit code of the binary: 1 failed, 3 not found, 4 conflict, 5 denied, 64 bad configuration.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Invalid { .. } => 64,
            Self::NoSandbox(_) | Self::NotFound { .. } | Self::NoService(_) => 3,
            Self::Exists(_) | Self::Conflict(_) => 4,
            Self::NotRoot => 5,
            _ => 1,
        }
    }
}

/// Adds what was being done to an error of the operating system.
pub(crate) trait Doing<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { doing: doing(), source })
    }
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { doing: doing(), source: errno.into() })
    }
}

impl<T> Doing<T> for std::result::Result<T, rtnetlink::Error> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Netlink { doing: doing(), source })
    }
}
