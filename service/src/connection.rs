//! Who is at the other end of a connection, as the listener saw it.

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

/// Put into the extensions of every request by the listener; REST transcoding copies it into the gRPC request it makes.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Where the connection comes from; IPv4 as IPv4, not mapped into IPv6.
    pub remote: SocketAddr,
    /// The client's leaf certificate. Its chain and its key's proof were verified against our own authority; whether it
    /// has expired is for the handler to judge, because an expired one still opens renewal.
    pub certificate: Option<CertificateDer<'static>>,
    /// Arrived without TLS, on the loopback listener for `cbnet.v1`.
    pub insecure: bool,
}

/// Whether somebody whom we know uses a connection; in the extensions of every request beside [`Connection`]. The requests
/// of strangers have a deadline.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acquaintance(CancellationToken);

impl Acquaintance {
    /// The caller has shown a credential that is good.
    pub(crate) fn make(&self) {
        self.0.cancel();
    }

    /// Waits until one was shown.
    pub(crate) async fn made(&self) {
        self.0.cancelled().await;
    }
}
