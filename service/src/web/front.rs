//! The admin web on a port of its own: its pages, and `/api/` handed on to a service elsewhere, on one origin. It decides
//! nothing and keeps nothing; cookies and keys pass through it, and what they open is said by the service.

mod body;
mod forward;
mod upstream;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::Request,
    middleware::{from_fn, from_fn_with_state},
    routing::any,
};
use cladnet_pki::{Credentials, channel::ServiceUrl, page_server_config};
use http::StatusCode;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use rustls::ClientConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::upstream::Upstream;
use super::{names::OwnNames, own_names_only};
use crate::{
    CertificateFiles, StartError, envelope,
    listener::{self, Security},
    request_id::RequestId,
    rest::problem::Problem,
    server::tcp,
    tls::{self, ServerTls, TlsError},
};

/// Where the admin web is, alone.
pub const DEFAULT_PORT: u16 = 8054;

/// What an operator can set about the admin web that stands alone.
#[derive(Debug, Clone)]
pub struct FrontConfig {
    /// TLS, as everywhere. Port 0 picks a free one.
    pub listen_addr: SocketAddr,
    /// Names under which browsers ask, beside addresses and the machine's own name.
    pub tls_names: Vec<String>,
    /// Without one, a self-signed certificate is made at each start.
    pub certificate: Option<CertificateFiles>,
}

/// The admin web, ready to serve.
pub struct Front {
    listener: TcpListener,
    tls: Arc<ServerTls>,
    router: Router,
    fingerprint: Option<String>,
}

impl Front {
    /// Opens the port. `services` are asked for everything below `/api/`, over `tls`; none of them need be there yet.
    pub fn open(
        config: &FrontConfig,
        services: &[ServiceUrl],
        tls: ClientConfig,
        pages: Router,
    ) -> Result<Self, StartError> {
        cladnet_pki::install_crypto_provider();
        let (shown, fingerprint) = certificate(config)?;
        let upstream = Upstream::new(services, &tls);
        Ok(Self {
            listener: tcp(config.listen_addr, "--listen")?,
            tls: Arc::new(shown),
            router: router(upstream, OwnNames::new(&config.tls_names), pages),
            fingerprint,
        })
    }

    /// Where the pages are served.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// SHA-256 of the certificate that was made for this start, as browsers write it; none of a given one.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Serves until `shutdown`; requests in flight get a moment to finish.
    pub async fn run(self, shutdown: CancellationToken) {
        let served = listener::serve(self.listener, Security::Tls(self.tls.clone()), self.router, shutdown);
        tokio::select! {
            () = served => {}
            () = self.tls.renew() => {}
        }
    }
}

fn router(upstream: Upstream, names: OwnNames, pages: Router) -> Router {
    let nothing = async |request: Request| {
        let problem = Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", request.uri().path()));
        problem.response(RequestId::of(request.extensions()).as_str())
    };
    let api = Router::new().route("/api/{*path}", any(forward::forward)).with_state(upstream);
    pages
        .merge(api)
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::new(names), own_names_only))
        .layer(from_fn(envelope::wrap))
}

/// The operator's certificate, read again from time to time; or one of our own for as long as we run.
fn certificate(config: &FrontConfig) -> Result<(ServerTls, Option<String>), TlsError> {
    if let Some(files) = config.certificate.clone() {
        let read = move || Ok(Arc::new(page_server_config(&tls::read(&files)?)?));
        return Ok((ServerTls::new(read)?, None));
    }
    let (names, addresses) = (tls::names(&config.tls_names), tls::local_addresses());
    let made = Credentials::self_signed(&names, &addresses, Timestamp::now(), tls::SELF_SIGNED_LIFETIME)?;
    let shown = Arc::new(page_server_config(&made)?);
    let fingerprint = made.chain().first().map(|leaf| colons(digest(&SHA256, leaf).as_ref()));
    Ok((ServerTls::new(move || Ok(shown.clone()))?, fingerprint))
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}
