//! A wire in memory. Time passes only where a test says so, except for what `boringtun` reads from the clock itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use cladnet_tunnel::{
    BUFFER_SIZE, Discard, Epoch, Implementation, InterfaceConfig, InterfaceId, Outbox, PeerConfig, PeerStats,
    PresharedKey, PrivateKey, ProbeRequest, Proof, PublicKey, ReceivedTrain, Roaming, Sighting, Tunnel, Urgency,
};
use ipnet::IpNet;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

/// What a call put out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Output {
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) packets: Vec<(InterfaceId, Vec<u8>)>,
    /// What probes have shown.
    pub(crate) sightings: Vec<Sighting>,
}

impl Outbox for Output {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.datagrams.push((to, datagram.to_vec()));
    }

    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]) {
        self.packets.push((interface, packet.to_vec()));
    }

    fn sighted(&mut self, _: InterfaceId, _: PublicKey, sighting: Sighting) {
        self.sightings.push(sighting);
    }
}

impl Output {
    /// The only datagram there is.
    pub(crate) fn datagram(&self) -> &[u8] {
        assert_eq!(self.datagrams.len(), 1, "{self:?}");
        &self.datagrams[0].1
    }
}

/// A host with one interface; `number` makes up its overlay address 10.9.0.N and its endpoint 192.0.2.N:8055.
pub(crate) struct Host {
    pub(crate) tunnel: Tunnel,
    pub(crate) number: u8,
    pub(crate) interface: InterfaceId,
    pub(crate) private_key: PrivateKey,
    pub(crate) now: Instant,
}

impl Host {
    pub(crate) fn new(number: u8, peers: Vec<PeerConfig>) -> Self {
        Self::with_key(number, PrivateKey::generate(&mut rand::rng()), peers)
    }

    pub(crate) fn with_key(number: u8, private_key: PrivateKey, peers: Vec<PeerConfig>) -> Self {
        Self::on(crate::IMPLEMENTATION, number, private_key, peers)
    }

    pub(crate) fn on(
        implementation: Implementation,
        number: u8,
        private_key: PrivateKey,
        peers: Vec<PeerConfig>,
    ) -> Self {
        let now = Instant::now();
        let tunnel = Tunnel::new(implementation, Epoch::new(now, SystemTime::now()), UnwrapErr(SysRng));
        let config = InterfaceConfig { private_key: private_key.clone(), network: Some(network()), mtu: 1420, peers };
        let (interface, _) = tunnel.add_interface(now, &config).unwrap();
        Self { tunnel, number, interface, private_key, now }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.private_key.public_key()
    }

    pub(crate) fn endpoint(&self) -> SocketAddr {
        endpoint(self.number)
    }

    /// How others would configure this host.
    pub(crate) fn as_peer(&self) -> PeerConfig {
        peer(self.number, self.public_key())
    }

    pub(crate) fn set_peers(&self, peers: &[PeerConfig]) -> cladnet_tunnel::Applied {
        self.tunnel.update_interface(self.now, self.interface, Some(network()), 1420, peers).unwrap()
    }

    pub(crate) fn seal(&self, packet: &[u8]) -> Result<Output, Discard> {
        let mut output = Output::default();
        self.tunnel.seal(self.now, self.interface, packet, &mut vec![0; BUFFER_SIZE], &mut output).map(|()| output)
    }

    /// Seals all packets as one train.
    pub(crate) fn seal_train(&self, packets: &[Vec<u8>]) -> Result<Output, Discard> {
        self.seal_train_as(packets, false)
    }

    /// The same for a train that may overtake others.
    pub(crate) fn seal_overtaking(&self, packets: &[Vec<u8>]) -> Result<Output, Discard> {
        self.seal_train_as(packets, true)
    }

    fn seal_train_as(&self, packets: &[Vec<u8>], may_overtake: bool) -> Result<Output, Discard> {
        let (mut space, mut output) = (vec![0xaa; BUFFER_SIZE], Output::default());
        let to = packets[0].get(16..20).map(|ip| Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]).into());
        let mut train = self.tunnel.train(self.interface, to, &mut space).unwrap();
        train.set_may_overtake(may_overtake);
        assert!(packets.iter().all(|packet| train.push(packet)));
        self.tunnel.seal_train(self.now, train, &mut vec![0; BUFFER_SIZE], &mut output).map(|()| output)
    }

    /// Opens datagrams that arrived one after the other, all but the last as long as the first.
    pub(crate) fn open_train(&self, from: SocketAddr, datagrams: &[Vec<u8>]) -> Output {
        let (mut bytes, mut output) = (datagrams.concat(), Output::default());
        let (mut deliveries, stride) = (Vec::new(), datagrams[0].len());
        let mut buffer = vec![0; BUFFER_SIZE];
        let train = ReceivedTrain { from, datagrams: &mut bytes, segment_size: stride };
        self.tunnel.open_train(self.now, train, &mut deliveries, &mut buffer, &mut output);
        output.packets.extend(deliveries.into_iter().map(|it| (it.interface, bytes[it.packet].to_vec())));
        output
    }

    pub(crate) fn open(&self, from: SocketAddr, datagram: &[u8]) -> Result<Output, Discard> {
        let (result, output) = self.open_both(from, datagram);
        result.map(|()| output)
    }

    /// Also what was put out beside a discard: a cookie reply, packets that had waited.
    pub(crate) fn open_both(&self, from: SocketAddr, datagram: &[u8]) -> (Result<(), Discard>, Output) {
        let mut output = Output::default();
        let result = self.tunnel.open(self.now, from, datagram, &mut vec![0; BUFFER_SIZE], &mut output);
        (result, output)
    }

    pub(crate) fn initiate(&self, peers: &[PublicKey]) -> Output {
        let mut output = Output::default();
        self.tunnel.initiate(self.now, self.interface, peers, &mut vec![0; BUFFER_SIZE], &mut output);
        output
    }

    /// Asks `peer` at these endpoints.
    pub(crate) fn probe(&self, peer: &Host, endpoints: &[SocketAddr], size: usize) -> Output {
        let (request, mut output) = (ProbeRequest { endpoints, size, urgency: Urgency::Routine }, Output::default());
        let (key, mut buffer) = (peer.public_key(), vec![0xaa; BUFFER_SIZE]);
        self.tunnel.probe(self.now, self.interface, &key, request, &mut buffer, &mut output);
        output
    }

    pub(crate) fn proofs_of(&self, peer: &Host) -> Vec<Proof> {
        self.tunnel.proofs(self.now, self.interface, &peer.public_key())
    }

    pub(crate) fn announce(&self) -> Output {
        let mut output = Output::default();
        self.tunnel.announce(self.now, &mut vec![0; BUFFER_SIZE], &mut output);
        output
    }

    /// What a device asks for after every change of configuration.
    pub(crate) fn probe_due(&self) -> Output {
        let mut output = Output::default();
        self.tunnel.probe_due(self.now, &mut vec![0; BUFFER_SIZE], &mut output);
        output
    }

    pub(crate) fn pass(&mut self, time: Duration) -> Output {
        self.now += time;
        let mut output = Output::default();
        self.tunnel.handle_timeout(self.now, &mut vec![0; BUFFER_SIZE], &mut output);
        output
    }

    pub(crate) fn stats_of(&self, peer: &Host) -> PeerStats {
        let stats = self.tunnel.peer_stats(self.now, self.interface);
        stats.into_iter().find(|stats| stats.public_key == peer.public_key()).unwrap()
    }
}

/// Where the overlay addresses of all hosts are.
pub(crate) fn network() -> IpNet {
    "10.9.0.0/24".parse().unwrap()
}

pub(crate) fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 8055))
}

pub(crate) fn peer(number: u8, public_key: PublicKey) -> PeerConfig {
    PeerConfig {
        public_key,
        preshared_key: None,
        allowed_ips: vec![format!("10.9.0.{number}/32").parse().unwrap()],
        endpoint: Some(endpoint(number)),
        persistent_keepalive: None,
        roaming: Roaming::ByPackets,
        probes: true,
        trusted_endpoints: vec![],
    }
}

/// Hosts 1 and 2 that know each other, without a session yet.
pub(crate) fn strangers() -> (Host, Host) {
    with_preshared_keys(None, None)
}

pub(crate) fn with_preshared_keys(mine: Option<PresharedKey>, yours: Option<PresharedKey>) -> (Host, Host) {
    let (a, b) = (Host::new(1, vec![]), Host::new(2, vec![]));
    a.set_peers(&[PeerConfig { preshared_key: mine, ..b.as_peer() }]);
    b.set_peers(&[PeerConfig { preshared_key: yours, ..a.as_peer() }]);
    (a, b)
}

/// Hosts 1 and 2 with a session that both have used.
pub(crate) fn friends() -> (Host, Host) {
    let (a, b) = strangers();
    let delivered = carry(&a, &b, a.initiate(&[b.public_key()]));
    assert!(delivered.is_empty());
    assert!(a.stats_of(&b).last_handshake.is_some() && b.stats_of(&a).last_handshake.is_some());
    (a, b)
}

/// Carries `output` of `a` to `b`, the answers back, and so on until nobody says anything. Returns the inner packets
/// that came out at either end, with the number of the host.
pub(crate) fn carry(a: &Host, b: &Host, output: Output) -> Vec<(u8, Vec<u8>)> {
    let mut delivered = Vec::new();
    let (mut sender, mut receiver, mut pending) = (a, b, output);
    for _ in 0..8 {
        let mut answers = Output::default();
        for (to, datagram) in &pending.datagrams {
            assert_eq!(*to, receiver.endpoint());
            let (_, output) = receiver.open_both(sender.endpoint(), datagram);
            delivered.extend(output.packets.iter().map(|(_, packet)| (receiver.number, packet.clone())));
            answers.datagrams.extend(output.datagrams);
        }
        if answers.datagrams.is_empty() {
            return delivered;
        }
        (sender, receiver, pending) = (receiver, sender, answers);
    }
    panic!("the hosts never stop talking");
}

/// An IPv4 packet between two overlay addresses.
pub(crate) fn packet(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let len = 20 + payload.len();
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet.extend_from_slice(payload);
    packet
}

/// A packet from one host's overlay address to another's.
pub(crate) fn between(source: u8, destination: u8, payload: &[u8]) -> Vec<u8> {
    packet(Ipv4Addr::new(10, 9, 0, source), Ipv4Addr::new(10, 9, 0, destination), payload)
}
