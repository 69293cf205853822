//! The terms a join token or an API key is given out on, with their limits.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    Labels, Role,
    validate::{Checks, InvalidInput, check_name},
};

/// One machine, unless more are asked for.
pub const DEFAULT_USES: u32 = 1;
/// A subgroup of machines, not a secret for everybody.
pub const MAX_USES: u32 = 10_000;
/// As long as raising a machine takes, with patience.
pub const DEFAULT_TOKEN_TTL: Duration = Duration::from_secs(60 * 60);
/// A token that is forgotten somewhere ends in a month.
pub const MAX_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Ten years: whoever wants longer says never.
pub const MAX_KEY_TTL: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Whom a token admits: checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTerms {
    pub uses: u32,
    pub expires_at: Timestamp,
    pub labels: Labels,
}

impl TokenTerms {
    /// Checks what was asked for; absent, or zero uses, is the default.
    pub fn check(uses: u32, ttl: Option<Duration>, labels: Labels, now: Timestamp) -> Result<Self, InvalidInput> {
        let mut checks = Checks::default();
        let uses = match uses {
            0 => Some(DEFAULT_USES),
            _ => checks.field("uses", check_uses(uses)),
        };
        let expires_at = checks.field("ttl", expiry(now, ttl.unwrap_or(DEFAULT_TOKEN_TTL), MAX_TOKEN_TTL));
        checks.labels("labels", &labels);
        checks.conclude(uses.zip(expires_at).map(|(uses, expires_at)| Self { uses, expires_at, labels }))
    }
}

/// What an API key is for: checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTerms {
    pub name: String,
    pub role: Role,
    /// Absent: never.
    pub expires_at: Option<Timestamp>,
}

impl KeyTerms {
    /// Checks what was asked for.
    pub fn check(name: &str, role: &str, ttl: Option<Duration>, now: Timestamp) -> Result<Self, InvalidInput> {
        let mut checks = Checks::default();
        checks.field("name", check_name(name));
        let role = checks.field("role", role.parse());
        let expires_at = checks.optional("ttl", ttl.map(|ttl| expiry(now, ttl, MAX_KEY_TTL)));
        checks.conclude(role.map(|role| Self { name: name.to_owned(), role, expires_at }))
    }
}

/// Why terms are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum TermError {
    #[error("is {0}; use 1 to {MAX_USES}")]
    Uses(u32),
    #[error("is {} s; use 1 s to {} s, which is {} days", .found.as_secs(), .most.as_secs(), .most.as_secs() / 86_400)]
    Ttl { found: Duration, most: Duration },
}

fn check_uses(uses: u32) -> Result<u32, TermError> {
    if uses <= MAX_USES { Ok(uses) } else { Err(TermError::Uses(uses)) }
}

fn expiry(now: Timestamp, ttl: Duration, most: Duration) -> Result<Timestamp, TermError> {
    let error = TermError::Ttl { found: ttl, most };
    if ttl < Duration::from_secs(1) || ttl > most {
        return Err(error);
    }
    now.checked_add(ttl).map_err(|_| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn token(uses: u32, seconds: Option<u64>) -> Result<TokenTerms, InvalidInput> {
        TokenTerms::check(uses, seconds.map(Duration::from_secs), Labels::new(), NOW)
    }

    #[test]
    fn a_token_admits_one_machine_for_an_hour_unless_asked_otherwise() {
        let terms = token(0, None).unwrap();
        assert_eq!((terms.uses, terms.expires_at.as_second()), (1, 3600));
        assert_eq!(token(10_000, Some(2_592_000)).unwrap().expires_at.as_second(), 2_592_000);
    }

    #[test]
    fn terms_beyond_the_limits_are_told_with_them() {
        let error = token(10_001, Some(2_592_001)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "uses is 10001; use 1 to 10000; ttl is 2592001 s; use 1 s to 2592000 s, which is 30 days"
        );
        assert_eq!(token(1, Some(0)).unwrap_err().field(), "ttl");
        assert_eq!(token(1, Some(u64::MAX)).unwrap_err().field(), "ttl");
        let labels = Labels::from([("a b".to_owned(), String::new())]);
        assert_eq!(TokenTerms::check(1, None, labels, NOW).unwrap_err().field(), "labels.a b");
    }

    #[test]
    fn a_key_needs_a_name_and_a_role() {
        let key = KeyTerms::check("laptop", "operator", None, NOW).unwrap();
        assert_eq!((key.role, key.expires_at), (Role::Operator, None));
        let error = KeyTerms::check("", "root", Some(Duration::ZERO), NOW).unwrap_err();
        let fields: Vec<_> = error.0.iter().map(|invalid| invalid.field.as_str()).collect();
        assert_eq!(fields, ["name", "role", "ttl"]);
        assert_eq!(error.0[1].problem, "is \"root\"; use admin, operator, viewer or provisioner");
    }
}
