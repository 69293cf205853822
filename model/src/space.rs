//! Arithmetic on the address space of a network: which of its addresses hosts can have, which are free, what it
//! overlaps.

mod parse;

use std::{collections::BTreeSet, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::{IpNet, Ipv4Net};

pub use parse::{AddressSpaceError, PRIVATE_BLOCKS, parse};

/// The addresses that hosts can have, as numbers: all but the network's and the broadcast address. Empty for /31 and
/// /32.
pub fn usable(space: Ipv4Net) -> RangeInclusive<u32> {
    let (network, broadcast) = (space.network().to_bits(), space.broadcast().to_bits());
    match broadcast - network {
        0 | 1 => RangeInclusive::new(1, 0),
        _ => network + 1..=broadcast - 1,
    }
}

/// How many addresses hosts can have.
pub fn capacity(space: Ipv4Net) -> u32 {
    let usable = usable(space);
    if usable.is_empty() { 0 } else { usable.end() - usable.start() + 1 }
}

/// Whether a host can have this address.
pub fn is_usable(space: Ipv4Net, address: Ipv4Addr) -> bool {
    usable(space).contains(&address.to_bits())
}

/// The address is not one that a host can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not one that hosts of {space} can have, {} to {}", Ipv4Addr::from_bits(*usable(*space).start()),
    Ipv4Addr::from_bits(*usable(*space).end()))]
pub struct NotUsable {
    /// The network's address space.
    pub space: Ipv4Net,
}

/// The address, if a host of this space can have it.
pub fn check_usable(space: Ipv4Net, address: Ipv4Addr) -> Result<Ipv4Addr, NotUsable> {
    if is_usable(space, address) { Ok(address) } else { Err(NotUsable { space }) }
}

/// The free addresses, lowest first; each step passes the taken addresses before it once.
pub fn free(space: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> {
    let mut taken = taken.range(space.network()..).peekable();
    usable(space).map(Ipv4Addr::from_bits).filter(move |address| {
        while taken.next_if(|taken| *taken < address).is_some() {}
        taken.peek() != Some(&address)
    })
}

/// Whether two spaces share an address.
pub fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The first of a host's own routes that an address space would take from it or lose to it.
pub fn conflicting_route(space: Ipv4Net, routes: &[IpNet]) -> Option<Ipv4Net> {
    routes.iter().filter_map(claimed_by_route).find(|route| overlap(space, *route))
}

/// The IPv4 addresses that a route claims. A default route claims none, also one in two halves as some VPNs set it.
pub fn claimed_by_route(route: &IpNet) -> Option<Ipv4Net> {
    match route {
        IpNet::V4(route) if route.prefix_len() > 1 => Some(route.trunc()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn network_and_broadcast_are_never_usable() {
        assert_eq!(capacity(net("10.1.0.0/29")), 6);
        assert!(!is_usable(net("10.1.0.0/29"), Ipv4Addr::new(10, 1, 0, 0)));
        assert!(is_usable(net("10.1.0.0/29"), Ipv4Addr::new(10, 1, 0, 1)));
        assert!(is_usable(net("10.1.0.0/29"), Ipv4Addr::new(10, 1, 0, 6)));
        assert!(!is_usable(net("10.1.0.0/29"), Ipv4Addr::new(10, 1, 0, 7)));
        assert!(!is_usable(net("10.1.0.0/29"), Ipv4Addr::new(10, 1, 0, 8)));
        for (text, hosts) in [("10.0.0.0/32", 0), ("10.0.0.0/31", 0), ("10.0.0.0/30", 2), ("10.0.0.0/8", 16_777_214)] {
            assert_eq!(capacity(net(text)), hosts, "{text}");
        }
        assert_eq!(capacity(net("0.0.0.0/0")), u32::MAX - 1);
    }

    #[test]
    fn free_addresses_come_lowest_first() {
        let taken = ["9.0.0.1", "10.1.0.0", "10.1.0.1", "10.1.0.3", "10.1.0.6", "10.2.0.1"];
        let taken = taken.map(|text| text.parse().unwrap()).into();
        let free: Vec<String> = free(net("10.1.0.0/29"), &taken).map(|address| address.to_string()).collect();
        assert_eq!(free, ["10.1.0.2", "10.1.0.4", "10.1.0.5"]);
    }

    #[test]
    fn a_million_taken_addresses_are_passed_quickly() {
        let space = net("10.0.0.0/12");
        let taken = usable(space).take(1_000_000).map(Ipv4Addr::from_bits).collect();
        assert_eq!(free(space, &taken).next(), Some(Ipv4Addr::new(10, 15, 66, 65)));
    }

    #[test]
    fn a_route_conflicts_when_it_shares_an_address_and_is_no_default_route() {
        let routes = ["0.0.0.0/0", "0.0.0.0/1", "fd00::/8", "10.0.0.5/16"].map(|text| text.parse().unwrap());
        assert_eq!(conflicting_route(net("10.0.7.0/24"), &routes), Some(net("10.0.0.0/16")));
        assert_eq!(conflicting_route(net("10.0.0.0/8"), &routes), Some(net("10.0.0.0/16")));
        assert_eq!(conflicting_route(net("10.1.0.0/16"), &routes), None);
    }
}
