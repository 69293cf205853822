//! Join tokens: what a machine shows once to become a host, and the record that counts its uses.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Labels, NetworkId, TokenId,
    credential::{self, CredentialError, CredentialKind},
    id::RANDOM_BYTES,
    secret::{SECRET_BYTES, Secret},
    word::words,
};

/// Length of the hash that pins the certificate authority.
pub const CA_HASH_BYTES: usize = 32;

/// A join token as a person carries it: `cladnet1_<id>_<secret>_<ca>_<checksum>`. Its `Debug` hides the secret, its
/// `Display` is the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    id: TokenId,
    random: [u8; RANDOM_BYTES],
    secret: Secret,
    ca: [u8; CA_HASH_BYTES],
}

impl JoinToken {
    /// A fresh token from random bytes, pinned to the authority whose SubjectPublicKeyInfo (DER) hashes to `ca` by
    /// SHA-256.
    pub fn new(random: [u8; RANDOM_BYTES], secret: Secret, ca: [u8; CA_HASH_BYTES]) -> Self {
        Self { id: TokenId::generate(random), random, secret, ca }
    }

    /// A fresh token of an id that was chosen before; none if no token could have it.
    pub fn named(id: &TokenId, secret: Secret, ca: [u8; CA_HASH_BYTES]) -> Option<Self> {
        let random = credential::from_base32(id.as_str().strip_prefix("token-")?)?;
        Some(Self::new(random, secret, ca)).filter(|token| token.id == *id)
    }

    /// Under which its record is kept.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// SHA-256 of the authority's SubjectPublicKeyInfo: the only authority to trust at first contact.
    pub fn ca(&self) -> &[u8; CA_HASH_BYTES] {
        &self.ca
    }

    /// What the record keeps of the secret; see [`Token::secret_hash`].
    pub fn secret_hash(&self) -> String {
        self.secret.hash()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&credential::encode(CredentialKind::Token, &[&self.random, self.secret.expose(), &self.ca]))
    }
}

impl FromStr for JoinToken {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let lengths = [RANDOM_BYTES, SECRET_BYTES, CA_HASH_BYTES];
        let [random, secret, ca] = credential::decode(CredentialKind::Token, text, lengths)?;
        let secret = Secret::new(credential::array(&secret)?);
        Ok(Self::new(credential::array(&random)?, secret, credential::array(&ca)?))
    }
}

/// A token's record; the secret itself is never stored. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    pub network: NetworkId,
    /// SHA-256 of the secret, hex.
    pub secret_hash: String,
    pub uses_left: u32,
    pub expires_at: Timestamp,
    #[serde(default)]
    pub labels: Labels,
    pub revoked: bool,
    pub created_at: Timestamp,
    /// Id of the API key that made it.
    pub created_by: String,
}

/// Whether a token still admits anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    Usable,
    Used,
    Expired,
    Revoked,
}

words!(TokenState {
    Usable = "usable",
    Used = "used",
    Expired = "expired",
    Revoked = "revoked",
});

impl Token {
    /// The state at a moment; revocation is told before expiry, expiry before use.
    pub fn state(&self, now: Timestamp) -> TokenState {
        match () {
            () if self.revoked => TokenState::Revoked,
            () if self.expires_at <= now => TokenState::Expired,
            () if self.uses_left == 0 => TokenState::Used,
            () => TokenState::Usable,
        }
    }

    /// Whether this record is that of `shown`; says nothing of [`Token::state`].
    pub fn is_of(&self, shown: &JoinToken) -> bool {
        self.id == shown.id && self.secret_hash == shown.secret_hash()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken::new([7; RANDOM_BYTES], Secret::new([8; SECRET_BYTES]), [9; CA_HASH_BYTES])
    }

    #[test]
    fn a_token_survives_its_text_and_the_newline_of_its_file() {
        let text = token().to_string();
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\r\n").parse(), Ok(token()));
        assert!(text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{text}");
        assert_eq!(token().id().as_str(), "token-a4dqobyha4dqobyh");
    }

    #[test]
    fn a_token_is_made_under_an_id_that_a_token_can_have() {
        let named = |id: &str| {
            JoinToken::named(&id.parse().expect("an id"), Secret::new([8; SECRET_BYTES]), [9; CA_HASH_BYTES])
        };
        assert_eq!(named("token-a4dqobyha4dqobyh"), Some(token()));
        for wrong in [
            "token-short",
            "token-a4dqobyha4dqobyha",
            "token-a4dqobyha4dqoby1",
            "a4dqobyha4dqobyh",
            "host-a4dqobyha4dqobyh",
        ] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_truncation_and_every_single_slip_is_told() {
        let text = token().to_string();
        let start = credential::TOKEN_PREFIX.len() + 1;
        for length in start..text.len() {
            let error = text[..length].parse::<JoinToken>().unwrap_err();
            assert!(matches!(error, CredentialError::CutShort { .. }), "{length}: {error}");
        }
        for place in start..text.len() {
            let mut slipped = text.clone().into_bytes();
            slipped[place] = if slipped[place] == b'x' { b'y' } else { b'x' };
            let error = String::from_utf8(slipped).unwrap().parse::<JoinToken>().unwrap_err();
            assert_eq!(error, CredentialError::Mistyped, "at {place}");
        }
        let error = format!("{text}a").parse::<JoinToken>().unwrap_err();
        assert!(matches!(error, CredentialError::TooLong { .. }), "{error}");
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        let parse = |text: &str| text.parse::<JoinToken>().unwrap_err().to_string();
        assert_eq!(parse(" \n"), "is empty; a join token begins with \"cladnet1_\"");
        assert_eq!(parse("hello"), "is not a join token, which begins with \"cladnet1_\"");
        assert_eq!(parse("cladnet2_aaaa"), "is not a join token, which begins with \"cladnet1_\"");
        assert_eq!(parse("cladnet_key_aaaa"), "is an API key, but a join token is wanted here");
        assert_eq!(parse("cladnet1_äöü"), "is cut short: a join token has 140 characters, this has 12; copy it again");
    }

    #[test]
    fn the_secret_is_neither_printed_nor_kept() {
        let debug = format!("{:?}", token());
        assert!(debug.contains("Secret(..)") && !debug.contains("8, 8"), "{debug}");
        assert_eq!(token().secret_hash().len(), 64);
    }

    fn record() -> Token {
        Token {
            id: token().id().clone(),
            network: "prod".parse().unwrap(),
            secret_hash: token().secret_hash(),
            uses_left: 1,
            expires_at: Timestamp::from_second(100).unwrap(),
            labels: Labels::new(),
            revoked: false,
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "key-1".to_owned(),
        }
    }

    #[test]
    fn a_record_is_of_the_token_with_its_id_and_its_secret() {
        assert!(record().is_of(&token()));
        let other_secret = JoinToken::new([7; RANDOM_BYTES], Secret::new([1; SECRET_BYTES]), [9; CA_HASH_BYTES]);
        let other_id = JoinToken::new([1; RANDOM_BYTES], Secret::new([8; SECRET_BYTES]), [9; CA_HASH_BYTES]);
        assert!(!record().is_of(&other_secret) && !record().is_of(&other_id));
    }

    #[test]
    fn a_token_ends_by_use_by_time_and_by_revocation() {
        let before = Timestamp::from_second(99).unwrap();
        let used = Token { uses_left: 0, ..record() };
        assert_eq!(record().state(before), TokenState::Usable);
        assert_eq!(used.state(before), TokenState::Used);
        assert_eq!(used.state(record().expires_at), TokenState::Expired);
        assert_eq!(Token { revoked: true, ..used }.state(record().expires_at), TokenState::Revoked);
    }
}
