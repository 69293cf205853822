//! Whether an address space suits what is there: the peers that have addresses in it, and the other networks.

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

use super::Network;
use crate::{NetworkId, space};

/// Why an address space cannot be that of a network, though it is a right one. The field is `ipv4_address_space`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Some of the hosts that are to come would get no address.
    #[error("is {space}, which has room for {} hosts, and {hosts} are expected; use a shorter prefix, or expect fewer", space::capacity(*.space))]
    TooSmall { space: Ipv4Net, hosts: u32 },
    /// Two networks on one host could not tell their addresses apart.
    #[error("is {space}, which overlaps {theirs} of network {network}; use a range that it does not share")]
    Overlap { space: Ipv4Net, network: NetworkId, theirs: Ipv4Net },
    /// Peers would lose their addresses.
    #[error("is {space}, which leaves out {}; use a range that keeps them, or remove these peers first", Named(.stranded))]
    Strands { space: Ipv4Net, stranded: Vec<(String, Ipv4Addr)> },
}

/// Checks that an address space has room for so many hosts.
pub fn check_room(space: Ipv4Net, hosts: u32) -> Result<(), Misfit> {
    if space::capacity(space) < hosts { Err(Misfit::TooSmall { space, hosts }) } else { Ok(()) }
}

/// Checks the address space of a network against its peers, each with a name for people, and against all networks; the
/// network itself may be among these.
pub fn check_fit<'a>(
    network: &Network,
    peers: impl IntoIterator<Item = (&'a str, Ipv4Addr)>,
    networks: impl IntoIterator<Item = &'a Network>,
) -> Result<(), Misfit> {
    let space = network.address_space;
    let mut others = networks.into_iter().filter(|other| other.id != network.id);
    if let Some(other) = others.find(|other| space::overlap(space, other.address_space)) {
        return Err(Misfit::Overlap { space, network: other.id.clone(), theirs: other.address_space });
    }
    let stranded = peers.into_iter().filter(|(_, address)| !space::is_usable(space, *address));
    let stranded: Vec<_> = stranded.map(|(name, address)| (name.to_owned(), address)).collect();
    if stranded.is_empty() { Ok(()) } else { Err(Misfit::Strands { space, stranded }) }
}

/// The first of a list of peers, and how many more there are.
struct Named<'a>(&'a [(String, Ipv4Addr)]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More names than this make no sentence.
        const SHOWN: usize = 10;
        for (place, (name, address)) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{name} ({address})")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkDraft;

    fn network(id: &str, space: &str) -> Network {
        let settings = NetworkDraft::default().check().unwrap();
        settings.into_network(id.parse().unwrap(), space.parse().unwrap(), jiff::Timestamp::UNIX_EPOCH)
    }

    fn peers(addresses: &[&'static str]) -> Vec<(&'static str, Ipv4Addr)> {
        addresses.iter().map(|address| (*address, address.parse().unwrap())).collect()
    }

    #[test]
    fn a_space_without_room_for_the_hosts_expected_is_refused() {
        let space = "10.1.0.0/28".parse().unwrap();
        assert_eq!(check_room(space, 14), Ok(()));
        let told = check_room(space, 15).unwrap_err().to_string();
        assert!(told.contains("room for 14 hosts, and 15 are expected"), "{told}");
    }

    #[test]
    fn growing_strands_nobody() {
        let peers = peers(&["10.1.0.1", "10.1.0.254"]);
        assert_eq!(check_fit(&network("a", "10.1.0.0/23"), peers.clone(), []), Ok(()));
        assert_eq!(check_fit(&network("a", "10.0.0.0/8"), peers, []), Ok(()));
    }

    #[test]
    fn shrinking_or_moving_names_whom_it_strands() {
        let told = |space: &str, addresses: &[&'static str]| {
            check_fit(&network("a", space), peers(addresses), []).unwrap_err().to_string()
        };
        assert_eq!(
            told("10.1.0.0/25", &["10.1.0.1", "10.1.0.127", "10.1.0.254"]),
            "is 10.1.0.0/25, which leaves out 10.1.0.127 (10.1.0.127), 10.1.0.254 (10.1.0.254); use a range that keeps them, \
             or remove these peers first"
        );
        let many: Vec<_> = (1..=14).map(|n| format!("host-{n}")).collect();
        let many = many.iter().map(|name| (name.as_str(), Ipv4Addr::new(10, 1, 0, 9)));
        let error = check_fit(&network("a", "10.2.0.0/16"), many, []).unwrap_err().to_string();
        assert!(error.contains("host-10 (10.1.0.9) and 4 more"), "{error}");
    }

    #[test]
    fn an_overlap_is_told_with_the_other_network() {
        let networks = [network("a", "10.1.0.0/16"), network("a-2", "10.2.0.0/16")];
        assert_eq!(check_fit(&network("a", "10.0.0.0/15"), [], &networks), Ok(()), "not with itself");
        assert_eq!(
            check_fit(&network("a", "10.0.0.0/14"), [], &networks).unwrap_err().to_string(),
            "is 10.0.0.0/14, which overlaps 10.2.0.0/16 of network a-2; use a range that it does not share"
        );
    }
}
