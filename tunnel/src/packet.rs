//! The two addresses and the length of an inner IP packet: all that forwarding looks at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::discard::Discard;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Addresses {
    /// Reads the fixed header; nothing behind it is looked at.
    pub(crate) fn of(packet: &[u8]) -> Result<Self, Discard> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) if packet.len() >= V4_HEADER => {
                Ok(Self { source: v4(&packet[12..16])?, destination: v4(&packet[16..20])? })
            }
            Some(6) if packet.len() >= V6_HEADER => {
                Ok(Self { source: v6(&packet[8..24])?, destination: v6(&packet[24..40])? })
            }
            _ => Err(Discard::NotIp),
        }
    }
}

/// How long the packet at the head of `padded` says it is.
pub(crate) fn length(padded: &[u8]) -> Result<usize, Discard> {
    let word = |at: usize| padded.get(at..at + 2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    let (len, header) = match padded.first().map(|byte| byte >> 4) {
        Some(4) => (word(2), V4_HEADER),
        Some(6) => (word(4).map(|payload| payload + V6_HEADER), V6_HEADER),
        _ => (None, 0),
    };
    len.filter(|len| (header..=padded.len()).contains(len)).ok_or(Discard::NotIp)
}

fn v4(bytes: &[u8]) -> Result<IpAddr, Discard> {
    <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into()).map_err(|_| Discard::NotIp)
}

fn v6(bytes: &[u8]) -> Result<IpAddr, Discard> {
    <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into()).map_err(|_| Discard::NotIp)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_families_are_read() {
        let mut v4 = [0u8; 20];
        v4[0] = 0x45;
        v4[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let addresses = Addresses::of(&v4).unwrap();
        assert_eq!(
            (addresses.source.to_string(), addresses.destination.to_string()),
            ("10.0.0.1".into(), "10.0.0.2".into())
        );

        let mut v6 = [0u8; 40];
        v6[0] = 0x60;
        v6[23] = 1;
        v6[39] = 2;
        let addresses = Addresses::of(&v6).unwrap();
        assert_eq!((addresses.source.to_string(), addresses.destination.to_string()), ("::1".into(), "::2".into()));
    }

    #[test]
    fn padding_is_no_part_of_a_packet() {
        let mut padded = [0; 64];
        padded[..4].copy_from_slice(&[0x45, 0, 0, 50]);
        assert_eq!(length(&padded), Ok(50));
        assert_eq!(length(&padded[..49]), Err(Discard::NotIp));
        padded[3] = 19;
        assert_eq!(length(&padded), Err(Discard::NotIp));
        padded[..6].copy_from_slice(&[0x60, 0, 0, 0, 0, 10]);
        assert_eq!(length(&padded), Ok(50));
        assert_eq!(length(&padded[..49]), Err(Discard::NotIp));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Addresses::of(&bytes);
            prop_assert!(length(&bytes).is_err() || length(&bytes).unwrap() <= bytes.len());
        }
    }
}
