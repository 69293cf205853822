//! How much each source address has asked of us in the present second: a bounded table, so that a flood from ever new
//! addresses costs memory no more than a flood from one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Sources measured at a time.
pub(crate) const MAX_SOURCES: usize = 4096;

#[derive(Default)]
pub(crate) struct Sources(HashMap<IpAddr, u32>);

impl Sources {
    /// Counts one more from `from`; false beyond `limit`, or if it is new and the table is full.
    pub(crate) fn has_room(&mut self, from: IpAddr, limit: u32) -> bool {
        let source = network(from);
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
            return false;
        }
        let count = self.0.entry(source).or_default();
        *count = count.saturating_add(1);
        *count <= limit
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Who has one IPv6 address has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}
