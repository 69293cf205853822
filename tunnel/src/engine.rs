//! The seam behind which a WireGuard implementation stands: [`Engine`] for one interface, [`PeerEngine`] for one peer
//! of it.
//!
//! Drawn so that an engine that keeps its session keys to itself fits as well as one of our own. Every method works in
//! the caller's buffers; none owns a socket or a thread.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::discard::Discard;
use crate::key::{PresharedKey, PublicKey};

pub mod boringtun;

/// One interface's identity: knows its private key and who may cost it a handshake.
pub trait Engine: Send + Sync {
    fn public_key(&self) -> PublicKey;

    /// Whether a handshake message deserves work: mac1 under our key, and under load mac2 as well (whitepaper §5.3).
    /// A cookie reply is written into `reply`.
    fn admit(&self, now: Instant, from: IpAddr, message: &[u8], reply: &mut [u8]) -> Result<(), Refusal>;

    /// Who sent an admitted handshake initiation; not yet proof that it is fresh.
    fn initiator(&self, message: &[u8]) -> Result<PublicKey, Discard>;

    fn peer(&self, now: Instant, parameters: PeerParameters) -> Result<Box<dyn PeerEngine>, WeakKey>;

    fn handle_timeout(&self, now: Instant);
}

/// Why a handshake message goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Meant for another interface, or for nobody.
    WrongMac,
    /// We are under load: send this many bytes of `reply` back.
    Cookie(usize),
    Discard(Discard),
}

/// What a peer's engine is made from.
#[derive(Debug)]
pub struct PeerParameters {
    pub public_key: PublicKey,
    pub preshared_key: Option<PresharedKey>,
    pub persistent_keepalive: Option<Duration>,
    /// The upper 24 bits of every session index this peer will ask others to address it by; unique on the host.
    pub index: u32,
}

/// A public key whose shared secret anybody can compute (a point of low order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("weak key: it gives every private key the same shared secret")]
pub struct WeakKey;

/// The state towards one peer: handshake, timers, sessions. Callers hold it behind a lock and write out what it
/// produced after they have let go.
pub trait PeerEngine: Send {
    /// Seals an inner packet into `datagram`. Without a session the packet waits in a bounded queue and the datagram,
    /// if any, is a handshake initiation.
    fn seal(&mut self, now: Instant, packet: &[u8], datagram: &mut [u8]) -> Result<Step, Discard>;

    /// Takes one message of this peer; handshake messages must have been admitted. `Ok` means that it was authentic,
    /// except for a cookie reply.
    fn open(&mut self, now: Instant, message: &[u8], out: &mut [u8]) -> Result<Step, Discard>;

    /// Whether [`PeerEngine::seal_queued`] has something to send.
    fn has_queued(&self) -> bool;

    /// Seals the next packet that had waited for a session.
    fn seal_queued(&mut self, now: Instant, datagram: &mut [u8]) -> Step;

    /// Starts a handshake, also beside a living session; does nothing if one was started a moment ago.
    fn initiate(&mut self, now: Instant, datagram: &mut [u8]) -> Step;

    /// Seals an empty packet, which proves who and where we are; nothing without a session.
    fn keepalive(&mut self, now: Instant, datagram: &mut [u8]) -> Step;

    fn handle_timeout(&mut self, now: Instant, datagram: &mut [u8]) -> Step;

    fn set_persistent_keepalive(&mut self, interval: Option<Duration>);

    /// When the last handshake was completed.
    fn last_handshake(&self) -> Option<Instant>;
}

/// What a call produced in the caller's buffer: a prefix of this many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// For the peer.
    Datagram(usize),
    /// For the interface.
    Packet(usize),
}
