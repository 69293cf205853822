//! The server's certificate: issued by our own authority for every name and address of this machine, and an operator's
//! beside it if one is given. Both are renewed while the replica runs.

use std::{net::IpAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use cladnet_pki::{Authority, Credentials, server_config};
use jiff::Timestamp;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::{CertificateFiles, Config, Service};

/// Longer than any restart, shorter than any leak lasts.
const LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How often the certificate is issued anew and an operator's files are read again.
const RENEWAL: Duration = Duration::from_secs(12 * 3_600);

/// Why the listener has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {}", path.display())]
    Read {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("use the certificate {} with the key {}", files.chain.display(), files.key.display())]
    Given {
        files: CertificateFiles,
        #[source]
        source: cladnet_pki::Error,
    },
    #[error("issue the server's certificate")]
    Issue(#[from] cladnet_pki::Error),
}

/// A certificate that is made by nobody but us, and anew at every start, may last as long as browsers take any.
pub(crate) const SELF_SIGNED_LIFETIME: Duration = Duration::from_secs(397 * 86_400);

/// The configuration of a listener, and where newer ones come from.
pub(crate) struct ServerTls {
    current: ArcSwap<ServerConfig>,
    source: Source,
}

type Source = Box<dyn Fn() -> Result<Arc<ServerConfig>, TlsError> + Send + Sync>;

impl ServerTls {
    /// With what `source` says now.
    pub(crate) fn new(
        source: impl Fn() -> Result<Arc<ServerConfig>, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        Ok(Self { current: ArcSwap::new(source()?), source: Box::new(source) })
    }

    /// For one connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Renews for ever; a failure leaves the certificate that is there.
    pub(crate) async fn renew(&self) {
        let mut ticks = tokio::time::interval(RENEWAL);
        ticks.tick().await; // the first is now
        loop {
            ticks.tick().await;
            match (self.source)() {
                Ok(config) => {
                    self.current.store(config);
                    info!("server certificate renewed");
                }
                Err(error) => warn!(error = &error as &dyn std::error::Error, "server certificate not renewed"),
            }
        }
    }
}

/// Whether the operator's files can be used; asked before anything is made, so that a wrong one changes nothing.
pub(crate) fn check(config: &Config) -> Result<(), TlsError> {
    config.certificate.as_ref().map(read).transpose().map(drop)
}

/// The service's own: a fresh certificate of the authority, and the operator's files as they are.
pub(crate) fn of(service: Arc<Service>) -> impl Fn() -> Result<Arc<ServerConfig>, TlsError> + Send + Sync + 'static {
    move || configuration(&service)
}

fn configuration(service: &Service) -> Result<Arc<ServerConfig>, TlsError> {
    let own = issue(&service.authority, &service.config.tls_names, service.clock.now())?;
    let given = service.config.certificate.as_ref().map(read).transpose()?;
    Ok(Arc::new(server_config(&own, given.as_ref(), service.authority.certificate())?))
}

fn issue(authority: &Authority, extra: &[String], now: Timestamp) -> Result<Credentials, TlsError> {
    Ok(authority.issue_server(&names(extra), &local_addresses(), now, LIFETIME)?)
}

/// The names of this server: those that the operator gave, and the machine's own.
pub(crate) fn names(given: &[String]) -> Vec<String> {
    let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    // A machine may be called what no certificate can say; it is then known by its addresses.
    let usable = |name: &String| rustls::pki_types::DnsName::try_from(name.as_str()).is_ok();
    given.iter().cloned().chain(host_name.filter(usable)).collect()
}

/// Every address of this machine; none if the system will not tell.
pub fn local_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// Those of [`local_addresses`] that other machines may reach, IPv4 first.
pub(crate) fn reachable_addresses() -> Vec<IpAddr> {
    let is_reachable = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    let mut addresses: Vec<IpAddr> = local_addresses().into_iter().filter(is_reachable).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

pub(crate) fn read(files: &CertificateFiles) -> Result<Credentials, TlsError> {
    let text = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
    };
    let (chain, key) = (text(&files.chain)?, zeroize::Zeroizing::new(text(&files.key)?));
    Credentials::from_pem(&chain, &key).map_err(|source| TlsError::Given { files: files.clone(), source })
}
