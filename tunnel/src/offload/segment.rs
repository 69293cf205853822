//! Cutting: a packet from the kernel, finished, or a super-packet as the packets it stands for.

use super::checksum::Sum;
use super::virtio::{Gso, VirtioNetHeader};
use super::{MAX_HEADERS, TCP_HEADER, Transport, UDP_HEADER, V4_HEADER, V6_HEADER, read_u16, read_u32, write_u16};
use crate::discard::Discard;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The packets of one read from a TUN device, one after the other. All are of equal length but the last, which may be
/// shorter.
///
/// Works in place: the headers of a segment are written over the end of the one before, so that a segment is to be used
/// up before the next is asked for.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a mut [u8],
    cut: Option<Cut>,
    next: usize,
}

/// How a super-packet is cut.
#[derive(Debug)]
struct Cut {
    transport: Transport,
    /// Where the transport's header begins.
    transport_at: usize,
    /// Of all headers.
    headers_len: usize,
    /// As they came; every segment's are made from them.
    headers: [u8; MAX_HEADERS],
    /// Of the IP header, and of the pseudo-header with the transport's, without the fields that differ from segment to
    /// segment. Reading back what was just written into a segment would take longer than its payload.
    ip_sum: Sum,
    transport_sum: Sum,
    /// Payload of every segment but the last.
    size: usize,
}

impl<'a> Segments<'a> {
    pub fn new(header: &VirtioNetHeader, packet: &'a mut [u8]) -> Result<Self, Discard> {
        let cut = match header.gso {
            Some(gso) => Some(Cut::new(gso, header, packet).ok_or(Discard::MalformedOffload)?),
            None if header.needs_checksum => {
                complete_checksum(header, packet).ok_or(Discard::MalformedOffload)?;
                None
            }
            None => None,
        };
        Ok(Self { packet, cut, next: 0 })
    }

    /// The length of what was read, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "nothing is read that is empty")]
    pub fn len(&self) -> usize {
        self.packet.len()
    }

    /// How many there are, used up or not.
    pub fn count(&self) -> usize {
        self.cut.as_ref().map_or(1, |cut| cut.count(self.packet.len()))
    }

    /// The next packet, whole and with valid checksums.
    pub fn next_segment(&mut self) -> Option<&mut [u8]> {
        let index = self.next;
        if index == self.count() {
            return None;
        }
        self.next += 1;
        match &self.cut {
            Some(cut) => Some(cut.stamp(index, self.packet)),
            None => Some(self.packet),
        }
    }
}

impl Cut {
    /// None if the headers are not those that `gso` needs.
    fn new(gso: Gso, header: &VirtioNetHeader, packet: &[u8]) -> Option<Self> {
        let version = packet.first()? >> 4;
        let transport = match (gso, version) {
            (Gso::TcpV4, 4) | (Gso::TcpV6, 6) => Transport::Tcp,
            (Gso::Udp, 4 | 6) => Transport::Udp,
            _ => return None,
        };
        let transport_at = usize::from(header.checksum_start);
        let is_placed = match version {
            4 => {
                let ip_len = usize::from(packet[0] & 0xf) * 4;
                ip_len >= V4_HEADER && ip_len == transport_at && *packet.get(9)? == transport.protocol()
            }
            _ => transport_at >= V6_HEADER,
        };
        let headers_len = transport_at
            + match transport {
                Transport::Tcp => usize::from(packet.get(transport_at + 12)? >> 4) * 4,
                Transport::Udp => UDP_HEADER,
            };
        let least = if transport == Transport::Tcp { TCP_HEADER } else { UDP_HEADER };
        let fits = headers_len - transport_at >= least && headers_len <= MAX_HEADERS && headers_len < packet.len();
        if !is_placed || !fits || header.gso_size == 0 || packet.len() > usize::from(u16::MAX) {
            return None;
        }
        let mut headers = [0; MAX_HEADERS];
        headers[..headers_len].copy_from_slice(&packet[..headers_len]);
        let [ip_sum, transport_sum] = sums(&headers[..headers_len], transport, transport_at);
        let size = usize::from(header.gso_size);
        Some(Self { transport, transport_at, headers_len, headers, ip_sum, transport_sum, size })
    }

    fn count(&self, packet_len: usize) -> usize {
        (packet_len - self.headers_len).div_ceil(self.size)
    }

    /// Writes the headers of segment `index` in front of its payload.
    fn stamp<'p>(&self, index: usize, packet: &'p mut [u8]) -> &'p mut [u8] {
        let is_last = index + 1 == self.count(packet.len());
        let start = index * self.size;
        let end = packet.len().min(start + self.headers_len + self.size);
        let segment = &mut packet[start..end];
        let (headers, payload) = segment.split_at_mut(self.headers_len);
        headers.copy_from_slice(&self.headers[..self.headers_len]);
        let len = self.headers_len + payload.len();
        let (ip, transport) = headers.split_at_mut(self.transport_at);
        stamp_ip(ip, len, index, self.ip_sum);
        let message_len = (len - self.transport_at) as u16;
        let sum = match self.transport {
            Transport::Tcp => stamp_tcp(transport, start as u32, index == 0, is_last),
            Transport::Udp => {
                write_u16(transport, 4, message_len);
                Sum::default().word(message_len)
            }
        };
        // Once more, of the pseudo-header.
        let sum = sum.and(self.transport_sum).word(message_len).bytes(payload);
        let field = self.transport.checksum_offset();
        transport[field..field + 2].copy_from_slice(&sum.transport_checksum());
        segment
    }
}

/// See [`Cut::ip_sum`] and [`Cut::transport_sum`].
fn sums(headers: &[u8], transport: Transport, transport_at: usize) -> [Sum; 2] {
    let mut same = [0; MAX_HEADERS];
    let same = &mut same[..headers.len()];
    same.copy_from_slice(headers);
    let (ip, message) = same.split_at_mut(transport_at);
    let pseudo_header = Sum::pseudo_header(ip, transport, 0);
    // Length and identification; checksum. IPv6 has no checksum.
    ip[2..6].fill(0);
    ip[10..12].fill(0);
    match transport {
        // Sequence number; flags, with the length of the header.
        Transport::Tcp => {
            message[4..8].fill(0);
            message[12..14].fill(0);
        }
        // Length.
        Transport::Udp => message[4..6].fill(0),
    }
    let field = transport.checksum_offset();
    message[field..field + 2].fill(0);
    [Sum::default().bytes(ip), pseudo_header.bytes(message)]
}

/// Length, and for IPv4 identification and checksum. `sum` is of the rest of the header.
fn stamp_ip(ip: &mut [u8], len: usize, index: usize, sum: Sum) {
    if ip[0] >> 4 == 6 {
        write_u16(ip, 4, (len - V6_HEADER) as u16);
        return;
    }
    let identification = read_u16(ip, 4).wrapping_add(index as u16);
    write_u16(ip, 2, len as u16);
    write_u16(ip, 4, identification);
    ip[10..12].copy_from_slice(&sum.word(len as u16).word(identification).checksum());
}

/// As the kernel's own segmentation: what ends a burst is said by its last packet, what answers congestion by its first
/// (RFC 3168 §6.1.2). The sum of what was written.
fn stamp_tcp(header: &mut [u8], offset: u32, is_first: bool, is_last: bool) -> Sum {
    let sequence = read_u32(header, 4).wrapping_add(offset);
    let mut flags = header[13];
    if !is_first {
        flags &= !CWR;
    }
    if !is_last {
        flags &= !(FIN | PSH);
    }
    header[4..8].copy_from_slice(&sequence.to_be_bytes());
    header[13] = flags;
    let with_len = u16::from_be_bytes([header[12], flags]);
    Sum::default().word((sequence >> 16) as u16).word(sequence as u16).word(with_len)
}

/// Does what the kernel left to a network card. None if the field lies outside.
fn complete_checksum(header: &VirtioNetHeader, packet: &mut [u8]) -> Option<()> {
    let message = packet.get_mut(usize::from(header.checksum_start)..)?;
    let field = usize::from(header.checksum_offset);
    message.get(field..field + 2)?;
    let checksum = Sum::default().bytes(message).transport_checksum();
    message[field..field + 2].copy_from_slice(&checksum);
    Some(())
}
