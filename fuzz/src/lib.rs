//! Every parser of ours that meets bytes from outside, as a function that a fuzzer can call. It must not panic, and what
//! it says of itself must be true, whatever the bytes are. What a fuzzer has found of interest stands in `corpus/`, a
//! directory per target, and is played again by this crate's test.

mod tunnel;

use std::net::{Ipv4Addr, SocketAddr};

use cladnet_model::{
    ApiKeyText, JoinToken, PublicKey, SessionId, SessionSecret,
    advise::parse_avoid,
    deployment::{Fingerprint, HostKeyPin, parse_place},
    rule::{Expectation, PortRange, Selector, Side},
    space,
    tariff::{Document, Place, Price, Site},
};
use cladnet_pki::channel::ServiceUrl;

/// A target's name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("datagrams", tunnel::datagrams),
    ("inner-packets", tunnel::inner_packets),
    ("super-packets", tunnel::super_packets),
    ("probes", tunnel::probes),
    ("frames", tunnel::frames),
    ("steering", steering),
    ("control", control),
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

/// A packet that a peer sent, on its way to a queue of the interface: there is one for whatever it is.
fn steering(bytes: &[u8]) {
    assert!(cladnet_agent::tun::queue_of(bytes) < cladnet_agent::tun::QUEUES);
}

/// What is written to the control socket of a plain interface.
fn control(bytes: &[u8]) {
    if let Ok(request) = str::from_utf8(bytes) {
        let _ = cladnet_agent::wireguard::is_request(request);
    }
}

/// Texts that people paste, or send: some that are taken are written again as they were read.
fn texts(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = (text.parse::<JoinToken>(), text.parse::<ApiKeyText>(), text.parse::<ServiceUrl>());
    let _ = (text.parse::<SessionId>(), text.parse::<SessionSecret>(), text.parse::<HostKeyPin>());
    let _ = (text.parse::<Selector>(), text.parse::<Side>(), text.parse::<PortRange>(), text.parse::<Expectation>());
    let _ = (text.parse::<Site>(), text.parse::<Place>(), text.parse::<Price>(), Document::parse(text));
    let _ = (space::parse(text), parse_avoid(text), parse_place(text));
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
