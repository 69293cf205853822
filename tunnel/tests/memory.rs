//! What a thousand peers cost in memory. Alone in its program, so that nothing else is measured.

#![expect(clippy::unwrap_used, reason = "a test may just fail")]

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use cladnet_tunnel::{
    BUFFER_SIZE, Epoch, Implementation, InterfaceConfig, InterfaceId, Outbox, PeerConfig, PrivateKey, PublicKey,
    Roaming, Tunnel,
};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

const PEERS: usize = 1000;
/// Of the 20 MB that an agent may take with them, the rest is for everything else.
const BYTES_PER_PEER: usize = 8 << 10;

#[derive(Default)]
struct Sent(Vec<Vec<u8>>);

impl Outbox for Sent {
    fn transmit(&mut self, _to: SocketAddr, datagram: &[u8]) {
        self.0.push(datagram.to_vec());
    }

    fn deliver(&mut self, _interface: InterfaceId, _packet: &[u8]) {}
}

struct Host {
    tunnel: Tunnel,
    interface: InterfaceId,
}

impl Host {
    fn new(private_key: PrivateKey, now: Instant, peers: Vec<PeerConfig>) -> Self {
        let tunnel = Tunnel::new(Implementation::Own, Epoch::new(now, SystemTime::now()), UnwrapErr(SysRng));
        let config = InterfaceConfig { private_key, network: "10.0.0.0/8".parse().ok(), mtu: 1420, peers };
        let (interface, _) = tunnel.add_interface(now, &config).unwrap();
        Self { tunnel, interface }
    }

    /// Carries a handshake that this host begins.
    fn greet(&self, other: &Self, public_key: PublicKey, now: Instant, buffer: &mut [u8]) {
        let (mut pending, mut hosts) = (Sent::default(), [self, other]);
        self.tunnel.initiate(now, self.interface, &[public_key], buffer, &mut pending);
        while !pending.0.is_empty() {
            hosts.reverse();
            for datagram in std::mem::take(&mut pending).0 {
                hosts[0].tunnel.open(now, endpoint(0), &datagram, buffer, &mut pending).unwrap();
            }
        }
    }
}

fn endpoint(number: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1024 + number as u16))
}

fn peer(public_key: PublicKey, number: usize) -> PeerConfig {
    PeerConfig {
        public_key,
        preshared_key: None,
        allowed_ips: vec![format!("10.0.{}.{}/32", number / 256, number % 256).parse().unwrap()],
        endpoint: Some(endpoint(number)),
        persistent_keepalive: Some(Duration::from_secs(25)),
        roaming: Roaming::ByPackets,
        probes: true,
        trusted_endpoints: vec![],
    }
}

/// Resident anonymous memory of this process.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[test]
fn a_thousand_peers_with_sessions_fit_into_eight_mebibytes() {
    let mut now = Instant::now();
    let mut buffer = vec![1; BUFFER_SIZE];
    let hub_key = PrivateKey::generate(&mut rand::rng());
    let keys: Vec<_> = (0..PEERS).map(|_| PrivateKey::generate(&mut rand::rng())).collect();
    let before = resident();
    let peers = keys.iter().enumerate().map(|(number, key)| peer(key.public_key(), number)).collect();
    let hub = Host::new(hub_key.clone(), now, peers);
    for key in &keys {
        let spoke = Host::new(key.clone(), now, vec![peer(hub_key.public_key(), 0)]);
        // Twice, so that the session before is still there, as it is after each renewal.
        spoke.greet(&hub, hub_key.public_key(), now, &mut buffer);
        now += Duration::from_secs(1) / 256;
        hub.greet(&spoke, key.public_key(), now, &mut buffer);
        now += Duration::from_secs(1) / 256;
    }
    let stats = hub.tunnel.peer_stats(now, hub.interface);
    assert!(stats.len() == PEERS && stats.iter().all(|peer| peer.last_handshake.is_some()));
    let each = (resident() - before) / PEERS;
    println!("{each} bytes per peer with two sessions");
    assert!(each <= BYTES_PER_PEER, "{each} bytes per peer");
}
