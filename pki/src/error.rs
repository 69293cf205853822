//! What can be wrong with a key, a certificate or a request for one.

/// Why something of the public key infrastructure could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the private key: not a PEM private key of a supported kind")]
    Key(#[source] rcgen::Error),
    #[error("read {what} as PEM")]
    Pem { what: &'static str, source: rustls::pki_types::pem::Error },
    #[error("the PEM text holds no certificate")]
    NoCertificate,
    #[error("the private key does not belong to the certificate")]
    ForeignKey,
    #[error("read the certificate: malformed")]
    Certificate,
    #[error("certificate request: {0}")]
    Request(&'static str),
    #[error("{0:?} cannot be the name of a server; give a DNS name or an IP address")]
    Name(String),
    #[error("sign the certificate")]
    Sign(#[source] rcgen::Error),
    #[error("set TLS up")]
    Tls(#[from] rustls::Error),
    #[error("set up the check of certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    #[error("the moment {0} lies outside what a certificate can say")]
    Time(jiff::Timestamp),
    #[error(transparent)]
    PinMismatch(#[from] PinMismatch),
}

/// The server belongs to another cluster than the join token: no certificate it shows has the pinned public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the service's certificate authority is not the one the token was made with; use a token of this service, or check its address"
)]
pub struct PinMismatch;
