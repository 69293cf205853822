//! One side of a rule: who sends, or who receives.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use super::{Party, Selector, SyntaxError};

/// Whom a side of a rule means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Side {
    /// Everybody; written `any`, or left out.
    #[default]
    Any,
    /// The peers that bear these labels. What is behind a peer is named by its CIDR.
    Peers(Selector),
    /// Whoever has such an address; never empty.
    Prefixes(Vec<IpNet>),
}

/// Why a text is no side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SideError {
    #[error("names {0:?}, which is no CIDR; write 10.1.0.0/16, or one address")]
    NoPrefix(String),
    #[error("names {given}, an address inside a prefix; write {right}")]
    HostBits { given: IpNet, right: IpNet },
    #[error(transparent)]
    Selector(#[from] SyntaxError),
}

impl Side {
    const ANY: &'static str = "any";

    pub fn matches(&self, party: &Party<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Peers(selector) => party.labels.is_some_and(|labels| selector.matches(labels)),
            Self::Prefixes(prefixes) => prefixes.iter().any(|prefix| prefix.contains(&party.address)),
        }
    }

    /// Whether this means everybody that `other` does. False is no proof of the contrary.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Peers(ours), Self::Peers(theirs)) => ours.covers(theirs),
            (Self::Prefixes(ours), Self::Prefixes(theirs)) => {
                theirs.iter().all(|theirs| ours.iter().any(|ours| ours.contains(theirs)))
            }
            _ => false,
        }
    }
}

impl FromStr for Side {
    type Err = SideError;

    fn from_str(text: &str) -> Result<Self, SideError> {
        match text.trim() {
            "" | Self::ANY => Ok(Self::Any),
            list if looks_like_prefixes(list) => {
                list.split(',').map(|text| prefix(text.trim())).collect::<Result<_, _>>().map(Self::Prefixes)
            }
            _ => Ok(Self::Peers(text.parse()?)),
        }
    }
}

/// A CIDR, or one address.
pub(super) fn prefix(text: &str) -> Result<IpNet, SideError> {
    let address = |_| text.parse().map(|address: IpAddr| IpNet::from(address));
    let given: IpNet =
        text.parse().or_else(address).map_err(|_| SideError::NoPrefix(text.chars().take(60).collect()))?;
    let right = given.trunc();
    if given == right { Ok(given) } else { Err(SideError::HostBits { given, right }) }
}

/// Labels that look so, with keys such as `10.0.0.0/8`, cannot be named first in a rule.
fn looks_like_prefixes(text: &str) -> bool {
    let is_number = |c: char| c.is_ascii_digit() || "./, ".contains(c);
    text.contains(':') || text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(is_number)
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(Self::ANY),
            Self::Peers(selector) => selector.fmt(f),
            Self::Prefixes(prefixes) => {
                f.write_str(&prefixes.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_everybody_or_cidrs_or_a_selector() {
        let side = |text: &str| text.parse::<Side>().unwrap();
        assert_eq!((side(""), side(" any ")), (Side::Any, Side::Any));
        assert_eq!(side("10.1.0.0/16, 10.2.0.1").to_string(), "10.1.0.0/16, 10.2.0.1/32");
        assert_eq!(side("fd00::/8").to_string(), "fd00::/8");
        assert!(matches!(side("role=web"), Side::Peers(_)));
        for (text, expected) in [
            ("10.1.0.0/33", "names \"10.1.0.0/33\", which is no CIDR"),
            ("10.1.0.0/16,", "names \"\""),
            ("10.1.0.1/16", "write 10.1.0.0/16"),
            ("role in web", "at character 9"),
        ] {
            let error = text.parse::<Side>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_selector_means_peers_only() {
        let outside = Party { address: "10.1.0.1".parse().unwrap(), labels: None };
        assert!(!"!role".parse::<Side>().unwrap().matches(&outside));
        assert!("10.1.0.0/24".parse::<Side>().unwrap().matches(&outside));
    }
}
