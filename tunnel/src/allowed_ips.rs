//! Allowed IPs: which peer is responsible for an address. The longest prefix wins.

use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

/// A map from prefixes to whatever stands for a peer; both families.
#[derive(Debug, Clone)]
pub struct AllowedIps<T>(JointPrefixMap<IpNet, T>);

impl<T> AllowedIps<T> {
    pub fn new() -> Self {
        Self(JointPrefixMap::new())
    }

    /// Gives `prefix` to `owner`; host bits are ignored. The former owner of this very prefix is returned.
    pub fn insert(&mut self, prefix: IpNet, owner: T) -> Option<T> {
        self.0.insert(prefix.trunc(), owner)
    }

    /// The owner of the longest prefix that holds `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<&T> {
        self.0.get_lpm(&IpNet::from(address)).map(|(_, owner)| owner)
    }
}

impl<T> Default for AllowedIps<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    /// The oracle: the last owner of every prefix, tried one by one.
    fn naive(entries: &[(IpNet, u8)], address: IpAddr) -> Option<u8> {
        entries
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address))
            .enumerate()
            .max_by_key(|(order, (prefix, _))| (prefix.prefix_len(), *order))
            .map(|(_, (_, owner))| *owner)
    }

    /// Few distinct bits, so that prefixes nest and collide.
    fn v4_address() -> impl Strategy<Value = Ipv4Addr> {
        (0u32..4, 0u32..4).prop_map(|(high, low)| Ipv4Addr::from((0x0a00_0000 | high << 16 | low) ^ (high << 30)))
    }

    fn v6_address() -> impl Strategy<Value = Ipv6Addr> {
        (0u128..4, 0u128..4).prop_map(|(high, low)| Ipv6Addr::from(0xfd << 120 | high << 64 | low))
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![v4_address().prop_map(IpAddr::V4), v6_address().prop_map(IpAddr::V6)]
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (v4_address(), 0u8..=32).prop_map(|(a, len)| IpNet::V4(Ipv4Net::new(a, len).unwrap())),
            (v6_address(), 0u8..=128).prop_map(|(a, len)| IpNet::V6(Ipv6Net::new(a, len).unwrap())),
        ]
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_a_search_through_the_list(
            entries in prop::collection::vec((prefix(), any::<u8>()), 0..40),
            addresses in prop::collection::vec(address(), 1..20),
        ) {
            let mut trie = AllowedIps::new();
            for (prefix, owner) in &entries {
                trie.insert(*prefix, *owner);
            }
            for address in addresses {
                prop_assert_eq!(trie.lookup(address).copied(), naive(&entries, address), "{}", address);
            }
        }
    }

    #[test]
    fn a_prefix_belongs_to_its_last_owner() {
        let mut trie = AllowedIps::new();
        assert_eq!(trie.insert("10.0.0.0/24".parse().unwrap(), 'a'), None);
        assert_eq!(trie.insert("10.0.0.9/24".parse().unwrap(), 'b'), Some('a'));
        assert_eq!(trie.lookup("10.0.0.1".parse().unwrap()), Some(&'b'));
        assert_eq!(trie.lookup("10.0.1.1".parse().unwrap()), None);
    }
}
