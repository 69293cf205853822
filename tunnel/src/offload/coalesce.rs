//! Merging: consecutive packets of one flow as one super-packet, which the receiving stack walks through once.
//!
//! Only what cutting would bring back is merged, so nobody behind it can tell: neither an application nor the next host
//! on the way. To the byte, but for one field that carries no meaning: the identification of packets that are never
//! fragmented (RFC 6864 §4.1). Where it is the same in all, as of sockets that are not connected, cutting counts it up.
//! Packets are never held back or reordered.

use super::checksum::Sum;
use super::virtio::{Gso, VirtioNetHeader};
use super::{
    MAX_HEADERS, MAX_SEGMENTS, TCP_HEADER, Transport, UDP_HEADER, V4_HEADER, V6_HEADER, read_u16, read_u32, write_u16,
};

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
/// Of the byte that holds the flags of IPv4.
const DONT_FRAGMENT: u8 = 0x40;

/// A packet, and those that followed and could be merged with it: headers of their own and the payloads where they lie.
#[derive(Debug)]
pub struct SuperPacket<'a> {
    /// Where a packet that was merged with nothing stays as it is.
    packets: [&'a [u8]; MAX_SEGMENTS],
    count: usize,
    /// None if nothing can be merged with the first packet.
    flow: Option<Flow>,
    /// By which the identification rises from packet to packet; known from the second one on.
    step: Option<u16>,
    /// Nothing may follow: a short packet, or one that ends a burst.
    closed: bool,
    /// Bytes of the packet that cutting would give, headers once.
    len: usize,
    headers: [u8; VirtioNetHeader::LEN + MAX_HEADERS],
}

/// Which offloads the device that takes super-packets has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mergeable {
    pub tcp_v4: bool,
    pub tcp_v6: bool,
    pub udp: bool,
}

/// What makes a packet one of a flow, beside the bytes that must be equal.
#[derive(Debug, Clone, Copy)]
struct Flow {
    transport: Transport,
    is_v6: bool,
    transport_at: usize,
    headers_len: usize,
    payload_len: usize,
}

impl<'a> SuperPacket<'a> {
    /// Begins with a packet; `mergeable` says whether any other may follow.
    pub fn new(packet: &'a [u8], mergeable: Mergeable) -> Self {
        let flow = Flow::of(packet).filter(|flow| mergeable.includes(flow.gso()) && flow.may_begin(packet));
        let mut packets: [&[u8]; MAX_SEGMENTS] = [&[]; MAX_SEGMENTS];
        packets[0] = packet;
        Self {
            packets,
            count: 1,
            closed: flow.is_some_and(|flow| flow.ends_burst(packet)),
            flow,
            step: None,
            len: packet.len(),
            headers: [0; VirtioNetHeader::LEN + MAX_HEADERS],
        }
    }

    /// Takes the packet that follows, if it can be merged; else it is the next one's first.
    pub fn join(&mut self, packet: &'a [u8]) -> bool {
        let Some(flow) = self.flow.filter(|_| !self.closed && self.count < MAX_SEGMENTS) else { return false };
        let Some(step) = flow.step(self.packets[0], self.count, packet) else { return false };
        if self.step.is_some_and(|known| known != step) {
            return false;
        }
        let Some(next) = flow.follower(self.packets[0], self.count, packet) else { return false };
        let len = self.len + next.payload_len;
        if len > usize::from(u16::MAX) || !next.has_valid_checksum(packet) {
            return false;
        }
        self.packets[self.count] = packet;
        self.count += 1;
        self.step = Some(step);
        self.len = len;
        self.closed = next.payload_len < flow.payload_len || next.ends_burst(packet);
        true
    }

    /// The packet that it began with.
    pub fn first(&self) -> &'a [u8] {
        self.packets[0]
    }

    /// The packets that it holds, as they came.
    pub fn packets(&self) -> impl Iterator<Item = &'a [u8]> {
        self.packets[..self.count].iter().copied()
    }

    /// How a device is to cut it; none if it is one packet.
    pub fn gso(&self) -> Option<Gso> {
        self.flow.filter(|_| self.count > 1).map(|flow| flow.gso())
    }

    /// How many packets it holds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What to write to the device, as one: the virtio header with the headers of the packet, and what follows them.
    pub fn parts(&mut self) -> (&[u8], impl ExactSizeIterator<Item = &'a [u8]>) {
        let merged = self.flow.filter(|_| self.count > 1);
        let skipped = merged.map_or(0, |flow| flow.headers_len);
        let virtio = merged.map_or_else(VirtioNetHeader::default, |flow| self.write_headers(&flow));
        self.headers[..VirtioNetHeader::LEN].copy_from_slice(&virtio.to_bytes());
        let payloads = self.packets[..self.count].iter().map(move |packet| &packet[skipped..]);
        (&self.headers[..VirtioNetHeader::LEN + skipped], payloads)
    }

    /// Makes the headers of the whole from those of the first packet and the flags of the last.
    fn write_headers(&mut self, flow: &Flow) -> VirtioNetHeader {
        let headers = &mut self.headers[VirtioNetHeader::LEN..][..flow.headers_len];
        headers.copy_from_slice(&self.packets[0][..flow.headers_len]);
        if flow.is_v6 {
            write_u16(headers, 4, (self.len - V6_HEADER) as u16);
        } else {
            write_u16(headers, 2, self.len as u16);
            headers[10..12].fill(0);
            let checksum = Sum::default().bytes(&headers[..V4_HEADER]).checksum();
            headers[10..12].copy_from_slice(&checksum);
        }
        let message_len = self.len - flow.transport_at;
        let (ip, transport) = headers.split_at_mut(flow.transport_at);
        match flow.transport {
            Transport::Tcp => transport[13] |= self.packets[self.count - 1][flow.transport_at + 13] & PSH,
            Transport::Udp => write_u16(transport, 4, message_len as u16),
        }
        let field = flow.transport.checksum_offset();
        let partial = Sum::pseudo_header(ip, flow.transport, message_len).partial();
        transport[field..field + 2].copy_from_slice(&partial);
        VirtioNetHeader {
            needs_checksum: true,
            gso: Some(flow.gso()),
            header_len: flow.headers_len as u16,
            gso_size: flow.payload_len as u16,
            checksum_start: flow.transport_at as u16,
            checksum_offset: field as u16,
        }
    }
}

impl Mergeable {
    /// Whether packets that are cut like this may be merged.
    fn includes(self, gso: Gso) -> bool {
        match gso {
            Gso::TcpV4 => self.tcp_v4,
            Gso::TcpV6 => self.tcp_v6,
            Gso::Udp => self.udp,
        }
    }
}

impl Flow {
    /// None for whatever is not plain TCP or UDP with data, whole and without options or extensions of IP.
    fn of(packet: &[u8]) -> Option<Self> {
        let (is_v6, protocol, stated_len) = match packet.first()? {
            // More fragments, or not the first one.
            0x45 if packet.len() >= V4_HEADER && read_u16(packet, 6) & 0x3fff == 0 => {
                (false, packet[9], usize::from(read_u16(packet, 2)))
            }
            first if first >> 4 == 6 && packet.len() >= V6_HEADER => {
                (true, packet[6], usize::from(read_u16(packet, 4)) + V6_HEADER)
            }
            _ => return None,
        };
        let transport_at = if is_v6 { V6_HEADER } else { V4_HEADER };
        let transport = Transport::of(protocol)?;
        let message = &packet[transport_at..];
        let header_len = match transport {
            Transport::Tcp => usize::from(message.get(12)? >> 4) * 4,
            Transport::Udp => UDP_HEADER,
        };
        let is_sound = match transport {
            Transport::Tcp => header_len >= TCP_HEADER,
            Transport::Udp => message.len() >= UDP_HEADER && usize::from(read_u16(message, 4)) == message.len(),
        };
        let headers_len = transport_at + header_len;
        let payload_len = packet.len().checked_sub(headers_len).filter(|len| *len > 0)?;
        (is_sound && stated_len == packet.len()).then_some(Self {
            transport,
            is_v6,
            transport_at,
            headers_len,
            payload_len,
        })
    }

    fn gso(&self) -> Gso {
        match (self.transport, self.is_v6) {
            (Transport::Tcp, false) => Gso::TcpV4,
            (Transport::Tcp, true) => Gso::TcpV6,
            (Transport::Udp, _) => Gso::Udp,
        }
    }

    fn may_begin(&self, packet: &[u8]) -> bool {
        let has_plain_flags = match self.transport {
            Transport::Tcp => {
                let (reserved, flags) = (packet[self.transport_at + 12] & 0xf, packet[self.transport_at + 13]);
                reserved == 0 && flags & ACK != 0 && flags & !(ACK | PSH | ECE) == 0
            }
            Transport::Udp => true,
        };
        has_plain_flags && self.has_valid_checksum(packet)
    }

    /// The sender wants it delivered without waiting for more.
    fn ends_burst(&self, packet: &[u8]) -> bool {
        self.transport == Transport::Tcp && packet[self.transport_at + 13] & PSH != 0
    }

    /// Of the IPv4 header and of the message. UDP without one gets none by cutting either, so it is not merged.
    fn has_valid_checksum(&self, packet: &[u8]) -> bool {
        let (ip, message) = packet.split_at(self.transport_at);
        let is_absent = self.transport == Transport::Udp && read_u16(message, 6) == 0;
        let is_ip_valid = self.is_v6 || Sum::default().bytes(ip).is_valid();
        !is_absent && is_ip_valid && Sum::pseudo_header(ip, self.transport, message.len()).bytes(message).is_valid()
    }

    /// What `packet` is, if it is the one that cutting would put `index` packets behind `first`.
    fn follower(&self, first: &[u8], index: usize, packet: &[u8]) -> Option<Self> {
        if packet.len() <= self.headers_len || packet.len() > self.headers_len + self.payload_len {
            return None;
        }
        (self.follows_by_ip(first, packet) && self.follows_by_transport(first, index, packet))
            .then(|| Self::of(packet))
            .flatten()
    }

    fn follows_by_ip(&self, first: &[u8], packet: &[u8]) -> bool {
        let same = |from: usize, to: usize| first[from..to] == packet[from..to];
        if self.is_v6 {
            // Traffic class and flow label; next header, hop limit, addresses.
            return same(0, 4) && same(6, V6_HEADER);
        }
        // Type of service; fragmentation, TTL, protocol; addresses.
        same(0, 2) && same(6, 10) && same(12, V4_HEADER)
    }

    /// By how much the identification rises with every packet, if `packet` is `index` packets behind `first`.
    fn step(&self, first: &[u8], index: usize, packet: &[u8]) -> Option<u16> {
        if self.is_v6 {
            return Some(1);
        }
        let risen = packet.get(4..6).map(|field| read_u16(field, 0).wrapping_sub(read_u16(first, 4)))?;
        let is_never_fragmented = first[6] & DONT_FRAGMENT != 0;
        match usize::from(risen) {
            0 if is_never_fragmented => Some(0),
            risen if risen == index => Some(1),
            _ => None,
        }
    }

    fn follows_by_transport(&self, first: &[u8], index: usize, packet: &[u8]) -> bool {
        let (first, packet) = (&first[self.transport_at..], &packet[self.transport_at..]);
        let same = |from: usize, to: usize| first[from..to] == packet[from..to];
        match self.transport {
            Transport::Udp => same(0, 4),
            Transport::Tcp => {
                let sequence = read_u32(first, 4).wrapping_add((index * self.payload_len) as u32);
                let header = self.headers_len - self.transport_at;
                // Ports; acknowledgement and length of the header; window; urgent pointer and options.
                same(0, 4)
                    && read_u32(packet, 4) == sequence
                    && same(8, 13)
                    && (first[13] ^ packet[13]) & !PSH == 0
                    && same(14, 16)
                    && same(18, header)
            }
        }
    }
}
