//! A certificate chain with its private key: what one side of a TLS connection shows.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{Error, HostKey, PinMismatch, certificate_spki_sha256};

/// A chain, leaf first, and the leaf's key.
pub struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads a chain and a key, for example those that an operator gives to a server. Refuses a key of another
    /// certificate.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|source| Error::Pem { what: "the private key", source })?;
        Self { chain: certificates(chain_pem)?, key }.checked()
    }

    /// The certificate that the service gave a host, with the key that never left it.
    pub fn of_host(chain_pem: &str, key: &HostKey) -> Result<Self, Error> {
        Self { chain: certificates(chain_pem)?, key: key.to_der() }.checked()
    }

    /// Leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// From when and until when the leaf is valid.
    pub fn validity(&self) -> Result<(jiff::Timestamp, jiff::Timestamp), Error> {
        let leaf = self.chain.first().ok_or(Error::NoCertificate)?;
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|_| Error::Certificate)?;
        let moment = |at: x509_parser::time::ASN1Time| {
            jiff::Timestamp::from_second(at.timestamp()).map_err(|_| Error::Certificate)
        };
        Ok((moment(leaf.validity().not_before)?, moment(leaf.validity().not_after)?))
    }

    fn checked(self) -> Result<Self, Error> {
        let key = crate::crypto_provider().key_provider.load_private_key(self.key.clone_key())?;
        match rustls::sign::CertifiedKey::new(self.chain.clone(), key).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(self),
            Err(rustls::Error::InconsistentKeys(_)) => Err(Error::ForeignKey),
            Err(_) => Err(Error::Certificate),
        }
    }
}

/// The certificate of the pinned authority in a chain that the service gave, as PEM: what a host keeps to recognise its
/// service by after the first contact.
pub fn find_authority(chain_pem: &str, spki_sha256: &[u8; 32]) -> Result<String, Error> {
    let chain = pem::parse_many(chain_pem).map_err(|_| Error::Certificate)?;
    let pinned = |shown: &&pem::Pem| certificate_spki_sha256(shown.contents()).is_ok_and(|found| found == *spki_sha256);
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    Ok(pem::encode_config(chain.iter().find(pinned).ok_or(PinMismatch)?, lines))
}

/// Every certificate of a PEM text, at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem { what: "a certificate", source })?;
    if chain.is_empty() { Err(Error::NoCertificate) } else { Ok(chain) }
}
