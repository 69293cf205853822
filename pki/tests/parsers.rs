//! Whatever bytes a stranger sends as a certificate request, a certificate or a chain: an answer, never a panic.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::LazyLock, time::Duration};

use cladnet_pki::{
    Authority, Credentials, HostKey, PeerIdentity, certificate_spki_sha256, channel::ServiceUrl, find_authority,
    request_spki_sha256,
};
use jiff::Timestamp;
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

struct Good {
    authority: Authority,
    request: Vec<u8>,
    chain: String,
    certificate: Vec<u8>,
}

static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let (authority, key) = (Authority::create(Timestamp::UNIX_EPOCH).unwrap(), HostKey::generate().unwrap());
    let request = key.request().unwrap();
    let id = "host-a".parse().unwrap();
    let chain = authority.sign_host_request(&request, &id, Timestamp::UNIX_EPOCH, WEEK).unwrap();
    let certificate = Credentials::of_host(&chain, &key).unwrap().chain()[0].to_vec();
    Good { authority, request, chain, certificate }
});

/// Good bytes with some of them changed, or cut off; or any bytes.
fn spoilt(good: fn() -> &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let near = (changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(move |(changes, end, cut)| {
        let mut bytes = good().to_vec();
        changes.iter().for_each(|(at, byte)| bytes[at.index(good().len())] = *byte);
        if cut {
            bytes.truncate(end.index(good().len()));
        }
        bytes
    });
    prop_oneof![near, prop::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    #[test]
    fn a_request_is_signed_only_for_the_key_that_signed_it(bytes in spoilt(|| &GOOD.request)) {
        let id = "host-a".parse().unwrap();
        let _ = request_spki_sha256(&bytes);
        if let Ok(chain) = GOOD.authority.sign_host_request(&bytes, &id, Timestamp::UNIX_EPOCH, WEEK) {
            prop_assert_eq!(request_spki_sha256(&bytes).unwrap(), request_spki_sha256(&GOOD.request).unwrap());
            prop_assert!(chain.contains("BEGIN CERTIFICATE"));
        }
    }

    #[test]
    fn a_certificate_never_panics(bytes in spoilt(|| &GOOD.certificate)) {
        let _ = certificate_spki_sha256(&bytes);
        let _ = PeerIdentity::from_certificate(&CertificateDer::from(bytes), Timestamp::UNIX_EPOCH);
    }

    #[test]
    fn a_chain_never_panics(bytes in spoilt(|| GOOD.chain.as_bytes())) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = find_authority(&text, &GOOD.authority.spki_sha256());
        let _ = Credentials::from_pem(&text, &text);
        let _ = cladnet_pki::client_config(&text, None);
    }

    #[test]
    fn a_service_that_can_be_named_is_named_the_same_again(text in "https://[a-z0-9.\\[\\]:%@/-]{0,24}") {
        if let Ok(url) = text.parse::<ServiceUrl>() {
            prop_assert_eq!(url.to_string().parse::<ServiceUrl>(), Ok(url));
        }
    }
}
