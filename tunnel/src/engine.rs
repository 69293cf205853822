//! The seam behind which a WireGuard implementation stands: [`Engine`] for one interface, [`PeerEngine`] for one peer
//! of it.
//!
//! Drawn so that an engine that keeps its session keys to itself fits as well as one of our own. Both are shared by the
//! data threads, work in the callers' buffers and own no socket and no thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use x25519_dalek::SharedSecret;

use crate::datapath;
use crate::discard::Discard;
use crate::key::{PresharedKey, PublicKey};
use crate::train::Train;

pub(crate) mod boringtun;
pub(crate) mod own;

/// Which WireGuard implementation a tunnel runs on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Implementation {
    /// Ours.
    #[default]
    Own,
    /// That of the crate `boringtun`.
    Boringtun,
}

impl Implementation {
    /// The library that seals full packets on this CPU.
    pub(crate) fn aead_library(self) -> &'static str {
        match self {
            Self::Own => datapath::aead_library(),
            Self::Boringtun => "ring",
        }
    }
}

/// One interface's identity: knows its private key and who may cost it a handshake.
pub(crate) trait Engine: Send + Sync {
    fn public_key(&self) -> PublicKey;

    /// What our static key and another's agree on.
    fn agree(&self, with: &PublicKey) -> SharedSecret;

    /// Whether a handshake message deserves work: mac1 under our key, and under load mac2 as well (whitepaper §5.3).
    /// A cookie reply is written into `reply`.
    fn admit(&self, now: Instant, from: SocketAddr, message: &[u8], reply: &mut [u8]) -> Result<(), Refusal>;

    /// Reads an admitted handshake initiation; not yet proof that it is fresh.
    fn read_initiation(&self, message: &[u8]) -> Result<Initiation, Discard>;

    fn peer(&self, now: Instant, parameters: PeerParameters) -> Result<Box<dyn PeerEngine>, WeakKey>;

    fn handle_timeout(&self, now: Instant);
}

/// Why a handshake message goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Meant for another interface, or for nobody.
    WrongMac,
    /// We are under load: send this many bytes of `reply` back.
    Cookie(usize),
    Discard(Discard),
}

/// Who sent a handshake initiation, and what the engine knows of it by now.
pub(crate) struct Initiation {
    pub(crate) from: PublicKey,
    /// Our own engine's part.
    noise: Option<Box<own::Consumed>>,
}

/// What a peer's engine is made from.
#[derive(Debug)]
pub(crate) struct PeerParameters {
    pub(crate) public_key: PublicKey,
    pub(crate) preshared_key: Option<PresharedKey>,
    pub(crate) persistent_keepalive: Option<Duration>,
    /// 24 bits, unique on the host: whose a session index is. See [`crate::index::SessionIndices`].
    pub(crate) number: u32,
}

/// A public key whose shared secret anybody can compute (a point of low order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("weak key: it gives every private key the same shared secret")]
pub(crate) struct WeakKey;

/// The state towards one peer: handshake, timers, sessions. Nothing is sent while a call lasts, so no lock of an engine
/// is held across a system call. Where a call may write a message for the peer, it returns the message's length.
pub(crate) trait PeerEngine: Send + Sync {
    /// Seals the packets of a train where they lie, or keeps copies of them until there is a session.
    fn seal_train(&self, now: Instant, train: &mut Train<'_>) -> Result<Sealed, Discard>;

    /// Opens data messages under one receiver index where they lie; `opened` hears of each in its order.
    fn open_run(&self, now: Instant, run: Run<'_>, opened: &mut dyn FnMut(Result<Opened<'_>, Discard>));

    /// Answers a handshake initiation.
    fn respond(
        &self,
        now: Instant,
        message: &[u8],
        initiation: Initiation,
        answer: &mut [u8],
    ) -> Result<Option<usize>, Discard>;

    /// Takes a handshake response, which must have been admitted, or a cookie reply. `Ok` means that it was authentic.
    fn handle_reply(&self, now: Instant, message: &[u8], answer: &mut [u8]) -> Result<Option<usize>, Discard>;

    /// Whether [`PeerEngine::seal_queued`] has something to send.
    fn has_queued(&self, now: Instant) -> bool;

    /// Seals the next packet that had waited for a session.
    fn seal_queued(&self, now: Instant, datagram: &mut [u8]) -> Option<usize>;

    /// Starts the handshake that is due because a packet waits for one or a session has grown old. To be asked after
    /// every train, in either direction.
    fn renew(&self, now: Instant, direction: Direction, message: &mut [u8]) -> Option<usize>;

    /// Starts a handshake, also beside a living session; does nothing if one was started a moment ago.
    fn initiate(&self, now: Instant, message: &mut [u8]) -> Option<usize>;

    /// Seals an empty packet, which proves who and where we are; nothing without a session.
    fn keepalive(&self, now: Instant, datagram: &mut [u8]) -> Option<usize>;

    fn handle_timeout(&self, now: Instant, message: &mut [u8]) -> Option<usize>;

    fn set_persistent_keepalive(&self, interval: Option<Duration>);

    /// Whether there is a session to send under.
    fn has_session(&self, now: Instant) -> bool;

    /// The key of handshakes from now on; sessions stay. False if it is another one and cannot be changed.
    fn set_preshared_key(&self, key: Option<&PresharedKey>) -> bool;

    /// When the last handshake was completed.
    fn last_handshake(&self) -> Option<Instant>;
}

/// What became of a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// Its datagrams can be sent.
    Ready,
    /// Its packets wait for a session.
    Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Sent,
    Received,
}

/// Data messages of one sender under one receiver index, all `stride` long but the last.
pub(crate) struct Run<'a> {
    pub(crate) receiver_index: u32,
    pub(crate) datagrams: &'a mut [u8],
    pub(crate) stride: usize,
}

/// An authentic packet, empty for a keepalive.
pub(crate) struct Opened<'a> {
    /// Where it begins in [`Run::datagrams`].
    pub(crate) at: usize,
    /// With its padding.
    pub(crate) packet: &'a [u8],
}
