//! Why a machine's deployment ends: a word for programs, a sentence for people.

use cladnet_model::deployment::{FailureReason, legible};

use crate::{api::ApiError, remote::RemoteError};

/// What a step fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Failed {
    pub reason: FailureReason,
    pub detail: String,
}

impl Failed {
    /// Of `detail`, parts of which a machine may have said, what can be shown is taken.
    pub(crate) fn new(reason: FailureReason, detail: impl AsRef<str>) -> Self {
        Self { reason, detail: legible(detail.as_ref()) }
    }
}

impl From<RemoteError> for Failed {
    fn from(error: RemoteError) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::new(FailureReason::Internal, error.to_string())
    }
}
