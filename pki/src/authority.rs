//! The certificate authority of one cluster: it names its servers and hosts, and nobody else's.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use cladnet_model::HostId;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{Credentials, Error, SERVICE_NAME, certificate_spki_sha256, identity::host_uri};

/// Hosts keep trusting the authority without ever being visited again.
const LIFETIME: Duration = Duration::from_secs(20 * 365 * 86_400);
/// A certificate is valid a little before it was made, so that a slow clock does not refuse it.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// A certificate and the P-256 key that signs with it (the curve that rustls, BoringSSL, OpenSSL and browsers all take).
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// A new authority with a fresh key.
    pub fn create(now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Sign)?;
        let mut params = parameters("cladnet certificate authority", now, LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&key).map_err(Error::Sign)?;
        Ok(Self { certificate: certificate.der().clone(), certificate_pem: certificate.pem(), key })
    }

    /// The authority that [`Authority::certificate_pem`] and [`Authority::key_pem`] wrote down.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem).map_err(Error::Key)?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|source| Error::Pem { what: "the authority's certificate", source })?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| Error::Certificate)?;
        if parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(Error::ForeignKey);
        }
        Ok(Self { certificate_pem: certificate_pem.to_owned(), certificate, key })
    }

    /// The certificate, to hand to everybody.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The certificate as rustls wants it.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key, for the sealed store and nothing else.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// What join tokens pin: SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    pub fn spki_sha256(&self) -> [u8; 32] {
        certificate_spki_sha256(&self.certificate).expect("the authority's certificate was parsed or made by us")
    }

    /// A certificate with a fresh key for a server that is reached under `names` and `addresses`, and always under
    /// [`SERVICE_NAME`], `localhost` and the loopback addresses. The chain ends in the authority's own certificate,
    /// so that a first contact can check its pin.
    pub fn issue_server(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Credentials, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Sign)?;
        let mut params = parameters("cladnet service", now, lifetime)?;
        params.subject_alt_names = server_names(names, addresses)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer()?).map_err(Error::Sign)?;
        Ok(Credentials {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }

    /// The certificate of a host, as a PEM chain that ends in the authority's own. Of the request only the key counts,
    /// after its signature proved possession; names and extensions in it are ignored.
    pub fn sign_host_request(
        &self,
        request_der: &[u8],
        host: &HostId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<String, Error> {
        let request = CertificateSigningRequestParams::from_der(&request_der.into()).map_err(refusal)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(Error::Request("the key is not of the P-256 curve"));
        }
        let mut params = parameters(host.as_str(), now, lifetime)?;
        params.subject_alt_names =
            vec![SanType::URI(host_uri(host).try_into().expect("ids and the fixed prefix are ASCII"))];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&request.public_key, &self.issuer()?).map_err(Error::Sign)?;
        Ok(certificate.pem() + &self.certificate_pem)
    }

    fn issuer(&self) -> Result<Issuer<'_, &KeyPair>, Error> {
        Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(Error::Sign)
    }
}

impl Credentials {
    /// A certificate that nobody vouches for, with a fresh key: people compare its fingerprint. It has the names that a
    /// server of ours has.
    pub fn self_signed(
        names: &[String],
        addresses: &[IpAddr],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Sign)?;
        let mut params = parameters("cladnet admin-web", now, lifetime)?;
        params.subject_alt_names = server_names(names, addresses)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.self_signed(&key).map_err(Error::Sign)?;
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        })
    }
}

/// What every certificate of ours shares. The serial number is random: rcgen's default would repeat at each renewal.
fn parameters(common_name: &str, now: Timestamp, lifetime: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = moment(now - BACKDATED)?;
    params.not_after = moment(now + lifetime)?;
    params.use_authority_key_identifier_extension = true;
    let mut serial = [0u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::Sign(rcgen::Error::RingUnspecified))?;
    serial[0] &= 0x7f; // positive in DER
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| Error::Time(at))
}

fn server_names(names: &[String], addresses: &[IpAddr]) -> Result<Vec<SanType>, Error> {
    let names: BTreeSet<&str> =
        [SERVICE_NAME, "localhost"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut addresses: BTreeSet<IpAddr> = loopback.into_iter().chain(addresses.iter().copied()).collect();
    let mut entries = Vec::new();
    for name in names {
        match name.parse() {
            Ok(address) => drop(addresses.insert(address)),
            Err(_) => entries.push(dns_name(name)?),
        }
    }
    Ok(entries.into_iter().chain(addresses.into_iter().map(SanType::IpAddress)).collect())
}

fn dns_name(name: &str) -> Result<SanType, Error> {
    let unusable = || Error::Name(name.to_owned());
    rustls::pki_types::DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).map_err(|_| unusable())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| unusable())?))
}

fn refusal(error: rcgen::Error) -> Error {
    Error::Request(match error {
        rcgen::Error::InvalidCertificationRequestSignature => "its signature does not match its key",
        rcgen::Error::UnsupportedExtension => "it asks for extensions that no host gets",
        rcgen::Error::UnsupportedSignatureAlgorithm => "its signature algorithm is not supported",
        _ => "malformed",
    })
}
