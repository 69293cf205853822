//! Who is at the other end of a connection: the host that a client certificate names.

use std::time::Duration;

use cladnet_model::HostId;
use jiff::Timestamp;
use rustls::{ServerConnection, pki_types::CertificateDer};
use x509_parser::extensions::GeneralName;

use crate::certificate_spki_sha256;

const URI_PREFIX: &str = "spiffe://cladnet/host/";

/// The URI in a host's certificate that carries its id.
pub(crate) fn host_uri(host: &HostId) -> String {
    format!("{URI_PREFIX}{host}")
}

/// A host that proved its key. Whether its record still exists is for the service to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    pub host_id: HostId,
    /// SHA-256 of its public key.
    pub spki_sha256: [u8; 32],
    /// An expired certificate admits to renewal and to nothing else.
    pub expired: bool,
    /// How long from now on it is valid; zero once it has expired.
    pub valid_for: Duration,
}

impl PeerIdentity {
    /// The host at the other end; none if the client showed no certificate. Only meaningful on connections of
    /// [`server_config`](crate::server_config), which checked the certificate's chain.
    pub fn from_connection(connection: &ServerConnection, now: Timestamp) -> Option<Self> {
        connection.peer_certificates().and_then(<[_]>::first).and_then(|leaf| Self::from_certificate(leaf, now))
    }

    /// The host that a certificate names, if it is one of a host. Its chain is not checked here.
    pub fn from_certificate(certificate: &CertificateDer<'_>, now: Timestamp) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let host_id = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(URI_PREFIX)?.parse().ok(),
            _ => None,
        })?;
        let left = parsed.validity().not_after.timestamp().saturating_sub(now.as_second());
        Some(Self {
            host_id,
            spki_sha256: certificate_spki_sha256(certificate).ok()?,
            expired: left < 0,
            valid_for: Duration::from_secs(u64::try_from(left).unwrap_or_default()),
        })
    }
}
