//! Subnets that are reached through peers: what the service says of them, and which of them this host uses. Pure; the
//! device routes them, and [`crate::forwarding`] does what the host before a subnet must do.

mod accept;
mod confine;

use cladnet_model::rule::check_subnet;
use cladnet_proto::{
    cladnet::v1::AdvertisedPrefix,
    convert::{self, FieldError},
};
use ipnet::Ipv4Net;
use tracing::warn;

pub(crate) use accept::{Accepted, Network, Peer, accept};
pub(crate) use confine::confine;

/// A subnet that is reached through a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subnet {
    /// Where the others route to.
    pub prefix: Ipv4Net,
    /// The subnet as it is: another prefix of the same length if it is mapped 1:1.
    pub real: Ipv4Net,
    /// Whether packets to it take the peer's own address on.
    pub snat: bool,
}

impl Subnet {
    fn read(wire: &AdvertisedPrefix) -> Result<Self, FieldError> {
        let prefix: Ipv4Net = prefix("prefix", convert::required("prefix", &wire.prefix)?)?;
        let real = match convert::optional("mapped_from", &wire.mapped_from)? {
            Some(real) => self::prefix("mapped_from", real)?,
            None => prefix,
        };
        if real.prefix_len() != prefix.prefix_len() {
            return Err(FieldError::new("mapped_from", format!("is {real}, and {prefix} has another length")));
        }
        Ok(Self { prefix, real, snat: wire.snat })
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.real != self.prefix
    }
}

/// Not everything is a subnet, whoever says so.
fn prefix(field: &str, prefix: Ipv4Net) -> Result<Ipv4Net, FieldError> {
    if prefix != prefix.trunc() {
        return Err(FieldError::new(field, format!("is {prefix}, an address inside a subnet")));
    }
    check_subnet(prefix).map(|()| prefix).map_err(|error| FieldError::new(field, error))
}

/// One subnet that cannot be read never keeps the others away.
pub(crate) fn read(wire: &[AdvertisedPrefix]) -> Vec<Subnet> {
    let read = |wire: &AdvertisedPrefix| match Subnet::read(wire) {
        Ok(subnet) => Some(subnet),
        Err(error) => {
            warn!(rule = wire.rule_id, %error, "an advertised subnet is left out");
            None
        }
    };
    wire.iter().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(prefix: &str, mapped_from: &str) -> AdvertisedPrefix {
        AdvertisedPrefix { prefix: prefix.into(), snat: true, mapped_from: mapped_from.into(), rule_id: "r".into() }
    }

    #[test]
    fn a_subnet_that_cannot_be_read_is_left_out_alone() {
        let read = read(&[
            wire("10.1.0.0/16", ""),
            wire("10.200.0.0/16", "10.1.0.0/16"),
            wire("10.200.0.0/16", "10.1.0.0/24"),
            wire("fd00::/8", ""),
            wire("10.1.0.5/16", ""),
            wire("0.0.0.0/0", ""),
            wire("169.254.0.0/16", ""),
            wire("168.0.0.0/6", ""),
        ]);
        let told: Vec<_> = read.iter().map(|subnet| (subnet.prefix.to_string(), subnet.real.to_string())).collect();
        let expected = [("10.1.0.0/16", "10.1.0.0/16"), ("10.200.0.0/16", "10.1.0.0/16")];
        assert_eq!(told, expected.map(|(prefix, real)| (prefix.to_owned(), real.to_owned())));
        assert_eq!((read[0].is_mapped(), read[1].is_mapped()), (false, true));
    }
}
