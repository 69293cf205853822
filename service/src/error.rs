//! Why a call is refused, and how gRPC says it. Whoever is at fault is told what would be right.

use std::{fmt::Display, time::Duration};

use cladnet_model::InvalidInput;
use cladnet_proto::convert::{FIELD, FieldError};
use cladnet_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::{error, warn};

/// When a caller may come back who asked too much, or at a bad moment.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A refusal of any call of either interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// At least one field is wrong.
    #[error("{}", .0.iter().map(FieldError::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<FieldError>),
    #[error("{0}")]
    NotFound(String),
    /// What the field names is not there.
    #[error(transparent)]
    Missing(FieldError),
    /// What the field names is there already, or somebody else's.
    #[error(transparent)]
    Exists(FieldError),
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
    /// There is no such call.
    #[error("{0}")]
    Unimplemented(String),
    /// Not now, or not here.
    #[error("{0}")]
    Unavailable(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Internal(String),
}

impl CallError {
    /// A wrong field.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Display) -> Self {
        Self::Invalid(vec![FieldError::new(field, reason)])
    }

    /// A field that names what is there already.
    pub(crate) fn exists(field: impl Into<String>, reason: impl Display) -> Self {
        Self::Exists(FieldError::new(field, reason))
    }

    /// A field that names what is not there.
    pub(crate) fn missing(field: impl Into<String>, reason: impl Display) -> Self {
        Self::Missing(FieldError::new(field, reason))
    }

    /// The fields at fault.
    pub(crate) fn fields(&mut self) -> &mut [FieldError] {
        match self {
            Self::Invalid(errors) => errors,
            Self::Exists(error) | Self::Missing(error) => std::slice::from_mut(error),
            _ => &mut [],
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound(_) | Self::Missing(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Conflict(_) | Self::Store(StoreError::Conflict { .. }) => Code::Aborted,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Denied(_) => Code::PermissionDenied,
            Self::TooMany(_) => Code::ResourceExhausted,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Unavailable(_) => Code::Unavailable,
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
            Self::Store(StoreError::Decode { key, .. }) => {
                format!("the store's record {key} cannot be read, and it may matter here; repair it first")
            }
            Self::Store(_) => "the store holds something unexpected; the service's log says more".to_owned(),
            other => other.to_string(),
        }
    }
}

impl From<FieldError> for CallError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}

impl From<InvalidInput> for CallError {
    fn from(input: InvalidInput) -> Self {
        Self::Invalid(input.0.into_iter().map(|fault| FieldError::new(fault.field, fault.problem)).collect())
    }
}

impl From<CallError> for Status {
    fn from(mut error: CallError) -> Self {
        let code = error.code();
        match (&error, code) {
            (CallError::Store(source), Code::Unavailable) => warn!(error = source as &dyn std::error::Error, "store"),
            (CallError::Store(source), Code::Internal) => error!(error = source as &dyn std::error::Error, "store"),
            (CallError::Internal(reason), _) => error!(reason, "call failed"),
            _ => {}
        }
        let mut details = ErrorDetails::new();
        if code == Code::ResourceExhausted {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        for FieldError { field, reason } in error.fields() {
            details.add_bad_request_violation(field.as_str(), reason.as_str());
        }
        let mut status = Status::new(code, error.message());
        if details.retry_info().is_some() || details.has_bad_request_violations() {
            status = Status::with_error_details(code, error.message(), details);
        }
        for field in error.fields().iter().filter_map(|error| error.field.parse().ok()) {
            status.metadata_mut().append(FIELD, field);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named_in_the_message_and_in_the_metadata() {
        let faults = vec![FieldError::new("name", "is empty"), FieldError::new("labels.zone", "is wrong")];
        let status = Status::from(CallError::Invalid(faults));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "name: is empty; labels.zone: is wrong");
        let fields: Vec<_> = status.metadata().get_all(FIELD).iter().map(|field| field.as_bytes().to_vec()).collect();
        assert_eq!(fields, [b"name".to_vec(), b"labels.zone".to_vec()]);
    }

    #[test]
    fn what_is_there_already_is_named_by_its_field() {
        let status = Status::from(CallError::exists("network_id", "is taken"));
        assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "network_id: is taken"));
        assert_eq!(status.metadata().get(FIELD).map(|field| field.as_bytes()), Some(&b"network_id"[..]));
    }

    #[test]
    fn what_is_not_there_is_named_by_its_field() {
        let status = Status::from(CallError::missing("host_ids[0]", "is nobody"));
        assert_eq!((status.code(), status.message()), (Code::NotFound, "host_ids[0]: is nobody"));
        assert_eq!(status.metadata().get(FIELD).map(|field| field.as_bytes()), Some(&b"host_ids[0]"[..]));
    }

    #[test]
    fn whoever_asks_too_much_is_told_when_to_come_back() {
        let status = Status::from(CallError::TooMany("wait a moment".to_owned()));
        let hint = status.get_details_retry_info().and_then(|hint| hint.retry_delay);
        assert_eq!((status.code(), hint), (Code::ResourceExhausted, Some(RETRY_AFTER)));
    }

    #[test]
    fn a_store_that_is_down_is_unavailable_and_not_our_bug() {
        let down = StoreError::Unavailable { operation: "get", reason: "no endpoint".to_owned() };
        assert_eq!(Status::from(CallError::from(down)).code(), Code::Unavailable);
    }
}
