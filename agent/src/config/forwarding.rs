//! What the operator says of subnets behind this host.

use cladnet_model::rule::check_subnet;
use ipnet::Ipv4Net;
use serde::Deserialize;

/// Settings of a host that stands before subnets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Forwarding {
    /// Told to the service, where they wait for approval.
    pub advertise: Subnets,
    /// Whether the agent turns IPv4 forwarding on where it is needed; otherwise it only says that it is off.
    pub may_set: bool,
    /// Whether packets to a subnet keep their sources, whatever the network's rules say.
    pub keeps_sources: bool,
}

/// IPv4 prefixes of which none overlaps another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct Subnets(Vec<Ipv4Net>);

impl Subnets {
    /// The service takes no more.
    const MAX: usize = 64;

    pub(crate) fn prefixes(&self) -> impl Iterator<Item = Ipv4Net> {
        self.0.iter().copied()
    }
}

impl TryFrom<Vec<String>> for Subnets {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        if texts.len() > Self::MAX {
            return Err(format!("advertise names {} subnets; at most {} are allowed", texts.len(), Self::MAX));
        }
        let mut prefixes: Vec<Ipv4Net> = Vec::new();
        for text in &texts {
            let new = subnet(text)?;
            if let Some(other) = prefixes.iter().find(|other| other.contains(&new) || new.contains(*other)) {
                return Err(format!("advertise names {other} and {new}, which overlap; name one of them"));
            }
            prefixes.push(new);
        }
        Ok(Self(prefixes))
    }
}

fn subnet(text: &str) -> Result<Ipv4Net, String> {
    let given: Ipv4Net = text
        .parse()
        .map_err(|_| format!("advertise names {text:?}, which is no IPv4 subnet; write it as 10.1.0.0/16"))?;
    let right = given.trunc();
    if given != right {
        return Err(format!("advertise names {given}, an address inside a subnet; write {right}"));
    }
    check_subnet(given).map(|()| given).map_err(|error| format!("advertise names a prefix that {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets(texts: &[&str]) -> Result<Subnets, String> {
        texts.iter().map(ToString::to_string).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn subnets_are_ipv4_prefixes_that_do_not_overlap() {
        assert!(subnets(&["10.1.0.0/16", "192.168.7.0/24"]).is_ok());
        for (wrong, says) in [
            (vec!["10.1.0.5/16"], "write 10.1.0.0/16"),
            (vec!["fd00::/8"], "no IPv4 subnet"),
            (vec!["10.1.0.0"], "no IPv4 subnet"),
            (vec!["0.0.0.0/0"], "a default route"),
            (vec!["127.0.0.0/8"], "another machine"),
            (vec!["169.254.0.0/16"], "another machine"),
            (vec!["168.0.0.0/6"], "169.254.0.0/16"),
            (vec!["10.1.2.0/24", "10.1.0.0/16"], "which overlap"),
            (vec!["10.1.0.0/16"; 65], "at most 64"),
        ] {
            let error = subnets(&wrong).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }
}
