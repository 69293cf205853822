//! Join tokens: what a machine shows once to become a host, and the record that counts its uses.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Labels, NetworkId, TokenId, word::words};

/// A token's record; the secret itself is never stored. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub network: NetworkId,
    /// SHA-256 of the secret, hex.
    pub secret_hash: String,
    pub uses_left: u32,
    pub expires_at: Timestamp,
    #[serde(default)]
    pub labels: Labels,
    pub revoked: bool,
    pub created_at: Timestamp,
    /// Id of the API key that made it.
    pub created_by: String,
}

/// Whether a token still admits anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Usable,
    Used,
    Expired,
    Revoked,
}

words!(TokenState {
    Usable = "usable",
    Used = "used",
    Expired = "expired",
    Revoked = "revoked",
});

impl Token {
    /// The state at a moment; revocation is told before expiry, expiry before use.
    pub fn state(&self, now: Timestamp) -> TokenState {
        match () {
            () if self.revoked => TokenState::Revoked,
            () if self.expires_at <= now => TokenState::Expired,
            () if self.uses_left == 0 => TokenState::Used,
            () => TokenState::Usable,
        }
    }
}
