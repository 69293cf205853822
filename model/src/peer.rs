//! A peer: the controller's answer to a membership, and the address that belongs to it.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{HostId, NetworkId, TokenId};

/// A WireGuard public key; base64 in text and JSON. Nothing that is read, from bytes or from text, makes one of zeroes only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

/// Why something is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    #[error("is not a WireGuard public key: 32 bytes in base64, 44 characters")]
    Malformed,
    /// What an empty field turns into somewhere on the way; whoever agrees on a secret with it agrees with everybody.
    #[error("is all zeroes; give the membership's WireGuard public key")]
    Zero,
}

impl TryFrom<[u8; 32]> for PublicKey {
    type Error = PublicKeyError;

    fn try_from(bytes: [u8; 32]) -> Result<Self, PublicKeyError> {
        if bytes == [0; 32] { Err(PublicKeyError::Zero) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| PublicKeyError::Malformed)?;
        <[u8; 32]>::try_from(bytes).map_err(|_| PublicKeyError::Malformed)?.try_into()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = PublicKeyError;

    fn try_from(text: String) -> Result<Self, PublicKeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        key.to_string()
    }
}

/// A peer's record. Writer: the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub network: NetworkId,
    pub host: HostId,
    /// Absent when none could be given; `problem` says why.
    pub address: Option<Ipv4Addr>,
    #[serde(default)]
    pub problem: String,
}

/// Why an address is not free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Hold {
    /// A peer has it.
    Held,
    /// Its peer is gone since then; nobody gets it before the quarantine is over, but the same host may have it back.
    Quarantined { since: Timestamp },
}

/// An address that is taken. Writer: the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    pub network: NetworkId,
    pub address: Ipv4Addr,
    pub host: HostId,
    pub hold: Hold,
}

/// Whose membership a WireGuard key belongs to; created with it, so that no key serves twice. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKeyOwner {
    pub network: NetworkId,
    pub host: HostId,
    /// The token that its host showed last, mostly the one it joined with: by it a repeated request is known, and which host
    /// a machine is that was given the token. None for a plain peer.
    #[serde(default)]
    pub token: Option<TokenId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text_and_one_of_zeroes_is_no_key() {
        assert_eq!(PublicKey([7; 32]).to_string().parse(), Ok(PublicKey([7; 32])));
        let zeroes = BASE64.encode(&[0; 32]);
        assert_eq!(zeroes.parse::<PublicKey>(), Err(PublicKeyError::Zero));
        assert!(serde_json::from_str::<PublicKey>(&format!("\"{zeroes}\"")).is_err());
        for text in ["", "abc", &BASE64.encode(&[7; 31]), &BASE64.encode(&[7; 33])] {
            assert_eq!(text.parse::<PublicKey>(), Err(PublicKeyError::Malformed), "{text}");
        }
    }
}
