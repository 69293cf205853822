//! Telling the sender of an inner packet that its path carries less: "fragmentation needed" (RFC 792, RFC 1191 §4) and
//! "packet too big" (RFC 4443 §3.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header};

use crate::packet::Addresses;

/// Of a packet's payload, what tells its sender which one it was (RFC 792).
const V4_QUOTED: usize = 8;
/// The whole message must pass everywhere (RFC 4443 §2.4).
const V6_LEAST_MTU: usize = 1280;
/// What [`answer`] writes at the most.
pub(crate) const MAX_ANSWER: usize = V6_LEAST_MTU;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
/// Of the kernel's own ICMP messages.
const TTL: u8 = 64;

/// What is left to do with a packet that is longer than its path carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TooLong {
    /// Its sender lets it be cut: it goes, in fragments of what it is sealed in.
    Goes,
    /// Its sender wants it whole or not at all.
    Ends,
}

impl TooLong {
    pub(crate) fn of(packet: &[u8]) -> Self {
        // IPv6 is cut by nobody on the way; of IPv4, the flag "don't fragment".
        match packet.first().map(|byte| byte >> 4) {
            Some(4) if packet.get(6).is_some_and(|flags| flags & 0x40 == 0) => Self::Goes,
            _ => Self::Ends,
        }
    }
}

/// Writes the answer to a packet of which the path carries `mtu` bytes, and tells its length; nothing to those who must
/// not be answered (RFC 1122 §3.2.2). It comes from where the packet was going, as our own address would be refused
/// where it is delivered.
pub(crate) fn answer(packet: &[u8], mtu: u16, space: &mut [u8]) -> Option<usize> {
    let Addresses { source, destination } = Addresses::of(packet).ok()?;
    match (source, destination) {
        (IpAddr::V4(to), IpAddr::V4(from)) => answer_v4(packet, mtu, (from, to), space),
        (IpAddr::V6(to), IpAddr::V6(from)) => answer_v6(packet, mtu, (from, to), space),
        _ => None,
    }
}

fn answer_v4(packet: &[u8], mtu: u16, (from, to): (Ipv4Addr, Ipv4Addr), space: &mut [u8]) -> Option<usize> {
    let is_one_host = |ip: Ipv4Addr| {
        !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0)
    };
    let header_len = usize::from(packet[0] & 0xf) * 4;
    let is_later_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff != 0;
    // Of ICMP only echoes are no answers themselves.
    let is_answer = packet[9] == IpNumber::ICMP.0 && !matches!(packet.get(header_len), Some(0 | 8));
    if header_len < V4_HEADER || is_later_fragment || is_answer || !is_one_host(from) || !is_one_host(to) {
        return None;
    }
    let quoted = &packet[..packet.len().min(header_len + V4_QUOTED)];
    let needed = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    let icmp = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(needed), quoted);
    let payload_len = u16::try_from(ICMP_HEADER + quoted.len()).ok()?;
    let mut ip = Ipv4Header::new(payload_len, TTL, IpNumber::ICMP, from.octets(), to.octets()).ok()?;
    ip.header_checksum = ip.calc_header_checksum();
    write(space, [&ip.to_bytes(), &icmp.to_bytes(), quoted])
}

fn answer_v6(packet: &[u8], mtu: u16, (from, to): (Ipv6Addr, Ipv6Addr), space: &mut [u8]) -> Option<usize> {
    let is_one_host = |ip: Ipv6Addr| !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast());
    // Types below 128 are errors.
    let is_answer = packet[6] == IpNumber::IPV6_ICMP.0 && packet.get(V6_HEADER).is_none_or(|kind| *kind < 128);
    if is_answer || !is_one_host(from) || !is_one_host(to) {
        return None;
    }
    let quoted = &packet[..packet.len().min(V6_LEAST_MTU - V6_HEADER - ICMP_HEADER)];
    let kind = Icmpv6Type::PacketTooBig { mtu: mtu.into() };
    let icmp = Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), quoted).ok()?;
    let ip = Ipv6Header {
        payload_length: u16::try_from(ICMP_HEADER + quoted.len()).ok()?,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: TTL,
        source: from.octets(),
        destination: to.octets(),
        ..Ipv6Header::default()
    };
    write(space, [&ip.to_bytes(), &icmp.to_bytes(), quoted])
}

fn write(space: &mut [u8], parts: [&[u8]; 3]) -> Option<usize> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut space = space.get_mut(..len)?;
    for part in parts {
        let (place, rest) = space.split_at_mut(part.len());
        place.copy_from_slice(part);
        space = rest;
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    fn udp_v4(source: [u8; 4], dont_fragment: bool, len: usize) -> Vec<u8> {
        let mut ip = Ipv4Header::new(0, 64, IpNumber::UDP, source, [10, 9, 0, 2]).unwrap();
        ip.dont_fragment = dont_fragment;
        let mut packet = Vec::new();
        let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, Default::default())).udp(7, 8);
        builder.write(&mut packet, &vec![5; len]).unwrap();
        packet
    }

    fn answered(packet: &[u8]) -> Option<Vec<u8>> {
        let mut space = vec![0xaa; 2000];
        answer(packet, 1240, &mut space).map(|len| space[..len].to_vec())
    }

    #[test]
    fn a_sender_is_told_the_mtu_and_which_packet_it_was() {
        let packet = udp_v4([10, 9, 0, 1], true, 1400);
        let reply = answered(&packet).unwrap();
        assert_eq!(reply.len(), 20 + 8 + 28);
        let sliced = SlicedPacket::from_ip(&reply).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (sliced.net, sliced.transport) else {
            panic!("{reply:?}")
        };
        let header = ip.header().to_header();
        assert_eq!((header.source, header.destination), ([10, 9, 0, 2], [10, 9, 0, 1]));
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        let needed = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1240 };
        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(needed.clone()));
        assert_eq!(icmp.checksum(), Icmpv4Type::DestinationUnreachable(needed).calc_checksum(&packet[..28]));
        assert_eq!(icmp.payload(), &packet[..28]);
    }

    #[test]
    fn ipv6_senders_get_as_much_of_the_packet_as_passes_everywhere() {
        let (from, to) = ([0xfd; 16], [0xfc; 16]);
        let mut packet = Vec::new();
        PacketBuilder::ipv6(from, to, 64).udp(7, 8).write(&mut packet, &[5; 1400]).unwrap();
        let reply = answered(&packet).unwrap();
        assert_eq!(reply.len(), 1280);
        let sliced = SlicedPacket::from_ip(&reply).unwrap();
        let Some(TransportSlice::Icmpv6(icmp)) = sliced.transport else { panic!("{reply:?}") };
        assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1240 });
        assert!(icmp.is_checksum_valid(to, from));
        assert_eq!(TooLong::of(&packet), TooLong::Ends);
    }

    #[test]
    fn who_is_nobody_is_not_answered() {
        for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
            assert_eq!(answered(&udp_v4(source, true, 1400)), None, "{source:?}");
        }
        let answer_to_answer = answered(&udp_v4([10, 9, 0, 1], true, 1400)).unwrap();
        assert_eq!(answered(&answer_to_answer), None);
        let mut later = udp_v4([10, 9, 0, 1], true, 1400);
        later[7] = 1;
        assert_eq!(answered(&later), None);
    }

    #[test]
    fn only_what_may_be_cut_goes() {
        assert_eq!(TooLong::of(&udp_v4([10, 9, 0, 1], false, 1400)), TooLong::Goes);
        assert_eq!(TooLong::of(&udp_v4([10, 9, 0, 1], true, 1400)), TooLong::Ends);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), version in prop::sample::select(vec![4u8, 6])) {
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            let _ = (answered(&bytes), TooLong::of(&bytes));
        }
    }
}
