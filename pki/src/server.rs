//! The TLS configuration of the service: our certificate under our name, an operator's under every other one, client
//! certificates optional, expired ones admitted (and marked, see [`PeerIdentity`](crate::PeerIdentity)).

use std::sync::Arc;

use rustls::{
    CertificateError, DistinguishedName, Error as TlsError, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};

use crate::{
    Credentials, Error, SERVICE_NAME, crypto_provider,
    verify::{handshake_signatures, roots},
};

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. `own` answers those who ask for [`SERVICE_NAME`]; `given`, if there is one,
/// answers everybody else, which is how browsers meet a certificate of a public authority while agents keep theirs.
/// `authority` is whose client certificates are accepted.
pub fn server_config(
    own: &Credentials,
    given: Option<&Credentials>,
    authority: &CertificateDer<'static>,
) -> Result<ServerConfig, Error> {
    let certificates = Certificates { own: certified(own)?, given: given.map(certified).transpose()? };
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(HostCertificates::of(authority)?))
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For a server that is there for browsers alone: one certificate for everybody, and nobody is asked for theirs.
pub fn page_server_config(shown: &Credentials) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(shown.chain.clone(), shown.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certified(credentials: &Credentials) -> Result<Arc<CertifiedKey>, Error> {
    let key = crypto_provider().key_provider.load_private_key(credentials.key.clone_key())?;
    Ok(Arc::new(CertifiedKey::new(credentials.chain.clone(), key)))
}

#[derive(Debug)]
struct Certificates {
    own: Arc<CertifiedKey>,
    given: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match &self.given {
            Some(given) if hello.server_name() != Some(SERVICE_NAME) => Some(given.clone()),
            _ => Some(self.own.clone()),
        }
    }
}

/// Accepts certificates of one authority, expired ones too, and clients without any.
#[derive(Debug)]
struct HostCertificates(Arc<dyn ClientCertVerifier>);

impl HostCertificates {
    fn of(authority: &CertificateDer<'static>) -> Result<Self, Error> {
        let roots = roots([authority.clone()])?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider())
            .allow_unauthenticated()
            .build()?;
        Ok(Self(verifier))
    }
}

impl ClientCertVerifier for HostCertificates {
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    /// An expired certificate is checked once more as of the last moment of its life: all but its age must be right.
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        match self.0.verify_client_cert(leaf, intermediates, now) {
            Err(TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                self.0.verify_client_cert(leaf, intermediates, end_of_life(leaf)?)
            }
            outcome => outcome,
        }
    }

    handshake_signatures!();
}

fn end_of_life(leaf: &CertificateDer<'_>) -> Result<UnixTime, TlsError> {
    let malformed = || TlsError::InvalidCertificate(CertificateError::BadEncoding);
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| malformed())?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).map_err(|_| malformed())?;
    Ok(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}
