//! Which host calls: from its client certificate to its record, on every call.

use std::time::Duration;

use cladnet_model::Host;
use cladnet_pki::PeerIdentity;
use cladnet_store::{Revision, key};
use data_encoding::HEXLOWER;
use tonic::Extensions;

use super::Shared;
use crate::{Connection, error::CallError};

/// Whether a call is open to a certificate that has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    Refused,
    Admitted,
}

/// The caller's record and when it was written.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) host: Host,
    pub(super) revision: Revision,
    /// How long its certificate is still valid.
    pub(super) valid_for: Duration,
}

/// A public key's hash as records keep it.
pub(super) fn identity(spki_sha256: &[u8; 32]) -> String {
    HEXLOWER.encode(spki_sha256)
}

impl Shared {
    /// The host that calls. While the store does not answer, what this replica last saw of it counts.
    pub(super) async fn caller(&self, extensions: &Extensions, expired: Expired) -> Result<Caller, CallError> {
        let certificate = extensions.get::<Connection>().and_then(|connection| connection.certificate.as_ref());
        let shown = certificate.and_then(|leaf| PeerIdentity::from_certificate(leaf, self.parts.clock.now()));
        let shown = shown.ok_or_else(|| {
            CallError::Unauthenticated("this call needs the client certificate of an enrolled host".to_owned())
        })?;
        if shown.expired && expired == Expired::Refused {
            return Err(CallError::Unauthenticated("the host's certificate has expired; renew it first".to_owned()));
        }
        let found = match self.parts.store.get(&key::host(&shown.host_id)).await {
            Ok(found) => found.map(|record| (record.value, record.modified)),
            Err(error) if error.is_transient() => match self.view().host(&shown.host_id) {
                Some(known) => Some(known.clone()),
                None => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        match found {
            Some((host, revision)) if host.identity == identity(&shown.spki_sha256) => {
                Ok(Caller { host, revision, valid_for: shown.valid_for })
            }
            _ => Err(CallError::Denied(removed(&shown.host_id))),
        }
    }
}

/// What a host is told that is no longer one.
pub(super) fn removed(host: &cladnet_model::HostId) -> String {
    format!("{host} was removed from this installation; leave, then join again with a new token")
}
