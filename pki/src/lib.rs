//! Identity on the control channel: the certificate authority of a cluster, the certificates of its servers and hosts,
//! the TLS configurations of both ends, and the gRPC channel over them.
//! Keeps nothing and reads no clock but rustls' own: who stores the authority and when to renew is decided elsewhere.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};

mod authority;
pub mod channel;
mod client;
mod credentials;
mod error;
mod host_key;
mod identity;
mod server;
mod spki;
mod verify;

pub use authority::Authority;
pub use client::{client_config, client_config_pinned, service_name};
pub use credentials::{Credentials, find_authority};
pub use error::{Error, PinMismatch};
pub use host_key::HostKey;
pub use identity::PeerIdentity;
pub use server::{page_server_config, server_config};
pub use spki::{certificate_spki_sha256, request_spki_sha256};

/// The name in every server certificate of ours. Agents and the CLI ask for it whatever address they dial, because an
/// address behind a NAT is not known to the server that stands there.
pub const SERVICE_NAME: &str = "service.cladnet.internal";

/// Makes ring the cryptography of every rustls configuration in this process. Safe to call again.
pub fn install_crypto_provider() {
    // An error only says that a provider is installed already, and no other one is linked.
    let _ = ring::default_provider().install_default();
}

/// The one provider, for builders that take it as a value and so need no installation.
fn crypto_provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
    PROVIDER.clone()
}
