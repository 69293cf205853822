//! The words of closed sets (`cost-prioritized`, `private`, …) as they stand in requests, answers and the store.

use std::fmt;

/// The text is none of the words that are allowed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {given:?}; use {}", Choice(.allowed))]
pub struct UnknownWord {
    /// Shortened: more of it helps nobody.
    pub given: String,
    pub allowed: &'static [&'static str],
}

impl UnknownWord {
    const SHOWN: usize = 60;

    pub(crate) fn new(given: &str, allowed: &'static [&'static str]) -> Self {
        Self { given: given.chars().take(Self::SHOWN).collect(), allowed }
    }
}

struct Choice<'a>(&'a [&'a str]);

impl fmt::Display for Choice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => f.write_str(only),
            [first @ .., last] => write!(f, "{} or {last}", first.join(", ")),
        }
    }
}

/// Gives an enum of unit variants its words: `as_str`, `Display`, `FromStr`. They must be those of its serde form.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal,)+ }) => {
        impl $name {
            /// Every word, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::word::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::word::UnknownWord::new(text, Self::WORDS)),
                }
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};

    use crate::{
        DesiredState, EncryptionPolicy, EndpointSource, LocationSource, PeerState, Role, RuleType, Scope,
        deployment::{DeploymentAction, DeploymentState, FailureReason},
        rule, tariff,
    };

    fn agree<T>(words: &[&str])
    where
        T: Serialize + DeserializeOwned + std::str::FromStr + ToString + PartialEq + std::fmt::Debug,
        T::Err: std::fmt::Debug,
    {
        for word in words {
            let value: T = word.parse().unwrap();
            assert_eq!(value.to_string(), *word);
            assert_eq!(serde_json::to_value(&value).unwrap(), *word);
            assert_eq!(serde_json::from_value::<T>((*word).into()).unwrap(), value);
        }
    }

    #[test]
    fn the_words_are_those_of_the_stored_form() {
        agree::<DeploymentAction>(DeploymentAction::WORDS);
        agree::<DeploymentState>(DeploymentState::WORDS);
        agree::<DesiredState>(DesiredState::WORDS);
        agree::<EncryptionPolicy>(EncryptionPolicy::WORDS);
        agree::<EndpointSource>(EndpointSource::WORDS);
        agree::<FailureReason>(FailureReason::WORDS);
        agree::<LocationSource>(LocationSource::WORDS);
        agree::<PeerState>(PeerState::WORDS);
        agree::<Role>(Role::WORDS);
        agree::<RuleType>(RuleType::WORDS);
        agree::<Scope>(Scope::WORDS);
        agree::<tariff::Class>(tariff::Class::WORDS);
        agree::<tariff::Confidence>(tariff::Confidence::WORDS);
        agree::<tariff::Origin>(tariff::Origin::WORDS);
        agree::<tariff::Per>(tariff::Per::WORDS);
        agree::<tariff::Side>(tariff::Side::WORDS);
        agree::<tariff::Unit>(tariff::Unit::WORDS);
        agree::<rule::Action>(rule::Action::WORDS);
        agree::<rule::KindWord>(rule::KindWord::WORDS);
        agree::<rule::Protocol>(rule::Protocol::WORDS);
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        assert_eq!(
            "PUBLIC".parse::<Scope>().unwrap_err().to_string(),
            r#"is "PUBLIC"; use private, public or public-v6"#
        );
        assert!("x".repeat(5000).parse::<Scope>().unwrap_err().to_string().len() < 150);
    }
}
