//! `struct virtio_net_hdr`: what the kernel says about a packet that it has not finished, and we about one that it is to
//! finish (virtio 1.2 §5.1.6; `linux/virtio_net.h`). On a TUN device it is in the machine's byte order.

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// The first segment has CWR set. Said by the header itself too, so it is not looked at.
const GSO_ECN: u8 = 0x80;

/// How a super-packet is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    TcpV4,
    TcpV6,
    Udp,
}

/// The header in front of every packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VirtioNetHeader {
    /// The checksum from `checksum_start` on is not computed; its field holds the sum of the pseudo-header.
    pub needs_checksum: bool,
    /// None: a packet as any other.
    pub gso: Option<Gso>,
    /// Of all headers. A hint: forwarded packets come with less than that.
    pub header_len: u16,
    /// Payload of every segment but the last.
    pub gso_size: u16,
    pub checksum_start: u16,
    /// From `checksum_start`.
    pub checksum_offset: u16,
}

impl VirtioNetHeader {
    pub const LEN: usize = 10;

    /// None if it asks for a way of cutting that we never agreed to.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match bytes[1] & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some(Gso::TcpV4),
            GSO_TCPV6 => Some(Gso::TcpV6),
            GSO_UDP_L4 => Some(Gso::Udp),
            _ => return None,
        };
        Some(Self {
            needs_checksum: bytes[0] & NEEDS_CSUM != 0,
            gso,
            header_len: field(2),
            gso_size: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        })
    }

    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = if self.needs_checksum { NEEDS_CSUM } else { 0 };
        bytes[1] = match self.gso {
            None => GSO_NONE,
            Some(Gso::TcpV4) => GSO_TCPV4,
            Some(Gso::TcpV6) => GSO_TCPV6,
            Some(Gso::Udp) => GSO_UDP_L4,
        };
        for (at, field) in
            [(2, self.header_len), (4, self.gso_size), (6, self.checksum_start), (8, self.checksum_offset)]
        {
            bytes[at..at + 2].copy_from_slice(&field.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            needs_checksum: bool,
            gso in prop::option::of(prop::sample::select(vec![Gso::TcpV4, Gso::TcpV6, Gso::Udp])),
            fields: [u16; 4],
        ) {
            let [header_len, gso_size, checksum_start, checksum_offset] = fields;
            let header =
                VirtioNetHeader { needs_checksum, gso, header_len, gso_size, checksum_start, checksum_offset };
            prop_assert_eq!(VirtioNetHeader::parse(&header.to_bytes()), Some(header));
        }

        #[test]
        fn no_bytes_panic(bytes: [u8; VirtioNetHeader::LEN]) {
            let _ = VirtioNetHeader::parse(&bytes);
        }
    }
}
