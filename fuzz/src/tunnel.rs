//! Targets of the data plane: datagrams of anybody, inner packets of a peer, super-packets of the kernel.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use cladnet_tunnel::offload::{Mergeable, Segments, SuperPacket, VirtioNetHeader};
use cladnet_tunnel::{
    Access, AccessRule, Action, BUFFER_SIZE, Delivery, Epoch, Implementation, InterfaceConfig, InterfaceId, Outbox,
    PeerConfig, PrivateKey, PublicKey, ReceivedTrain, Roaming, Traffic, Tunnel,
};
use rand::{SeedableRng as _, rngs::StdRng};

/// Who is who in a pair: its number ends its addresses.
#[derive(Clone, Copy)]
struct Number(u8);

impl Number {
    fn endpoint(self) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, self.0], 8055))
    }

    fn overlay(self) -> [u8; 4] {
        [10, 9, 0, self.0]
    }

    fn overlay_v6(self) -> [u8; 16] {
        let mut address = [0xfd; 16];
        address[15] = self.0;
        address
    }
}

const NEAR: Number = Number(1);
const FAR: Number = Number(2);

#[derive(Default)]
struct Output {
    datagrams: Vec<Vec<u8>>,
    packets: Vec<Vec<u8>>,
}

impl Outbox for Output {
    fn transmit(&mut self, _to: SocketAddr, datagram: &[u8]) {
        self.datagrams.push(datagram.to_vec());
    }

    fn deliver(&mut self, _interface: InterfaceId, packet: &[u8]) {
        self.packets.push(packet.to_vec());
    }
}

struct Host {
    tunnel: Tunnel,
    interface: InterfaceId,
    now: Instant,
}

/// Two hosts with a session; equal in every call but for the clock.
struct Pair {
    near: Host,
    far: Host,
}

impl Pair {
    fn new() -> Self {
        let [near, far] = [NEAR, FAR].map(|number| PrivateKey::generate(&mut seeded(number.0)));
        let keys = [near.public_key(), far.public_key()];
        let pair = Self { near: Host::new(NEAR, near, keys[1], FAR), far: Host::new(FAR, far, keys[0], NEAR) };
        let mut output = Output::default();
        let (now, interface, mut buffer) = (pair.near.now, pair.near.interface, vec![0; BUFFER_SIZE]);
        pair.near.tunnel.initiate(now, interface, &keys[1..], &mut buffer, &mut output);
        for turn in 0.. {
            let (to, from) = if turn % 2 == 0 { (&pair.far, NEAR) } else { (&pair.near, FAR) };
            if output.datagrams.is_empty() {
                return pair;
            }
            for datagram in std::mem::take(&mut output.datagrams) {
                let opened = to.tunnel.open(now, from.endpoint(), &datagram, &mut buffer, &mut output);
                assert!(opened.is_ok(), "a handshake without an attacker succeeds");
            }
        }
        pair
    }
}

impl Host {
    fn new(number: Number, private_key: PrivateKey, peer: PublicKey, at: Number) -> Self {
        let now = Instant::now();
        let epoch = Epoch::new(now, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let tunnel = Tunnel::new(Implementation::Own, epoch, seeded(0x10 + number.0));
        let [a, b, c, d] = at.overlay();
        let peer = PeerConfig {
            public_key: peer,
            preshared_key: None,
            allowed_ips: vec![SocketAddr::from(([a, b, c, d], 0)).ip().into(), IpAddr::from(at.overlay_v6()).into()],
            endpoint: Some(at.endpoint()),
            persistent_keepalive: None,
            roaming: Roaming::ByPackets,
            probes: true,
            trusted_endpoints: vec![at.endpoint()],
        };
        let network = "10.9.0.0/24".parse().ok();
        let config = InterfaceConfig { private_key, network, mtu: 1420, peers: vec![peer] };
        let (interface, _) = tunnel.add_interface(now, &config).expect("the configuration is right");
        let access = Access { rules: vec![port_range()], default: Action::Deny };
        tunnel.set_access(now, interface, Some(&access)).expect("the interface is there");
        Self { tunnel, interface, now }
    }
}

/// Of everybody's destinations, some.
fn port_range() -> AccessRule {
    let everywhere = || vec!["0.0.0.0/0".parse().expect("a prefix"), "::/0".parse().expect("a prefix")];
    AccessRule {
        action: Action::Allow,
        sources: everywhere(),
        destinations: everywhere(),
        traffic: Traffic::Ports { protocol: 6, ports: vec![0..=32_767] },
    }
}

fn seeded(seed: u8) -> StdRng {
    StdRng::from_seed([seed; 32])
}

/// One read of the socket: the first byte says how long each datagram is, the others are they. Nothing of it is
/// authentic, so nothing is delivered.
pub(crate) fn datagrams(bytes: &[u8]) {
    let Some((&len, rest)) = bytes.split_first() else { return };
    let pair = Pair::new();
    let (mut datagrams, mut opened) = (rest.to_vec(), Vec::new());
    let (mut buffer, mut output) = (vec![0; BUFFER_SIZE], Output::default());
    let segment_size = usize::from(len).max(1);
    for from in [NEAR.endpoint(), SocketAddr::from(([198, 51, 100, 7], 9))] {
        let train = ReceivedTrain { from, datagrams: &mut datagrams, segment_size };
        pair.far.tunnel.open_train(pair.far.now, train, &mut opened, &mut buffer, &mut output);
        assert!(opened.is_empty() && output.packets.is_empty(), "nobody sealed this");
    }
}

/// Packets of a peer, each behind its length in one byte: what arrives was sent, and merges into no more than it was.
pub(crate) fn inner_packets(bytes: &[u8]) {
    let pair = Pair::new();
    let sent = packets(bytes);
    let (mut buffer, mut sealed) = (vec![0; BUFFER_SIZE], Output::default());
    for packet in &sent {
        let _ = pair.near.tunnel.seal(pair.near.now, pair.near.interface, packet, &mut buffer, &mut sealed);
        refuse(&pair.near, &[&packet[..], &[0; 1500]].concat());
    }
    let mut arrived = Vec::new();
    for datagram in &mut sealed.datagrams {
        let (mut opened, mut output) = (Vec::new(), Output::default());
        let segment_size = datagram.len();
        let train = ReceivedTrain { from: NEAR.endpoint(), datagrams: datagram, segment_size };
        pair.far.tunnel.open_train(pair.far.now, train, &mut opened, &mut buffer, &mut output);
        arrived.extend(opened.into_iter().map(|Delivery { packet, .. }| datagram[packet].to_vec()));
    }
    // One that says it is longer than it is ends in padding.
    let padded = |sent: &Vec<u8>| [&sent[..], &[0; 15]].concat();
    let was_sent = |packet: &Vec<u8>| sent.iter().any(|sent| padded(sent).starts_with(packet));
    assert!(arrived.iter().all(was_sent), "this was never sent");
    merge(&arrived);
}

/// Sends a packet that is too long for its path: who sent it is told, if anybody.
fn refuse(near: &Host, packet: &[u8]) {
    let (mut buffer, mut output) = (vec![0; BUFFER_SIZE], Output::default());
    let _ = near.tunnel.seal(near.now, near.interface, packet, &mut buffer, &mut output);
    for answer in output.packets {
        let [source, destination] = if packet[0] >> 4 == 4 { [12..16, 16..20] } else { [8..24, 24..40] };
        assert_eq!(answer[0] >> 4, packet[0] >> 4, "it is of the same family");
        assert_eq!((&answer[source.clone()], &answer[destination.clone()]), (&packet[destination], &packet[source]));
    }
}

/// As cut from `bytes`, with the addresses that let them pass.
fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut packets) = (bytes, Vec::new());
    while let Some((&len, behind)) = rest.split_first() {
        let (packet, next) = behind.split_at(behind.len().min(len.into()));
        let mut packet = packet.to_vec();
        if packet.len() >= 20 && packet[0] >> 4 == 4 {
            packet[12..16].copy_from_slice(&NEAR.overlay());
            packet[16..20].copy_from_slice(&FAR.overlay());
        }
        if packet.len() >= 40 && packet[0] >> 4 == 6 {
            packet[8..24].copy_from_slice(&NEAR.overlay_v6());
            packet[24..40].copy_from_slice(&FAR.overlay_v6());
        }
        packets.push(packet);
        rest = next;
    }
    packets
}

fn merge(packets: &[Vec<u8>]) {
    let mergeable = Mergeable { tcp_v4: true, tcp_v6: true, udp: true };
    let mut rest = packets;
    while let Some((first, others)) = rest.split_first() {
        let mut open = SuperPacket::new(first, mergeable);
        let joined = others.iter().take_while(|packet| open.join(packet)).count();
        assert_eq!(open.count(), 1 + joined);
        let (headers, payloads) = open.parts();
        let len = headers.len() + payloads.map(<[u8]>::len).sum::<usize>();
        assert!(len <= VirtioNetHeader::LEN + packets.iter().map(Vec::len).sum::<usize>());
        rest = &others[joined..];
    }
}

/// What a probe holds when it is opened: written as it was read, it is read the same.
pub(crate) fn probes(bytes: &[u8]) {
    assert!(cladnet_tunnel::fuzzing::probe_is_read_as_written(bytes));
}

/// A clear frame with the right token.
pub(crate) fn frames(bytes: &[u8]) {
    if let Some(packet) = cladnet_tunnel::fuzzing::frame(bytes) {
        assert!(packet.len() < bytes.len());
    }
}

/// What a TUN device gives: a virtio header and a packet.
pub(crate) fn super_packets(bytes: &[u8]) {
    let Some((header, packet)) = bytes.split_first_chunk::<{ VirtioNetHeader::LEN }>() else { return };
    let mut packet = packet.to_vec();
    let whole = packet.len();
    let Some(header) = VirtioNetHeader::parse(header) else { return };
    let Ok(mut segments) = Segments::new(&header, &mut packet) else { return };
    let count = segments.count();
    let mut cut = 0;
    while let Some(segment) = segments.next_segment() {
        assert!(segment.len() <= whole);
        cut += 1;
    }
    assert_eq!(cut, count);
}
