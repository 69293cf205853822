//! A thousand peers with live sessions, played by this process, and what they cost the device that has them.

use std::{
    fs::File,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};
use cladnet_tunnel::{
    BUFFER_SIZE, Epoch, Implementation, InterfaceConfig, InterfaceId, Outbox, PeerConfig, PrivateKey, PublicKey,
    Roaming, Tunnel,
};
use nix::sched::{CloneFlags, setns};
use rand::{rand_core::UnwrapErr, rngs::SysRng};

use crate::wait::eventually;

/// How long one attempt lasts.
const ANSWER: Duration = Duration::from_secs(1);
/// The device may still be taking in its peers when the first one calls.
const PATIENCE: Duration = Duration::from_secs(30);

/// What peers send, at once.
struct Socket<'a>(&'a UdpSocket);

impl Outbox for Socket<'_> {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]) {
        // A datagram that is lost shows as a session that is missing.
        let _ = self.0.send_to(datagram, to);
    }

    fn deliver(&mut self, _interface: InterfaceId, _packet: &[u8]) {}
}

/// The port that every peer of the swarm speaks from.
pub(super) const PORT: u16 = 51820;

/// The address that peer `number` of the swarm speaks from, outside.
pub(super) fn underlay(number: u16) -> String {
    format!("198.18.{}.{}", number >> 8, number & 0xff)
}

/// The address of peer `number` inside.
pub(super) fn overlay(number: u16) -> String {
    format!("10.99.{}.{}", number >> 8, number & 0xff)
}

/// Opens a session with `device` for every key, in this namespace, from addresses of their own.
pub(super) fn open_sessions(namespace: &str, keys: Vec<PrivateKey>, device: PublicKey, at: SocketAddr) -> Result<()> {
    let namespace = File::open(format!("/run/netns/{namespace}"))?;
    // A thread that has entered a namespace is of no use elsewhere: it ends with its work.
    let work = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        keys.into_iter().zip(0..).try_for_each(|(key, number)| {
            let what = format!("a session of peer {number}");
            eventually(&what, PATIENCE, || open_session(number, key.clone(), device, at))
        })
    });
    work.join().map_err(|_| anyhow!("a peer of the swarm panicked"))?
}

fn open_session(number: u16, private_key: PrivateKey, device: PublicKey, at: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind((underlay(number), PORT))?;
    socket.set_read_timeout(Some(ANSWER))?;
    let now = Instant::now();
    let tunnel = Tunnel::new(Implementation::Own, Epoch::new(now, SystemTime::now()), UnwrapErr(SysRng));
    let peer = PeerConfig {
        public_key: device,
        preshared_key: None,
        allowed_ips: vec!["0.0.0.0/0".parse()?],
        endpoint: Some(at),
        persistent_keepalive: None,
        roaming: Roaming::ByPackets,
        probes: false,
        trusted_endpoints: Vec::new(),
    };
    let config = InterfaceConfig { private_key, network: Some("10.99.0.0/16".parse()?), mtu: 1420, peers: vec![peer] };
    let (interface, _) = tunnel.add_interface(now, &config)?;
    let (mut buffer, mut datagram) = (vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]);
    let mut outbox = Socket(&socket);
    tunnel.initiate(now, interface, &[device], &mut buffer, &mut outbox);
    let (len, from) = socket.recv_from(&mut datagram).with_context(|| format!("no answer to peer {number}"))?;
    tunnel.open(Instant::now(), from, &datagram[..len], &mut buffer, &mut outbox)?;
    match tunnel.peer_stats(Instant::now(), interface)[..] {
        [ref stats] if stats.last_handshake.is_some() => Ok(()),
        _ => bail!("peer {number} has no session"),
    }
}
