//! The client's side of the key exchange: lets a session begin with a trusted key only, and remembers what was shown.

use std::sync::{Arc, OnceLock};

use cladnet_model::deployment::Fingerprint;
use russh::{client::Handler, keys::PublicKeyOrCertificate};

use super::{ShownKey, Trust};

/// Decides on the key; says nothing else.
pub(super) struct Gate {
    pub(super) trust: Trust,
    pub(super) shown: Arc<OnceLock<ShownKey>>,
}

impl Handler for Gate {
    type Error = russh::Error;

    async fn check_server_key(&mut self, offered: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // No certificates are asked for, so none is shown.
        let PublicKeyOrCertificate::PublicKey { key, .. } = offered else { return Ok(false) };
        let shown =
            ShownKey { fingerprint: Fingerprint::of(&key.to_bytes()?), algorithm: key.algorithm().as_str().to_owned() };
        let is_trusted = match self.trust {
            Trust::Pinned(pin) => pin == shown.fingerprint,
            Trust::FirstSight => true,
            Trust::Unknown => false,
        };
        // A second exchange on the same connection must show the same key.
        let first = self.shown.get_or_init(|| shown.clone());
        Ok(is_trusted && *first == shown)
    }
}
