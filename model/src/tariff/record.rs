//! A tariff document as it is kept: who stated it, and how often it was changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Document;

/// The operator's document, or what was imported. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TariffRecord {
    /// Counts the changes: whoever sets a document says which one they have seen.
    pub version: u64,
    pub document: Document,
    pub changed_at: Timestamp,
    /// Id of the API key.
    pub changed_by: String,
}
