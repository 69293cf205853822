//! Every parser of ours that meets bytes from outside, as a function that a fuzzer can call. It must not panic, and what
//! it says of itself must be true, whatever the bytes are. What a fuzzer has found of interest stands in `corpus/`, a
//! directory per target, and is played again by this crate's test.

mod tunnel;

use std::net::{Ipv4Addr, SocketAddr};

use cladnet_model::{ApiKeyText, JoinToken, PublicKey, deployment::Fingerprint};
use cladnet_pki::channel::ServiceUrl;

/// A target's name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("datagrams", tunnel::datagrams),
    ("inner-packets", tunnel::inner_packets),
    ("super-packets", tunnel::super_packets),
    ("stun", stun),
    ("texts", texts),
];

/// The target of this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

/// What anybody can send to the port of a service, and a server to ours.
fn stun(bytes: &[u8]) {
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let answer = cladnet_stun::answer(bytes, from);
    if let Some(answer) = answer {
        assert!(cladnet_stun::is_stun(bytes) && cladnet_stun::is_stun(&answer));
        let told = cladnet_stun::parse_response(&answer).map(|(_, address)| address);
        assert_eq!(told, Some(from), "what we answer we can read");
    }
    let _ = cladnet_stun::parse_response(bytes);
}

/// Texts that people paste: each that is taken is written again as it was read.
fn texts(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = (text.parse::<JoinToken>(), text.parse::<ApiKeyText>(), text.parse::<ServiceUrl>());
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn what_fuzzers_found_is_survived() {
        for (name, target) in TARGETS {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let mut played = 0;
            for entry in fs::read_dir(&directory).expect("every target has a corpus") {
                let path = entry.expect("it can be listed").path();
                let bytes = fs::read(&path).expect("it can be read");
                assert!(std::panic::catch_unwind(|| target(&bytes)).is_ok(), "{name} panics on {}", path.display());
                played += 1;
            }
            assert!(played > 0, "{} is empty", directory.display());
        }
    }
}
