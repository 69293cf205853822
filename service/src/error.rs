//! Why a call is refused, and how gRPC says it. Whoever is at fault is told what would be right.

use std::fmt::Display;

use cladnet_proto::convert::FieldError;
use cladnet_store::StoreError;
use tonic::{Code, Status};
use tracing::{error, warn};

/// A refusal of any call of either interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Invalid(#[from] FieldError),
    #[error("{0}")]
    NotFound(String),
    /// Something of that name is there already.
    #[error("{0}")]
    Exists(String),
    /// The state of things forbids it; the text says what to do first.
    #[error("{0}")]
    Precondition(String),
    /// Somebody else was faster.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    TooMany(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Internal(String),
}

impl CallError {
    /// A wrong field.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Display) -> Self {
        Self::Invalid(FieldError::new(field, reason))
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Conflict(_) | Self::Store(StoreError::Conflict { .. }) => Code::Aborted,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Denied(_) => Code::PermissionDenied,
            Self::TooMany(_) => Code::ResourceExhausted,
            Self::Store(error) if error.is_transient() => Code::Unavailable,
            Self::Store(StoreError::Closed) => Code::Unavailable,
            Self::Store(_) | Self::Internal(_) => Code::Internal,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Store(StoreError::Conflict { .. }) => {
                "somebody else changed it at the same moment; look again and repeat".to_owned()
            }
            Self::Store(StoreError::Full { .. }) => "the store is full; nothing was changed".to_owned(),
            Self::Store(StoreError::OutcomeUnknown { .. }) => {
                "the store did not answer in time; look whether the change happened before repeating it".to_owned()
            }
            Self::Store(error) if error.is_transient() => "the store does not answer; nothing was changed".to_owned(),
            Self::Store(StoreError::Closed) => "the service is stopping".to_owned(),
            Self::Store(_) => "the store holds something unexpected; the service's log says more".to_owned(),
            other => other.to_string(),
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let code = error.code();
        match (&error, code) {
            (CallError::Store(source), Code::Unavailable) => warn!(error = source as &dyn std::error::Error, "store"),
            (CallError::Store(source), Code::Internal) => error!(error = source as &dyn std::error::Error, "store"),
            (CallError::Internal(reason), _) => error!(reason, "call failed"),
            _ => {}
        }
        match error {
            CallError::Invalid(error) => error.into(),
            error => Status::new(code, error.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_down_is_unavailable_and_not_our_bug() {
        let down = StoreError::Unavailable { operation: "get", reason: "no endpoint".to_owned() };
        assert_eq!(Status::from(CallError::from(down)).code(), Code::Unavailable);
    }
}
