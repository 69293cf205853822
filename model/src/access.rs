//! Who may do what: API keys, their text, their roles, and the closed list of actions that roles allow.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    KeyId,
    credential::{self, CredentialError, CredentialKind},
    id::RANDOM_BYTES,
    secret::{SECRET_BYTES, Secret},
    word::words,
};

/// What an API key may do; see [`Role::may`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything, keys included.
    Admin,
    /// Everything but keys.
    Operator,
    /// Reads.
    Viewer,
    /// What a provisioner needs to raise and remove machines: networks, tokens, peers, hosts and their cloud locations;
    /// reads.
    Provisioner,
}

/// What a call does; every call of every API is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lists, shows, watches, explains, recommends.
    Read,
    /// Creates, changes, deletes networks.
    ManageNetworks,
    /// Adds plain peers, labels peers, asks for addresses, removes peers.
    ManagePeers,
    /// Injects cloud locations, removes hosts.
    ManageHosts,
    /// Creates, revokes join tokens.
    ManageTokens,
    /// Creates, lists, revokes API keys.
    ManageKeys,
    /// Makes agents send test traffic.
    RunTests,
    /// Takes peers up and down.
    Control,
    /// Puts agents onto machines over SSH, confirms and forgets their host keys.
    Deploy,
}

words!(Role {
    Admin = "admin",
    Operator = "operator",
    Viewer = "viewer",
    Provisioner = "provisioner",
});

words!(Action {
    Read = "read",
    ManageNetworks = "manage-networks",
    ManagePeers = "manage-peers",
    ManageHosts = "manage-hosts",
    ManageTokens = "manage-tokens",
    ManageKeys = "manage-keys",
    RunTests = "run-tests",
    Control = "control",
    Deploy = "deploy",
});

impl Role {
    /// Whether a key of this role may do that.
    pub const fn may(self, action: Action) -> bool {
        use Action::{Deploy, ManageHosts, ManageKeys, ManageNetworks, ManagePeers, ManageTokens, Read};
        match self {
            Self::Admin => true,
            Self::Operator => !matches!(action, ManageKeys),
            Self::Viewer => matches!(action, Read),
            Self::Provisioner => {
                matches!(action, Read | ManageNetworks | ManagePeers | ManageHosts | ManageTokens | Deploy)
            }
        }
    }
}

/// An API key as a person carries it: `cladnet_key_<id>_<secret>_<checksum>`. Its `Debug` hides the secret, its
/// `Display` is the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyText {
    id: KeyId,
    random: [u8; RANDOM_BYTES],
    secret: Secret,
}

impl ApiKeyText {
    /// A fresh key from random bytes.
    pub fn new(random: [u8; RANDOM_BYTES], secret: Secret) -> Self {
        Self { id: KeyId::generate(random), random, secret }
    }

    /// Under which its record is kept.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What the record keeps of the secret; see [`ApiKey::secret_hash`].
    pub fn secret_hash(&self) -> String {
        self.secret.hash()
    }
}

impl fmt::Display for ApiKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&credential::encode(CredentialKind::Key, &[&self.random, self.secret.expose()]))
    }
}

impl FromStr for ApiKeyText {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let [random, secret] = credential::decode(CredentialKind::Key, text, [RANDOM_BYTES, SECRET_BYTES])?;
        Ok(Self::new(credential::array(&random)?, Secret::new(credential::array(&secret)?)))
    }
}

/// An API key's record; the key itself is never stored. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    pub id: KeyId,
    pub name: String,
    pub role: Role,
    /// SHA-256 of the secret, hex.
    pub secret_hash: String,
    pub created_at: Timestamp,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether `shown` is this key and has not expired.
    pub fn admits(&self, shown: &ApiKeyText, now: Timestamp) -> bool {
        self.id == shown.id && self.secret_hash == shown.secret_hash() && self.is_valid(now)
    }

    /// Whether it has not expired.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApiKeyText {
        ApiKeyText::new([1; RANDOM_BYTES], Secret::new([2; SECRET_BYTES]))
    }

    #[test]
    fn a_key_survives_its_text_and_a_slip_is_told() {
        let text = key().to_string();
        assert_eq!(text.parse(), Ok(key()));
        assert_eq!(
            text[..text.len() - 1].parse::<ApiKeyText>().map_err(|e| e.to_string()).unwrap_err(),
            "is cut short: an API key has 90 characters, this has 89; copy it again"
        );
        assert_eq!(text.replacen("_aeaq", "_aeab", 1).parse::<ApiKeyText>(), Err(CredentialError::Mistyped));
        assert!(!format!("{:?}", key()).contains("2, 2"));
    }

    #[test]
    fn a_key_admits_until_it_expires() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut record = ApiKey {
            id: key().id().clone(),
            name: "laptop".to_owned(),
            role: Role::Admin,
            secret_hash: key().secret_hash(),
            created_at: at(0),
            expires_at: None,
        };
        assert!(record.admits(&key(), at(1_000_000)));
        record.expires_at = Some(at(10));
        assert!(record.admits(&key(), at(9)) && !record.admits(&key(), at(10)));
        let other = ApiKeyText::new([1; RANDOM_BYTES], Secret::new([3; SECRET_BYTES]));
        assert!(!record.admits(&other, at(9)));
    }

    #[test]
    fn each_role_may_what_its_description_says() {
        let actions: Vec<Action> = Action::WORDS.iter().map(|word| word.parse().unwrap()).collect();
        let allowed = |role: Role| actions.iter().filter(|action| role.may(**action)).count();
        assert_eq!(allowed(Role::Admin), actions.len());
        assert_eq!(allowed(Role::Operator), actions.len() - 1);
        assert!(!Role::Operator.may(Action::ManageKeys));
        assert_eq!(allowed(Role::Viewer), 1);
        assert!(Role::Viewer.may(Action::Read));
        assert_eq!(allowed(Role::Provisioner), 6);
        assert!(!Role::Provisioner.may(Action::Control) && !Role::Provisioner.may(Action::ManageKeys));
    }
}
