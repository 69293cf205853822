//! What an operator can set about a replica of the service.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use cladnet_store::SealingKey;

/// TCP for gRPC, REST and the documentation; UDP for STUN.
pub const DEFAULT_PORT: u16 = 8053;

/// Settings of one replica; a default replica listens on every address.
#[derive(Debug, Clone)]
pub struct Config {
    /// TLS: gRPC, REST, documentation. Port 0 picks a free one.
    pub listen_addr: SocketAddr,
    /// STUN over UDP; `None` for no STUN server.
    pub stun_addr: Option<SocketAddr>,
    /// `cbnet.v1` without TLS for its old callers; refused unless it is a loopback address.
    pub insecure_http: Option<SocketAddr>,
    /// Names and addresses for the server certificate, beside those the machine is known by.
    pub tls_names: Vec<String>,
    /// The server's certificate, if it does not come from the built-in authority.
    pub certificate: Option<CertificateFiles>,
    /// Where the first API key is written, beside being told, if this start makes the installation. Must not exist then.
    pub admin_key_file: Option<PathBuf>,
    /// Seals the private keys of machines, if the store's own key shall not: what opens them then opens nothing else.
    pub deployment_key: Option<SealingKey>,
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT);
        Self {
            listen_addr: everywhere,
            stun_addr: Some(everywhere),
            insecure_http: None,
            tls_names: Vec::new(),
            certificate: None,
            admin_key_file: None,
            deployment_key: None,
        }
    }
}
