//! Cutting and merging as one is the opposite of the other: properties of both, and what each must refuse.

use proptest::prelude::*;

use super::checksum::Sum;
use super::*;
use crate::discard::Discard;

const ALL: Mergeable = Mergeable { tcp_v4: true, tcp_v6: true, udp: true };
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
const DONT_FRAGMENT: u8 = 0x40;

/// What the headers of a packet say beside its length.
#[derive(Debug, Clone)]
struct Template {
    is_v6: bool,
    transport: Transport,
    identification: u16,
    /// By which the next packet's identification is higher.
    step: u16,
    may_be_fragmented: bool,
    sequence: u32,
    flags: u8,
    /// Of TCP; a multiple of four.
    options: Vec<u8>,
    traffic_class: u8,
    hop_limit: u8,
}

impl Template {
    fn tcp() -> Self {
        Self {
            is_v6: false,
            transport: Transport::Tcp,
            identification: 0xfffe,
            step: 1,
            may_be_fragmented: false,
            sequence: u32::MAX - 1000,
            flags: ACK,
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            traffic_class: 0,
            hop_limit: 64,
        }
    }

    fn transport_at(&self) -> usize {
        if self.is_v6 { V6_HEADER } else { V4_HEADER }
    }

    fn headers_len(&self) -> usize {
        self.transport_at()
            + if self.transport == Transport::Udp { UDP_HEADER } else { TCP_HEADER + self.options.len() }
    }

    fn gso(&self) -> Gso {
        match (self.transport, self.is_v6) {
            (Transport::Udp, _) => Gso::Udp,
            (Transport::Tcp, false) => Gso::TcpV4,
            (Transport::Tcp, true) => Gso::TcpV6,
        }
    }

    /// A whole packet with valid checksums.
    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut ip = if self.is_v6 { self.v6_header(payload.len()) } else { self.v4_header(payload.len()) };
        let mut message = match self.transport {
            Transport::Tcp => self.tcp_header(),
            Transport::Udp => {
                let len = (UDP_HEADER + payload.len()) as u16;
                [&[0x30, 0x39, 0x01, 0xbb][..], &len.to_be_bytes(), &[0, 0]].concat()
            }
        };
        message.extend_from_slice(payload);
        let checksum = Sum::pseudo_header(&ip, self.transport, message.len()).bytes(&message).transport_checksum();
        let field = self.transport.checksum_offset();
        message[field..field + 2].copy_from_slice(&checksum);
        ip.extend(message);
        ip
    }

    fn v4_header(&self, payload_len: usize) -> Vec<u8> {
        let mut header = vec![0; V4_HEADER];
        header[0] = 0x45;
        header[1] = self.traffic_class;
        write_u16(&mut header, 2, (self.headers_len() + payload_len) as u16);
        write_u16(&mut header, 4, self.identification);
        header[6] = if self.may_be_fragmented { 0 } else { DONT_FRAGMENT };
        header[8] = self.hop_limit;
        header[9] = self.transport.protocol();
        header[12..].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let checksum = Sum::default().bytes(&header).checksum();
        header[10..12].copy_from_slice(&checksum);
        header
    }

    fn v6_header(&self, payload_len: usize) -> Vec<u8> {
        let mut header = vec![0; V6_HEADER];
        header[0] = 0x60 | self.traffic_class >> 4;
        header[1] = self.traffic_class << 4;
        write_u16(&mut header, 4, (self.headers_len() - V6_HEADER + payload_len) as u16);
        header[6] = self.transport.protocol();
        header[7] = self.hop_limit;
        (header[23], header[39]) = (1, 2);
        header
    }

    fn tcp_header(&self) -> Vec<u8> {
        let mut header = vec![0; TCP_HEADER];
        header[..4].copy_from_slice(&[0x30, 0x39, 0x01, 0xbb]);
        header[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&[0, 0, 1, 2]);
        header[12] = (((TCP_HEADER + self.options.len()) / 4) << 4) as u8;
        header[13] = self.flags;
        header[14..16].copy_from_slice(&[0x20, 0]);
        header.extend_from_slice(&self.options);
        header
    }

    /// The packet that follows this one `payload_len` bytes later.
    fn next(&self, payload_len: usize) -> Self {
        Self {
            identification: self.identification.wrapping_add(self.step),
            sequence: self.sequence.wrapping_add(payload_len as u32),
            ..self.clone()
        }
    }

    /// As the kernel gives it: one packet of any length, its checksum for us to complete.
    fn super_packet(&self, payload: &[u8], size: usize) -> (VirtioNetHeader, Vec<u8>) {
        let mut packet = self.packet(payload);
        let (ip, message) = packet.split_at_mut(self.transport_at());
        let field = self.transport.checksum_offset();
        let partial = Sum::pseudo_header(ip, self.transport, message.len()).partial();
        message[field..field + 2].copy_from_slice(&partial);
        let header = VirtioNetHeader {
            needs_checksum: true,
            gso: Some(self.gso()),
            header_len: self.headers_len() as u16,
            gso_size: size as u16,
            checksum_start: self.transport_at() as u16,
            checksum_offset: field as u16,
        };
        (header, packet)
    }

    /// What cutting must give: built packet by packet.
    fn train(&self, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        let count = payload.chunks(size).count();
        let mut template = self.clone();
        let mut packets = Vec::new();
        for (index, chunk) in payload.chunks(size).enumerate() {
            template.flags = self.flags;
            if index > 0 {
                template.flags &= !CWR;
            }
            if index + 1 < count {
                template.flags &= !(FIN | PSH);
            }
            packets.push(template.packet(chunk));
            template = template.next(chunk.len());
        }
        packets
    }
}

fn cut(header: &VirtioNetHeader, packet: &mut [u8]) -> Result<Vec<Vec<u8>>, Discard> {
    let mut segments = Segments::new(header, packet)?;
    let mut packets = Vec::with_capacity(segments.count());
    while let Some(packet) = segments.next_segment() {
        packets.push(packet.to_vec());
    }
    assert_eq!(packets.len(), segments.count());
    Ok(packets)
}

/// Everything a device would be given for these packets, in order.
fn merge(packets: &[Vec<u8>], mergeable: Mergeable) -> Vec<(VirtioNetHeader, Vec<u8>)> {
    let mut written = Vec::new();
    let mut rest = packets.iter();
    let Some(first) = rest.next() else { return written };
    let mut open = SuperPacket::new(first, mergeable);
    for packet in rest {
        if !open.join(packet) {
            written.push(write(&mut open));
            open = SuperPacket::new(packet, mergeable);
        }
    }
    written.push(write(&mut open));
    written
}

fn write(packet: &mut SuperPacket<'_>) -> (VirtioNetHeader, Vec<u8>) {
    let (headers, payloads) = packet.parts();
    let (virtio, headers) = headers.split_first_chunk().expect("a virtio header comes first");
    let whole = headers.iter().copied().chain(payloads.flatten().copied()).collect();
    (VirtioNetHeader::parse(virtio).expect("our own header is known"), whole)
}

fn cut_all(written: Vec<(VirtioNetHeader, Vec<u8>)>) -> Vec<Vec<u8>> {
    written.into_iter().flat_map(|(header, mut packet)| cut(&header, &mut packet).unwrap()).collect()
}

/// Packets as whoever receives them sees them: of one that may not be fragmented, the identification says nothing
/// (RFC 6864 §4.1).
fn as_received(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let unidentified = |packet: &Vec<u8>| {
        let mut packet = packet.clone();
        if packet.len() >= V4_HEADER
            && packet[0] == 0x45
            && packet[6] & DONT_FRAGMENT != 0
            && Sum::default().bytes(&packet[..V4_HEADER]).is_valid()
        {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        packet
    };
    packets.iter().map(unidentified).collect()
}

fn template() -> impl Strategy<Value = Template> {
    let flags = prop::sample::subsequence(vec![FIN, PSH, ECE, CWR], 0..=4);
    let is = (any::<bool>(), any::<bool>(), any::<bool>());
    (is, any::<u16>(), any::<u32>(), flags, 0usize..=10, any::<u8>(), any::<u8>()).prop_map(
        |((is_v6, is_tcp, may_be_fragmented), identification, sequence, flags, options, traffic_class, hop_limit)| {
            Template {
                is_v6,
                transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
                identification,
                step: 1,
                may_be_fragmented,
                sequence,
                flags: flags.into_iter().fold(ACK, |flags, flag| flags | flag),
                options: vec![1; options * 4],
                traffic_class,
                hop_limit,
            }
        },
    )
}

fn payload() -> impl Strategy<Value = (Vec<u8>, usize)> {
    (1usize..300).prop_flat_map(|size| (prop::collection::vec(any::<u8>(), 1..size * 20), Just(size)))
}

/// Trains of a few flows, some packets of which are harmed, lost, doubled or swapped.
fn traffic() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let train = (template(), 0u16..3, payload())
        .prop_map(|(template, step, (payload, size))| Template { step, ..template }.train(&payload, size));
    let harm = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4, 1u8..=255);
    (prop::collection::vec(train, 1..4), prop::collection::vec(harm, 0..6)).prop_map(|(trains, harms)| {
        let mut packets = trains.concat();
        for (which, place, kind, bits) in harms {
            let which = which.index(packets.len());
            match kind {
                0 => {
                    // Headers are where it matters.
                    let place = place.index(packets[which].len().min(60));
                    packets[which][place] ^= bits;
                }
                1 => packets.insert(which, packets[which].clone()),
                2 => {
                    let other = place.index(packets.len());
                    packets.swap(which, other);
                }
                _ if packets.len() > 1 => drop(packets.remove(which)),
                _ => {}
            }
        }
        packets
    })
}

proptest! {
    #[test]
    fn a_super_packet_is_cut_into_the_packets_it_stands_for(template in template(), (payload, size) in payload()) {
        let (header, mut packet) = template.super_packet(&payload, size);
        prop_assert_eq!(cut(&header, &mut packet), Ok(template.train(&payload, size)));
    }

    #[test]
    fn cutting_brings_back_whatever_was_merged(packets in traffic()) {
        let cut = cut_all(merge(&packets, ALL));
        prop_assert_eq!(as_received(&cut), as_received(&packets));
    }

    #[test]
    fn a_train_becomes_one_packet(template in template(), (payload, size) in payload()) {
        let template = Template { flags: template.flags & !(FIN | CWR), ..template };
        let packets = template.train(&payload, size);
        let merged = merge(&packets, ALL);
        prop_assert_eq!(merged.len(), 1);
        if packets.len() > 1 {
            prop_assert_eq!(&merged[0], &template.super_packet(&payload, size));
        }
    }

    #[test]
    fn a_device_gets_no_super_packet_that_it_does_not_take(packets in traffic()) {
        for mergeable in [
            Mergeable::default(),
            Mergeable { tcp_v4: true, ..Mergeable::default() },
            Mergeable { tcp_v6: true, ..Mergeable::default() },
            Mergeable { udp: true, ..Mergeable::default() },
        ] {
            for (header, _) in merge(&packets, mergeable) {
                let is_taken = match header.gso {
                    None => !header.needs_checksum,
                    Some(Gso::TcpV4) => mergeable.tcp_v4,
                    Some(Gso::TcpV6) => mergeable.tcp_v6,
                    Some(Gso::Udp) => mergeable.udp,
                };
                prop_assert!(is_taken);
            }
        }
    }

    #[test]
    fn an_unfinished_packet_is_finished(template in template(), payload in prop::collection::vec(any::<u8>(), 1..2000)) {
        let whole = template.packet(&payload);
        let (header, mut packet) = template.super_packet(&payload, 1);
        prop_assert_eq!(cut(&VirtioNetHeader { gso: None, ..header }, &mut packet), Ok(vec![whole]));
    }

    #[test]
    fn no_bytes_panic(
        header: [u8; VirtioNetHeader::LEN],
        mut packet in prop::collection::vec(any::<u8>(), 0..200),
        first in prop::sample::select(vec![0x45, 0x46, 0x60]),
        protocol in prop::sample::select(vec![6, 17]),
    ) {
        if packet.len() > 40 {
            (packet[0], packet[6], packet[9]) = (first, protocol, protocol);
        }
        let packets = [packet.clone(), packet.clone()];
        prop_assert_eq!(as_received(&cut_all(merge(&packets, ALL))), as_received(&packets));
        if let Some(header) = VirtioNetHeader::parse(&header) {
            let _ = cut(&header, &mut packet);
            let small = VirtioNetHeader { checksum_start: header.checksum_start % 64, ..header };
            let _ = cut(&small, &mut packet);
        }
    }
}

#[test]
fn a_malformed_super_packet_is_discarded_by_name() {
    let template = Template::tcp();
    let (header, packet) = template.super_packet(&[7; 3000], 1000);
    let refused = |header: VirtioNetHeader, mut packet: Vec<u8>| {
        assert_eq!(cut(&header, &mut packet), Err(Discard::MalformedOffload), "{header:?}");
    };
    refused(VirtioNetHeader { gso_size: 0, ..header }, packet.clone());
    refused(VirtioNetHeader { gso: Some(Gso::TcpV6), ..header }, packet.clone());
    refused(VirtioNetHeader { gso: Some(Gso::Udp), ..header }, packet.clone());
    refused(VirtioNetHeader { checksum_start: 24, ..header }, packet.clone());
    refused(header, packet[..template.headers_len()].to_vec());
    refused(header, packet[..15].to_vec());
    refused(header, Vec::new());
    let unfinished = VirtioNetHeader { gso: None, ..header };
    refused(VirtioNetHeader { checksum_start: u16::MAX, ..unfinished }, packet.clone());
    refused(VirtioNetHeader { checksum_offset: u16::MAX, ..unfinished }, packet);
}

#[test]
fn what_an_application_could_tell_apart_is_not_merged() {
    let first = Template::tcp();
    let second = first.next(100);
    let merges = |packet: Vec<u8>| {
        let first = first.packet(&[1; 100]);
        SuperPacket::new(&first, ALL).join(&packet)
    };
    assert!(merges(second.packet(&[2; 100])));
    assert!(merges(second.packet(&[2; 50])));
    assert!(merges(Template { flags: ACK | PSH, ..second.clone() }.packet(&[2; 100])));

    assert!(!merges(second.packet(&[2; 101])), "longer than the first");
    assert!(!merges(second.packet(&[])), "a mere acknowledgement");
    for flags in [ACK | FIN, ACK | SYN, ACK | ECE, ACK | CWR, 0] {
        assert!(!merges(Template { flags, ..second.clone() }.packet(&[2; 100])), "flags {flags:#x}");
    }
    assert!(!merges(Template { sequence: 7, ..second.clone() }.packet(&[2; 100])));
    assert!(!merges(Template { identification: 7, ..second.clone() }.packet(&[2; 100])));
    assert!(!merges(Template { hop_limit: 63, ..second.clone() }.packet(&[2; 100])));
    assert!(!merges(Template { traffic_class: 3, ..second.clone() }.packet(&[2; 100])));
    assert!(!merges(Template { options: vec![1; 12], ..second.clone() }.packet(&[2; 100])));
    assert!(!merges(Template { options: vec![], ..second.clone() }.packet(&[2; 112])));
    let mut corrupt = second.packet(&[2; 100]);
    corrupt[120] ^= 1;
    assert!(!merges(corrupt));
}

#[test]
fn nothing_follows_a_burst_that_has_ended_or_a_short_packet() {
    let pushed = Template { flags: ACK | PSH, ..Template::tcp() };
    let (first, second) = (pushed.packet(&[1; 100]), pushed.next(100).packet(&[1; 100]));
    assert!(!SuperPacket::new(&first, ALL).join(&second));

    let template = Template::tcp();
    let packets = [template.clone(), template.next(100), template.next(100).next(60)];
    let lens = [100, 60, 60];
    let [first, second, third] = [0, 1, 2].map(|n| packets[n].packet(&vec![1; lens[n]]));
    let mut open = SuperPacket::new(&first, ALL);
    assert!(open.join(&second));
    assert!(!open.join(&third));
}

#[test]
fn no_super_packet_outgrows_the_length_field_or_the_train() {
    let template = Template::tcp();
    let merged = merge(&template.train(&vec![1; 200_000], 8_000), ALL);
    assert!(merged.iter().all(|(_, packet)| packet.len() <= usize::from(u16::MAX)));
    assert_eq!(merged.len(), 4);
    assert_eq!(merge(&template.train(&[1; 200], 1), ALL).len(), 200usize.div_ceil(MAX_SEGMENTS));
}

#[test]
fn packets_that_are_never_fragmented_may_all_have_one_identification() {
    let merged = |identifications: [u16; 4], may_be_fragmented: bool| {
        let mut template = Template { transport: Transport::Udp, may_be_fragmented, ..Template::tcp() };
        let packets = identifications.map(|identification| {
            template.identification = identification;
            template.packet(&[1; 100])
        });
        merge(&packets, ALL).len()
    };
    for (identifications, count) in
        [([0; 4], 1), ([7; 4], 1), ([7, 8, 9, 10], 1), ([7, 7, 8, 8], 2), ([7, 7, 9, 10], 2), ([7, 8, 8, 8], 2)]
    {
        assert_eq!(merged(identifications, false), count, "{identifications:?}");
    }
    for (identifications, count) in [([0; 4], 4), ([7, 8, 9, 10], 1), ([9, 7, 5, 3], 4)] {
        assert_eq!(merged(identifications, true), count, "{identifications:?}");
    }
}

#[test]
fn udp_without_a_checksum_is_left_alone() {
    let template = Template { transport: Transport::Udp, ..Template::tcp() };
    let mut packets = [template.packet(&[1; 100]), template.next(100).packet(&[1; 100])];
    assert_eq!(merge(&packets, ALL).len(), 1);
    for packet in &mut packets {
        packet[V4_HEADER + 6..][..2].fill(0);
    }
    assert_eq!(merge(&packets, ALL).len(), 2);
}
