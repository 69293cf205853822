//! What the data threads share, and where the tunnel's output goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwapOption;
use cladnet_tunnel::{Discard, Epoch, Implementation, InterfaceId, MAX_INTERFACES, Outbox, Tunnel};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use tokio::sync::broadcast;
use tracing::trace;

use super::stun::{self, StunReply};
use crate::tun::Tun;
use crate::udp::UdpSocket;

pub(super) struct Shared {
    pub(super) tunnel: Tunnel,
    pub(super) socket: UdpSocket,
    pub(super) stun: broadcast::Sender<StunReply>,
    tuns: [ArcSwapOption<Tun>; MAX_INTERFACES],
    stopped: AtomicBool,
}

impl Shared {
    pub(super) fn new(socket: UdpSocket, implementation: Implementation) -> Self {
        Self {
            tunnel: Tunnel::new(implementation, Epoch::new(Instant::now(), SystemTime::now()), UnwrapErr(SysRng)),
            socket,
            stun: broadcast::Sender::new(stun::BACKLOG),
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

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // If it cannot be woken, the next datagram ends the reader.
        let _ = self.socket.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Writes straight to the socket and the TUN devices, on the thread that sealed or opened.
pub(super) struct Wire<'a>(pub(super) &'a Shared);

impl Outbox for Wire<'_> {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.0.socket.send(to, datagram) {
            trace!(%to, %error, "datagram not sent");
            self.0.tunnel.discards().count(Discard::NotSent);
        }
    }

    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]) {
        let tun = self.0.tuns[interface.slot()].load();
        let delivered = tun.as_ref().is_some_and(|tun| match tun.send(packet) {
            Ok(()) => true,
            Err(error) => {
                trace!(?interface, %error, "packet not delivered");
                false
            }
        });
        if !delivered {
            self.0.tunnel.discards().count(Discard::NotDelivered);
        }
    }
}
