//! What a command of `cladnet-agent` ends with when it does not succeed: one kind, one exit code, one sentence for a
//! person. It crosses the control socket, so it is serialised; sources are folded into the sentence at that edge and
//! nowhere before.

use std::{error::Error, fmt::Write as _};

use serde::{Deserialize, Serialize};

/// Why a command failed, as scripts tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The operation was tried and failed.
    Failed,
    /// The request makes no sense.
    Usage,
    /// No such network or peer.
    NotFound,
    /// The host is in a state that forbids it.
    Conflict,
    /// No privilege, or a token that does not admit.
    Denied,
    /// The service, or the daemon, cannot be reached.
    Unreachable,
    /// The configuration, or the state on disk, cannot be used.
    Configuration,
}

impl Kind {
    /// The exit code of the command line.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Denied => 5,
            Self::Unreachable => 6,
            Self::Configuration => 64,
        }
    }
}

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub kind: Kind,
    pub message: String,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failure whose sentence is an error and everything that caused it.
    pub(crate) fn caused(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        Self::new(kind, chain(error))
    }
}

/// An error and its sources in one line, each said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some, such as TOML's, end with a line break that whoever quoted them left out.
        let cause_text = cause_text.trim_end();
        if !text.contains(cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot save")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_cause_that_was_quoted_is_not_said_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("in the file: line 2 is wrong")]
        struct Quoting(#[source] std::io::Error);
        let error = Quoting(std::io::Error::other("line 2 is wrong\n"));
        assert_eq!(chain(&error), "in the file: line 2 is wrong");
    }

    #[test]
    fn a_failure_tells_its_causes_once() {
        let error = Outer(std::io::Error::other("disk is full"));
        assert_eq!(Failure::caused(Kind::Failed, &error).message, "cannot save: disk is full");
    }
}
