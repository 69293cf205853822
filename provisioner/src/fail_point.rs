//! Places where a test lets the provisioner die, as by `kill -9`, to see that another one goes on from there.

use std::str::FromStr;

/// After which step the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPoint {
    Claimed,
    Connected,
    Inspected,
    Uploaded,
    Installed,
    TokenMade,
    TokenDelivered,
    Joined,
    Settled,
    Verified,
    Left,
    Removed,
}

impl FailPoint {
    /// All of them, with their words.
    pub const WORDS: [(&'static str, Self); 12] = [
        ("claimed", Self::Claimed),
        ("connected", Self::Connected),
        ("inspected", Self::Inspected),
        ("uploaded", Self::Uploaded),
        ("installed", Self::Installed),
        ("token-made", Self::TokenMade),
        ("token-delivered", Self::TokenDelivered),
        ("joined", Self::Joined),
        ("settled", Self::Settled),
        ("verified", Self::Verified),
        ("left", Self::Left),
        ("removed", Self::Removed),
    ];

    /// Ends the process without a word if `set` is this point.
    pub(crate) fn pass(self, set: Option<Self>) {
        if set == Some(self) {
            std::process::abort();
        }
    }
}

impl FromStr for FailPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::WORDS.iter().find(|(word, _)| *word == text).map(|(_, point)| *point);
        found.ok_or_else(|| format!("{text:?} is no fail point"))
    }
}
