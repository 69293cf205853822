//! Why a machine could not be worked on over SSH, in words for whoever asked for it.

use std::{net::SocketAddr, time::Duration};

use cladnet_model::deployment::{FailureReason, Fingerprint};

use super::{AddressError, ShownKey};

/// Why a machine could not be worked on over SSH.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("{name} has no address: {reason}; check the name, or give the address")]
    Resolve { name: String, reason: String },
    #[error("{0:?} is no IP address; behind a bastion give the address that the bastion connects to")]
    NameBehindBastion(String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{at}: {reason}; check address and port, that SSH runs there and that the security group admits it")]
    Unreachable { at: SocketAddr, reason: String },
    #[error("the bastion does not connect to {at}: {reason}; check the address, and AllowTcpForwarding on the bastion")]
    Bastion { at: SocketAddr, reason: String },
    #[error("{at} does not speak SSH as it should: {reason}")]
    Handshake { at: SocketAddr, reason: String },
    /// Nothing was sent.
    #[error("nobody has vouched for its key {} ({})", .0.fingerprint, .0.algorithm)]
    UnknownKey(ShownKey),
    /// Nothing was sent.
    #[error(
        "its key is {} ({}), but {expected} was expected: somebody may be in between, or the machine was rebuilt; if it was, forget its key with `cladnet host-key forget`",
        offered.fingerprint, offered.algorithm
    )]
    ChangedKey { expected: Fingerprint, offered: ShownKey },
    #[error("it does not let {user} in with this key; check the user and the key in its ~/.ssh/authorized_keys")]
    Authentication { user: String },
    #[error("the private key cannot be read; give an OpenSSH or PEM key without a passphrase")]
    NoPrivateKey,
    #[error("the connection was lost ({reason}) on trying to {operation}; repeat the deployment")]
    Lost { operation: &'static str, reason: String },
    #[error("{what} took longer than {} s", limit.as_secs())]
    Slow { what: &'static str, limit: Duration },
    #[error("it answered more than {limit} bytes")]
    Chatty { limit: usize },
    #[error("it does not run programs: the request for {0} was refused")]
    NoPrograms(&'static str),
    #[error("{path} could not be written: {reason}")]
    Write { path: String, reason: String },
    #[error("{path} may not be written by {user}: {reason}; let the user write to its home directory")]
    Forbidden { path: String, user: String, reason: String },
    #[error("cannot read {path}")]
    Local { path: String, source: std::io::Error },
}

impl RemoteError {
    pub(super) fn lost(operation: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Lost { operation, reason: error.to_string() }
    }

    /// The word for programs.
    pub(crate) fn reason(&self) -> FailureReason {
        match self {
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::Handshake { .. } => FailureReason::Unreachable,
            Self::NameBehindBastion(_) | Self::Address(_) => FailureReason::AddressRefused,
            Self::Bastion { .. } => FailureReason::BastionFailed,
            Self::UnknownKey(_) => FailureReason::HostKeyUnconfirmed,
            Self::ChangedKey { .. } => FailureReason::HostKeyChanged,
            Self::Authentication { .. } => FailureReason::AuthenticationFailed,
            Self::NoPrivateKey => FailureReason::NoCredential,
            Self::Lost { .. } | Self::Slow { .. } => FailureReason::ConnectionLost,
            Self::Chatty { .. } | Self::NoPrograms(_) => FailureReason::UnsupportedSystem,
            Self::Write { .. } => FailureReason::DiskFull,
            Self::Forbidden { .. } => FailureReason::NoPrivilege,
            Self::Local { .. } => FailureReason::Internal,
        }
    }
}
