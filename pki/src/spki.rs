//! The fingerprint of a public key: SHA-256 over its SubjectPublicKeyInfo in DER (RFC 7469 §2.4), which stays when the
//! certificate around the key is renewed.

use ring::digest::{SHA256, digest};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer, x509::SubjectPublicKeyInfo};

use crate::Error;

/// The fingerprint of the key in a certificate (DER).
pub fn certificate_spki_sha256(certificate_der: &[u8]) -> Result<[u8; 32], Error> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate_der).map_err(|_| Error::Certificate)?;
    Ok(fingerprint(certificate.public_key()))
}

/// The fingerprint of the key in a certificate request (PKCS#10, DER). The request's signature is not checked.
pub fn request_spki_sha256(request_der: &[u8]) -> Result<[u8; 32], Error> {
    let (_, request) = X509CertificationRequest::from_der(request_der).map_err(|_| Error::Request("malformed"))?;
    Ok(fingerprint(&request.certification_request_info.subject_pki))
}

fn fingerprint(key: &SubjectPublicKeyInfo<'_>) -> [u8; 32] {
    digest(&SHA256, key.raw).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
