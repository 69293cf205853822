//! What the data threads share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::{ArcSwapOption, Guard};
use cladnet_tunnel::{Discard, Epoch, Implementation, InterfaceId, MAX_INTERFACES, Tunnel};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use tokio::sync::broadcast;
use tracing::trace;

use super::prober::Probing;
use super::stun::{self, StunReply};
use crate::offload::OffloadPolicy;
use crate::tun::Tun;
use crate::udp::UdpSocket;

pub(super) struct Shared {
    pub(super) tunnel: Tunnel,
    pub(super) socket: UdpSocket,
    pub(super) offload_policy: OffloadPolicy,
    pub(super) stun: broadcast::Sender<StunReply>,
    pub(super) probing: Probing,
    tuns: [ArcSwapOption<Tun>; MAX_INTERFACES],
    stopped: AtomicBool,
}

impl Shared {
    pub(super) fn new(socket: UdpSocket, implementation: Implementation, offload_policy: OffloadPolicy) -> Self {
        Self {
            tunnel: Tunnel::new(implementation, Epoch::new(Instant::now(), SystemTime::now()), UnwrapErr(SysRng)),
            socket,
            offload_policy,
            stun: broadcast::Sender::new(stun::BACKLOG),
            probing: Probing::new(),
            tuns: Default::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn attach(&self, id: InterfaceId, tun: Arc<Tun>) {
        self.tuns[id.slot()].store(Some(tun));
    }

    pub(super) fn detach(&self, id: InterfaceId) {
        self.tuns[id.slot()].store(None);
    }

    /// Whether `tun` is what packets of this interface are written to.
    pub(super) fn is_attached(&self, id: InterfaceId, tun: &Arc<Tun>) -> bool {
        self.tuns[id.slot()].load().as_ref().is_some_and(|attached| Arc::ptr_eq(attached, tun))
    }

    /// What packets of this interface are written to.
    pub(super) fn tun(&self, id: InterfaceId) -> Guard<Option<Arc<Tun>>> {
        self.tuns[id.slot()].load()
    }

    /// The devices that are open.
    pub(super) fn tuns(&self) -> impl Iterator<Item = Arc<Tun>> {
        self.tuns.iter().filter_map(ArcSwapOption::load_full)
    }

    /// Notes a datagram that the socket did not take.
    pub(super) fn not_sent(&self, to: SocketAddr, error: &io::Error) {
        trace!(%to, %error, "datagram not sent");
        self.tunnel.discards().count(Discard::NotSent);
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.probing.stop();
        // If they cannot be woken, the next datagrams end the readers.
        let _ = self.socket.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
