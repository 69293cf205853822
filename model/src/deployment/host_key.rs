//! SSH host keys: what a person gives to pin one, and the record of one that is pinned.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, BASE64_NOPAD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::HostId;

/// SHA-256 of a public host key, as OpenSSH prints it: `SHA256:` and 43 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// Why a text is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no SHA-256 fingerprint; use SHA256: and 43 characters, as ssh-keygen -l prints it")]
pub struct FingerprintError;

impl Fingerprint {
    /// Of a public key in SSH's wire form (RFC 4253 §6.6).
    pub fn of(key: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(hash)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let hash = text.strip_prefix("SHA256:").ok_or(FingerprintError)?;
        let hash = BASE64_NOPAD.decode(hash.trim_end_matches('=').as_bytes()).map_err(|_| FingerprintError)?;
        hash.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = FingerprintError;

    fn try_from(text: String) -> Result<Self, FingerprintError> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", BASE64_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The only host key that is accepted: a fingerprint, given as such or as a whole public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostKeyPin(Fingerprint);

/// Why a text pins no host key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no host key; use a line such as \"ssh-ed25519 AAAA…\" from the machine's /etc/ssh/ssh_host_*_key.pub, or its SHA256:… fingerprint"
)]
pub struct HostKeyError;

impl HostKeyPin {
    /// What the machine's key must hash to.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0
    }
}

impl FromStr for HostKeyPin {
    type Err = HostKeyError;

    fn from_str(text: &str) -> Result<Self, HostKeyError> {
        if let Ok(fingerprint) = text.parse() {
            return Ok(Self(fingerprint));
        }
        // `[host] algorithm base64 [comment]`: what stands in known_hosts and in *.pub files.
        let mut words = text.split_whitespace().skip_while(|word| !is_algorithm(word));
        let (Some(algorithm), Some(key)) = (words.next(), words.next()) else { return Err(HostKeyError) };
        let key = BASE64.decode(key.as_bytes()).map_err(|_| HostKeyError)?;
        // The key says its algorithm itself, after four bytes of length.
        let is_said = key.get(4..).is_some_and(|rest| rest.starts_with(algorithm.as_bytes()));
        if is_said { Ok(Self(Fingerprint::of(&key))) } else { Err(HostKeyError) }
    }
}

fn is_algorithm(word: &str) -> bool {
    word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-") || word.starts_with("sk-")
}

/// A machine's key, kept once somebody vouched for it; another one is refused from then on. Writer: the provisioner; the
/// service deletes it when an admin forgets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedHostKey {
    pub fingerprint: Fingerprint,
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
    pub pinned_at: Timestamp,
    /// Who vouched for it: the API key that made the deployment or confirmed the key.
    pub pinned_by: String,
    /// The host that the machine is: the one that showed a token which only this machine was given. What a machine says of
    /// itself is never kept here.
    #[serde(default)]
    pub host: Option<HostId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    /// GitHub's, as it publishes both.
    const FINGERPRINT: &str = "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU";

    #[test]
    fn a_key_and_its_fingerprint_pin_the_same() {
        for text in [LINE, FINGERPRINT, &format!("github.com {LINE} comment"), &format!("{FINGERPRINT}=")] {
            assert_eq!(text.parse::<HostKeyPin>().unwrap().fingerprint().to_string(), FINGERPRINT, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "ssh-ed25519",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
            "MD5:00",
            "SHA256:abc",
            "ssh-ed25519 ***",
        ] {
            assert_eq!(text.parse::<HostKeyPin>(), Err(HostKeyError), "{text}");
        }
        assert!(format!("{FINGERPRINT}A").parse::<Fingerprint>().is_err());
    }
}
