//! What a packet belongs to: its flow, the flow it reports an error about, or the datagram it is a fragment of.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxIpSlice};

const ICMP: u8 = IpNumber::ICMP.0;
const TCP: u8 = IpNumber::TCP.0;
const UDP: u8 = IpNumber::UDP.0;
const ICMPV6: u8 = IpNumber::IPV6_ICMP.0;
/// Both ports are the first four bytes in all of these.
const WITH_PORTS: [u8; 5] = [TCP, UDP, IpNumber::DCCP.0, IpNumber::SCTP.0, IpNumber::UDP_LITE.0];

/// Where the flags of a TCP header are (RFC 9293 §3.1).
const TCP_FLAGS: usize = 13;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A flow as this host sees it. ICMP's echo has its identifier in place of both ports; what has no ports has zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) protocol: u8,
    pub(super) local: (IpAddr, u16),
    pub(super) remote: (IpAddr, u16),
}

/// What a packet does to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// TCP's first packet, or a request for an echo, which answers nothing.
    Opening,
    /// An echo, which opens nothing.
    Answer,
    Going,
    /// One end will send no more.
    Ending,
}

/// A packet's flow, by the direction it travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    protocol: u8,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    pub(super) stage: Stage,
}

/// Names the datagram that a fragment is of: RFC 791 §3.2 and, without the protocol, RFC 8200 §4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Datagram {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole(Seen),
    FirstFragment(Seen, Datagram),
    LaterFragment(Datagram),
    /// An ICMP error, with what its receiver had sent.
    ErrorAbout {
        quoted: Seen,
        seen: Seen,
    },
}

impl Seen {
    /// The flow of a packet that a peer sent.
    pub(super) fn received(self) -> Flow {
        Flow { protocol: self.protocol, local: self.destination, remote: self.source }
    }

    /// The flow of a packet that this host sent.
    pub(super) fn sent(self) -> Flow {
        Flow { protocol: self.protocol, local: self.source, remote: self.destination }
    }
}

/// `None`: headers that cannot be read, or that hide where they end.
pub(super) fn of(packet: &[u8]) -> Option<Part> {
    let ip = read(packet)?;
    let (datagram, offset) = fragment(&ip);
    if datagram.is_some() && hides_flags(&ip, offset) {
        return None;
    }
    match datagram {
        Some(datagram) if offset > 0 => Some(Part::LaterFragment(datagram)),
        Some(datagram) => Some(Part::FirstFragment(seen(&ip)?, datagram)),
        None => match error_about(&ip) {
            Some(quoted) => Some(Part::ErrorAbout { quoted, seen: seen(&ip)? }),
            None => seen(&ip).map(Part::Whole),
        },
    }
}

fn read(packet: &[u8]) -> Option<LaxIpSlice<'_>> {
    match LaxIpSlice::from_slice(packet) {
        Ok((ip, None)) => Some(ip),
        Ok((_, Some(_))) | Err(_) => None,
    }
}

/// The datagram of a fragment, and the fragment's offset in units of eight bytes.
fn fragment(ip: &LaxIpSlice<'_>) -> (Option<Datagram>, u16) {
    let of = |protocol, identification| Datagram {
        source: ip.source_addr(),
        destination: ip.destination_addr(),
        protocol,
        identification,
    };
    match ip {
        LaxIpSlice::Ipv4(v4) => {
            let header = v4.header();
            let datagram = of(header.protocol().0, header.identification().into());
            (header.is_fragmenting_payload().then_some(datagram), header.fragments_offset().value())
        }
        LaxIpSlice::Ipv6(v6) => {
            let header = v6.extensions().clone().into_iter().find_map(|extension| match extension {
                Ipv6ExtensionSlice::Fragment(header) => Some(header),
                _ => None,
            });
            // One that is first and last at once is a whole packet (RFC 6946).
            match header.filter(|header| header.is_fragmenting_payload()) {
                Some(header) => (Some(of(0, header.identification())), header.fragment_offset().value()),
                None => (None, 0),
            }
        }
    }
}

/// Whether the flags of a TCP header are not in the first fragment, or written over by the second (RFC 1858 §3). In IPv6
/// the second may call itself something else, so the first one must have them.
fn hides_flags(ip: &LaxIpSlice<'_>, offset: u16) -> bool {
    let payload = ip.payload();
    payload.ip_number == IpNumber::TCP && (offset == 1 || offset == 0 && payload.payload.len() <= TCP_FLAGS)
}

fn seen(ip: &LaxIpSlice<'_>) -> Option<Seen> {
    let protocol = ip.payload().ip_number.0;
    let payload = ip.payload().payload;
    let port = |at| payload.get(at..at + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
    let ports = match protocol {
        _ if WITH_PORTS.contains(&protocol) => (port(0)?, port(2)?),
        ICMP | ICMPV6 if is_echo(protocol, *payload.first()?) => (port(4)?, port(4)?),
        _ => (0, 0),
    };
    let stage = match protocol {
        TCP => payload.get(TCP_FLAGS).map_or(Stage::Going, |flags| stage(*flags)),
        ICMP | ICMPV6 => echo_stage(protocol, *payload.first()?),
        _ => Stage::Going,
    };
    Some(Seen { protocol, source: (ip.source_addr(), ports.0), destination: (ip.destination_addr(), ports.1), stage })
}

fn stage(flags: u8) -> Stage {
    match flags & (FIN | SYN | RST | ACK) {
        SYN => Stage::Opening,
        flags if flags & (FIN | RST) != 0 => Stage::Ending,
        _ => Stage::Going,
    }
}

fn echo_stage(protocol: u8, kind: u8) -> Stage {
    match (protocol, kind) {
        (ICMP, 8) | (ICMPV6, 128) => Stage::Opening,
        (ICMP, 0) | (ICMPV6, 129) => Stage::Answer,
        _ => Stage::Going,
    }
}

fn is_echo(protocol: u8, kind: u8) -> bool {
    matches!((protocol, kind), (ICMP, 0 | 8) | (ICMPV6, 128 | 129))
}

/// What an ICMP error quotes, if its receiver sent that.
fn error_about(ip: &LaxIpSlice<'_>) -> Option<Seen> {
    let payload = ip.payload().payload;
    // Destination unreachable, (v6: packet too big,) time exceeded, parameter problem; a redirect is none.
    let is_error = match ip.payload().ip_number.0 {
        ICMP => matches!(payload.first()?, 3 | 11 | 12),
        ICMPV6 => matches!(payload.first()?, 1..=4),
        _ => false,
    };
    let quoted = is_error.then(|| payload.get(8..)).flatten().and_then(read)?;
    let (datagram, offset) = fragment(&quoted);
    if quoted.source_addr() != ip.destination_addr() || datagram.is_some() && offset > 0 {
        return None;
    }
    seen(&quoted)
}

/// By the field of flags and fragment offset of an IPv4 header (RFC 791 §3.1).
fn is_fragment(flags_and_offset: [u8; 2]) -> bool {
    u16::from_be_bytes(flags_and_offset) & 0x3fff != 0
}

/// All of a packet's head that tells its flow, as bytes: equal for packets of one flow that change nothing about it.
/// Only for whole TCP and UDP packets without options, which is nearly all there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Signature([u8; 38]);

impl Signature {
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let (protocol, ends, header) = match packet.first()? {
            0x45 if !is_fragment(*packet.get(6..)?.first_chunk()?) => (*packet.get(9)?, packet.get(12..24)?, 20),
            first if first >> 4 == 6 => (*packet.get(6)?, packet.get(8..44)?, 40),
            _ => return None,
        };
        let is_plain = match protocol {
            TCP => packet.get(header + TCP_FLAGS)? & (FIN | SYN | RST) == 0,
            UDP => true,
            _ => false,
        };
        let mut signature = [0; 38];
        // Without the first, bytes of one family's addresses could be those of the other's.
        (signature[0], signature[1]) = (packet[0] >> 4, protocol);
        signature[2..2 + ends.len()].copy_from_slice(ends);
        is_plain.then_some(Self(signature))
    }
}
