//! The TLS configurations of agents and the CLI: at first contact with nothing but a pin, later with the authority's
//! certificate. Both ask for [`SERVICE_NAME`].

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, Error as TlsError, OtherError,
    client::{
        WebPkiServerVerifier,
        danger::{ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    Credentials, Error, PinMismatch, SERVICE_NAME, certificate_spki_sha256,
    credentials::certificates,
    crypto_provider,
    verify::{handshake_signatures, roots},
};

/// What every client of ours asks for, whatever address it dials.
pub fn service_name() -> ServerName<'static> {
    ServerName::try_from(SERVICE_NAME).expect("a DNS name")
}

/// For those who know the authority: the chain must end in it. `host` is shown if the service asks who we are.
pub fn client_config(authority_pem: &str, host: Option<&Credentials>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(certificates(authority_pem)?)?);
    Ok(with_alpn(match host {
        Some(host) => builder.with_client_auth_cert(host.chain.clone(), host.key.clone_key())?,
        None => builder.with_no_client_auth(),
    }))
}

/// For the first contact: trusts the authority whose public key has this hash (out of the join token) and no other.
/// The service presents that authority's certificate in its chain.
pub fn client_config_pinned(spki_sha256: [u8; 32]) -> Result<ClientConfig, Error> {
    Ok(with_alpn(
        ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedAuthority { spki_sha256 }))
            .with_no_client_auth(),
    ))
}

fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Takes the presented certificate with the pinned key as the root and checks everything else as usual.
#[derive(Debug)]
struct PinnedAuthority {
    spki_sha256: [u8; 32],
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let authority = intermediates
            .iter()
            .find(|shown| certificate_spki_sha256(shown).is_ok_and(|found| found == self.spki_sha256))
            .ok_or_else(|| TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(PinMismatch)))))?;
        let roots = roots([authority.clone().into_owned()])?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto_provider())
            .build()
            .map_err(|error| TlsError::General(error.to_string()))?
            .verify_server_cert(leaf, intermediates, name, ocsp_response, now)
    }

    handshake_signatures!();
}
