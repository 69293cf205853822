//! Ids: newtypes over a checked string, so that no id of one kind passes for another and none can hold a `/`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::credential::base32;

/// Longest id, as a DNS label.
pub const MAX_LENGTH: usize = 63;

/// Why a string is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("is empty; use 1 to {MAX_LENGTH} characters of [a-z0-9-]")]
    Empty,
    /// More than [`MAX_LENGTH`] characters.
    #[error("has {0} characters; at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    /// A character outside `[a-z0-9-]`.
    #[error("contains {0:?}; only [a-z0-9-] is allowed")]
    Character(char),
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(IdError::Character(bad));
    }
    match text.len() {
        0..=MAX_LENGTH => Ok(()),
        length => Err(IdError::TooLong(length)),
    }
}

/// Random bytes behind a generated id: 80 bits, so that two never meet.
pub const RANDOM_BYTES: usize = 10;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A fresh id from random bytes.
            pub fn generate(random: [u8; RANDOM_BYTES]) -> Self {
                Self(format!(concat!($prefix, "-{}"), base32(&random)))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

ids! {
    /// A network (CLADNet).
    NetworkId = "net";
    /// A machine that runs the agent, or stands in for one.
    HostId = "host";
    /// A join token.
    TokenId = "token";
    /// An API key.
    KeyId = "key";
    /// A command to an agent.
    CommandId = "command";
    /// A deployment of agents; sorts by time, see [`DeploymentId::at`].
    DeploymentId = "deployment";
    /// What a deployment calls one of its machines, which has no host's identity before it has joined.
    MachineName = "machine";
    /// A connectivity run; sorts by time, see [`RunId::at`].
    RunId = "run";
    /// A rule of a network.
    RuleId = "rule";
    /// Something that happened; sorts by time, see [`EventId::at`].
    EventId = "event";
}

impl EventId {
    /// An id that sorts by `at`, with random bytes to tell events of one microsecond apart.
    pub fn at(at: jiff::Timestamp, random: [u8; RANDOM_BYTES]) -> Self {
        Self(format!("event-{:016x}-{}", at.as_microsecond(), base32(&random)))
    }
}

impl RunId {
    /// An id that sorts by `at`.
    pub fn at(at: jiff::Timestamp, random: [u8; RANDOM_BYTES]) -> Self {
        Self(format!("run-{:016x}-{}", at.as_microsecond(), base32(&random)))
    }
}

impl DeploymentId {
    /// An id that sorts by `at`.
    pub fn at(at: jiff::Timestamp, random: [u8; RANDOM_BYTES]) -> Self {
        Self(format!("deployment-{:016x}-{}", at.as_microsecond(), base32(&random)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_1_to_63_characters_of_lower_case_letters_digits_and_hyphens() {
        assert_eq!("".parse::<NetworkId>(), Err(IdError::Empty));
        assert_eq!("a/b".parse::<NetworkId>(), Err(IdError::Character('/')));
        assert_eq!("a b".parse::<NetworkId>(), Err(IdError::Character(' ')));
        assert_eq!("Prod".parse::<NetworkId>(), Err(IdError::Character('P')));
        assert_eq!("a".repeat(64).parse::<NetworkId>(), Err(IdError::TooLong(64)));
        assert!("a".repeat(63).parse::<NetworkId>().is_ok());
        assert!("prod-1".parse::<NetworkId>().is_ok());
    }

    #[test]
    fn generated_ids_differ_with_their_bytes_and_are_valid() {
        let (zeroes, ones) = (HostId::generate([0; 10]), HostId::generate([255; 10]));
        assert_eq!(zeroes.as_str(), "host-aaaaaaaaaaaaaaaa");
        assert_eq!(ones.as_str(), "host-7777777777777777");
        assert!(zeroes.as_str().parse::<HostId>().is_ok());
    }
}
