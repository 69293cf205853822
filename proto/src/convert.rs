//! Conversions between the wire and `model`. What comes from outside is refused with the path of the field that is
//! wrong and what would be right; what goes out always converts.

mod admin;
mod agent;
mod connectivity;
mod deployment;
mod location;
mod path;
mod rule;
mod tariff;
mod time;

use std::{fmt::Display, str::FromStr};

use cladnet_model::validate::check_text;
use tonic::{Code, Status, metadata::MetadataValue};

pub use admin::{PeerRecords, cleared_fields, host, injected_location, network, peer, token};
pub use agent::{host_facts, membership_config, membership_status, public_key, remote_peer};
pub use connectivity::{connectivity_run, connectivity_test};
pub use deployment::{DeploymentRecords, deployment, deployment_draft, deployment_overview, host_key};
pub use path::{candidate, measurements};
pub use rule::{advertised, rule_document, rule_document_draft, rules, rules_draft};
pub use tariff::{book, tariff_book, tariff_overrides, tariff_quote, tariff_rule, tariff_warnings};
pub use time::{duration, timestamp};

/// Metadata of an `InvalidArgument` or `AlreadyExists` status: the path of the field at fault.
pub const FIELD: &str = "field";

/// A field of a message is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// As in the `.proto` file, dotted, with indices: `facts.endpoints[2].address`.
    pub field: String,
    pub reason: String,
}

impl FieldError {
    /// `reason` continues the field's name: `is empty; give a name`.
    pub fn new(field: impl Into<String>, reason: impl Display) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }

    /// The same error seen from the message that holds the field in `parent`.
    #[must_use]
    pub fn within(self, parent: impl Display) -> Self {
        Self { field: format!("{parent}.{}", self.field), reason: self.reason }
    }
}

impl From<FieldError> for Status {
    fn from(error: FieldError) -> Self {
        let mut status = Self::new(Code::InvalidArgument, error.to_string());
        if let Ok(field) = MetadataValue::try_from(error.field.as_str()) {
            status.metadata_mut().insert(FIELD, field);
        }
        status
    }
}

/// Reads a field that must be there.
pub fn required<T>(field: &str, text: &str) -> Result<T, FieldError>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error| FieldError::new(field, error))
}

/// Reads a field that may be empty.
pub fn optional<T>(field: &str, text: &str) -> Result<Option<T>, FieldError>
where
    T: FromStr<Err: Display>,
{
    if text.is_empty() { Ok(None) } else { required(field, text).map(Some) }
}

/// Text that may be left out: an empty field says nothing.
pub fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Refuses text that no honest caller sends: it would be kept in every replica and sent to every peer.
pub(crate) fn bounded(field: &str, text: String, limit: usize) -> Result<String, FieldError> {
    match text.len() {
        length if length > limit => {
            Err(FieldError::new(field, format!("has {length} bytes; at most {limit} are allowed")))
        }
        _ => Ok(text),
    }
}

/// As [`bounded`], for a name that stands in a line: nothing in it that a terminal would obey.
pub(crate) fn name(field: &str, text: String, limit: usize) -> Result<String, FieldError> {
    let text = bounded(field, text, limit)?;
    check_text(&text, limit).map_err(|error| FieldError::new(field, error))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
