//! Whether packets of a pair travel sealed or in clear, and the sentence about it.

use super::{Author, Route};
use crate::{EncryptionPolicy, word::words};

/// How an agent's packets to a peer travel now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Clear,
    /// Sealed: the agent does not trust what the path crosses.
    Untrusted,
    /// Sealed: the peer has not shown lately that it is where the packets go.
    Unproved,
    /// Sealed: the peer accepts nothing in clear.
    Unaccepted,
}

words!(Transport {
    Clear = "clear",
    Untrusted = "untrusted",
    Unproved = "unproved",
    Unaccepted = "unaccepted",
});

/// What may travel in clear, and who says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encryption {
    pub policy: EncryptionPolicy,
    pub by: Author,
}

impl Encryption {
    /// How packets on a route travel, and why: `encrypted` or `clear`, a colon and the reason. `told` is what the sender
    /// says; without it nobody knows what is done with a policy that allows both.
    pub fn sentence(&self, route: Option<Route>, told: Option<Transport>) -> String {
        use EncryptionPolicy::{Always, Public};
        let policy = match &self.by {
            Author(None) => format!("the network's policy is {}", self.policy),
            Author(Some(rule)) => format!("rule {rule}'s policy is {}", self.policy),
        };
        match (self.policy, route, told) {
            (Public, Some(Route::Vpc), Some(Transport::Clear)) => {
                format!("clear: both hosts stand in one VPC, and {policy}")
            }
            (Always, _, Some(Transport::Clear)) => format!("clear: {policy}, but the agent does not know yet"),
            (Public, _, Some(Transport::Clear)) => {
                "clear: the agent sees both hosts in one VPC, which is not known here".to_owned()
            }
            (Always, ..) => format!("encrypted: {policy}"),
            (Public, Some(Route::Vpc), Some(Transport::Unproved)) => format!(
                "encrypted: {policy}, but the peer has not answered a probe inside the VPC in the last 10 s; it is asked while \
                 there is traffic"
            ),
            (Public, Some(Route::Vpc), Some(Transport::Unaccepted)) => {
                format!("encrypted: {policy}, but the peer does not accept packets in clear from here")
            }
            (Public, Some(Route::Vpc), Some(Transport::Untrusted)) => {
                format!("encrypted: {policy}, but the agent does not know yet, or sends elsewhere than inside the VPC")
            }
            (Public, Some(Route::Vpc), None) => format!(
                "clear or encrypted: {policy} and both hosts stand in one VPC, but the agent has not told what it does"
            ),
            (Public, ..) => "encrypted: outside a VPC everything is".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Option<Transport>; 5] = [
        None,
        Some(Transport::Clear),
        Some(Transport::Untrusted),
        Some(Transport::Unproved),
        Some(Transport::Unaccepted),
    ];

    #[test]
    fn only_what_the_sender_calls_clear_is_told_as_clear() {
        for policy in [EncryptionPolicy::Always, EncryptionPolicy::Public] {
            for route in [None, Some(Route::Vpc), Some(Route::Internet), Some(Route::InternetV6)] {
                for told in ALL {
                    let sentence = Encryption { policy, by: Author::default() }.sentence(route, told);
                    let unknown = (policy, route, told) == (EncryptionPolicy::Public, Some(Route::Vpc), None);
                    let begin = match told {
                        _ if unknown => "clear or encrypted: ",
                        Some(Transport::Clear) => "clear: ",
                        _ => "encrypted: ",
                    };
                    assert!(sentence.starts_with(begin), "{policy} {route:?} {told:?}: {sentence}");
                }
            }
        }
    }

    #[test]
    fn the_policy_and_what_lacks_are_named() {
        let network = |policy| Encryption { policy, by: Author::default() };
        let public = network(EncryptionPolicy::Public);
        let inside = |told| public.sentence(Some(Route::Vpc), Some(told));
        assert!(inside(Transport::Unproved).contains("probe"));
        assert!(inside(Transport::Unaccepted).contains("does not accept"));
        let always = network(EncryptionPolicy::Always);
        assert_eq!(
            always.sentence(Some(Route::Vpc), Some(Transport::Untrusted)),
            "encrypted: the network's policy is always"
        );
        assert_eq!(
            public.sentence(Some(Route::Internet), Some(Transport::Untrusted)),
            "encrypted: outside a VPC everything is"
        );
        let ruled = Encryption { by: Author("vault".parse().ok()), ..always };
        assert_eq!(ruled.sentence(Some(Route::Vpc), None), "encrypted: rule vault's policy is always");
    }
}
