//! The little that the WAN reads of a packet: where it comes from and where it goes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Source and destination of an IP packet; none if it is not one.
pub(super) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
            let destination: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            Some((Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into()))
        }
        6 => {
            let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
            let destination: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            Some((Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read_and_nothing_else() {
        let mut v4 = [0u8; 20];
        v4[0] = 0x45;
        v4[12..20].copy_from_slice(&[192, 0, 2, 1, 203, 0, 113, 9]);
        let expected = ("192.0.2.1".parse().expect("v4"), "203.0.113.9".parse().expect("v4"));
        assert_eq!(addresses(&v4), Some(expected));
        let mut v6 = [0u8; 40];
        v6[0] = 0x60;
        v6[23] = 1;
        v6[39] = 2;
        assert_eq!(addresses(&v6), Some(("::1".parse().expect("v6"), "::2".parse().expect("v6"))));
        assert_eq!(addresses(&v4[..19]), None);
        assert_eq!(addresses(&v6[..39]), None);
        assert_eq!(addresses(&[]), None);
        assert_eq!(addresses(&[0xf0; 60]), None);
    }
}
