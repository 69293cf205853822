//! The key of a host's identity. It is made on the host and never leaves it; only requests for certificates do.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::{Error, request_spki_sha256};

/// A P-256 private key.
pub struct HostKey(KeyPair);

impl HostKey {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Result<Self, Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(Error::Key)
    }

    /// The key that [`HostKey::to_pem`] wrote.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        KeyPair::from_pem(pem).map(Self).map_err(Error::Key)
    }

    /// The private key, for a file that only root reads.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A certificate request (PKCS#10, DER): the public key and the proof that we hold its private half. It names
    /// nobody, because the authority believes no name in it. Every call gives another signature over the same key.
    pub fn request(&self) -> Result<Vec<u8>, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(Error::Sign)?;
        Ok(request.der().to_vec())
    }

    /// SHA-256 of the public key, equal to that of every certificate and request for this key.
    pub fn spki_sha256(&self) -> Result<[u8; 32], Error> {
        request_spki_sha256(&self.request()?)
    }

    /// The key as rustls wants it.
    pub(crate) fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.0.serialize_der()))
    }
}
