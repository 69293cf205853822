//! Who may do what: API keys and their roles.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{KeyId, word::words};

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything, keys included.
    Admin,
    /// Everything but keys.
    Operator,
    /// Reads.
    Viewer,
    /// What a provisioner needs: networks, tokens, cloud locations; reads.
    Provisioner,
}

words!(Role {
    Admin = "admin",
    Operator = "operator",
    Viewer = "viewer",
    Provisioner = "provisioner",
});

/// An API key's record; the key itself is never stored. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: KeyId,
    pub name: String,
    pub role: Role,
    /// SHA-256 of the secret, hex.
    pub secret_hash: String,
    pub created_at: Timestamp,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}
