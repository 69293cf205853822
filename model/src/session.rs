//! Sessions of the admin web: what the browser holds instead of an API key, what the store keeps of it, and when it ends.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{KeyId, SECRET_BYTES, Secret};

/// Without a request for so long a session ends: long enough to read a page, short enough for a desk that was left.
pub const IDLE_LIMIT: SignedDuration = SignedDuration::from_mins(30);

/// Whatever its owner does, a session ends then: a working day.
pub const ABSOLUTE_LIMIT: SignedDuration = SignedDuration::from_hours(12);

/// A request is only noted if the last one that was noted is this old, so that a busy page does not fill the store.
pub const NOTE_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// What the browser's cookie holds. Its `Debug` hides the secret, its `Display` is the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSecret(Secret);

/// The text is no [`SessionSecret`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no session: it has {length} hexadecimal digits", length = SECRET_BYTES * 2)]
pub struct SessionSecretError;

impl SessionSecret {
    /// A fresh one.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// Under which the session is kept.
    pub fn id(&self) -> SessionId {
        SessionId(self.0.hash())
    }
}

impl fmt::Display for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(self.0.expose()))
    }
}

impl FromStr for SessionSecret {
    type Err = SessionSecretError;

    fn from_str(text: &str) -> Result<Self, SessionSecretError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| SessionSecretError)?;
        let bytes: [u8; SECRET_BYTES] = bytes.try_into().map_err(|_| SessionSecretError)?;
        Ok(Self::new(Secret::new(bytes)))
    }
}

/// SHA-256 of a session's secret, hex: names the session and opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(String);

/// The text is no [`SessionId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no id of a session: it has {length} lower-case hexadecimal digits", length = SessionId::LENGTH)]
pub struct SessionIdError;

impl SessionId {
    const LENGTH: usize = 64;
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let hex = text.len() == Self::LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(text.to_owned())).ok_or(SessionIdError)
    }
}

/// A session's record. What its owner may do stands with the API key and is read there each time. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The key that it was opened with, and with which it ends.
    pub key: KeyId,
    pub created_at: Timestamp,
    /// Of the last request that was noted; see [`NOTE_EVERY`].
    pub last_seen_at: Timestamp,
}

impl Session {
    /// One that begins now.
    pub fn begun(key: KeyId, now: Timestamp) -> Self {
        Self { key, created_at: now, last_seen_at: now }
    }

    /// When it ends if no more requests come.
    pub fn ends_at(&self) -> Timestamp {
        let after = |at: Timestamp, limit| at.saturating_add(limit).unwrap_or(Timestamp::MAX);
        after(self.last_seen_at, IDLE_LIMIT).min(after(self.created_at, ABSOLUTE_LIMIT))
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.ends_at()
    }

    /// What to write on a request; nothing if one was noted shortly before.
    pub fn seen(&self, now: Timestamp) -> Option<Self> {
        (now.duration_since(self.last_seen_at) >= NOTE_EVERY).then(|| Self { last_seen_at: now, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(minutes * 60).unwrap()
    }

    fn session() -> Session {
        Session::begun(KeyId::generate([1; 10]), at(0))
    }

    #[test]
    fn a_secret_survives_its_text_and_shows_itself_nowhere_else() {
        let secret = SessionSecret::new(Secret::new([0xa7; SECRET_BYTES]));
        assert_eq!(secret.to_string().parse(), Ok(secret.clone()));
        assert!(!format!("{secret:?}").contains("a7"));
        let id = secret.id().to_string();
        assert_eq!(id.parse(), Ok(secret.id()));
        assert!(!id.contains("a7a7"), "the id is a hash");
        for text in ["", "a7", &"a7".repeat(33), &"zz".repeat(32), &"A7".repeat(32)] {
            assert_eq!(text.parse::<SessionSecret>(), Err(SessionSecretError), "{text}");
        }
    }

    #[test]
    fn an_idle_session_ends_after_half_an_hour() {
        assert!(!session().is_over(at(29)) && session().is_over(at(30)));
        assert_eq!(session().ends_at(), at(30));
    }

    #[test]
    fn a_busy_session_ends_after_half_a_day() {
        let mut busy = session();
        for minute in (0..12 * 60).step_by(20) {
            assert!(!busy.is_over(at(minute)), "in minute {minute}");
            busy = busy.seen(at(minute)).unwrap_or(busy);
        }
        assert_eq!(busy.ends_at(), at(12 * 60));
        assert!(busy.is_over(at(12 * 60)));
    }

    #[test]
    fn a_request_is_noted_once_a_minute() {
        assert_eq!(session().seen(Timestamp::from_second(59).unwrap()), None);
        let seen = session().seen(at(1)).unwrap();
        assert_eq!((seen.created_at, seen.last_seen_at), (at(0), at(1)));
        assert_eq!(seen.seen(at(0)), None, "a replica whose clock is behind takes nothing back");
    }
}
