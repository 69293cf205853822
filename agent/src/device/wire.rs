//! Where the tunnel's output goes: trains to the socket as they are, single datagrams gathered, opened packets merged
//! into super-packets from where they lie.

use std::net::SocketAddr;

use cladnet_tunnel::offload::SuperPacket;
use cladnet_tunnel::{Delivery, Discard, InterfaceId, Outbox, PublicKey, Sighting};
use tracing::trace;

use super::shared::Shared;
use crate::tun::Tun;
use crate::udp::Trains;

/// A data thread's output; nothing is allocated after it was made. What was gathered goes out with [`Wire::flush`], or
/// earlier if there is no more room.
pub(super) struct Wire<'a> {
    shared: &'a Shared,
    gathered: Trains,
}

impl<'a> Wire<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, gathered: Trains::new() }
    }

    pub(super) fn flush(&mut self) {
        if !self.gathered.is_empty() {
            let shared = self.shared;
            shared.socket.send_trains(&mut self.gathered, |to, error| shared.not_sent(to, error));
        }
    }

    /// Hands opened packets to their interfaces, in order. They lie in `bytes`.
    pub(super) fn deliver_all(&self, bytes: &[u8], deliveries: &[Delivery]) {
        for run in deliveries.chunk_by(|one, next| one.interface == next.interface) {
            self.write(run[0].interface, run.iter().map(|delivery| &bytes[delivery.packet.clone()]));
        }
    }

    fn write<'p>(&self, interface: InterfaceId, mut packets: impl Iterator<Item = &'p [u8]>) {
        let tun = self.shared.tun(interface);
        let Some(tun) = tun.as_deref() else {
            return packets.for_each(|_| self.shared.tunnel.discards().count(Discard::NotDelivered));
        };
        let Some(first) = packets.next() else { return };
        let mut open = SuperPacket::new(first, tun.mergeable());
        for packet in packets {
            if !open.join(packet) {
                self.write_one(tun, &mut open);
                open = SuperPacket::new(packet, tun.mergeable());
            }
        }
        self.write_one(tun, &mut open);
    }

    fn write_one(&self, tun: &Tun, packet: &mut SuperPacket<'_>) {
        tun.send(packet, |error| {
            trace!(%error, "packet not delivered");
            self.shared.tunnel.discards().count(Discard::NotDelivered);
        });
    }
}

impl Outbox for Wire<'_> {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]) {
        if !self.gathered.push(to, datagram) {
            self.flush();
            let fits = self.gathered.push(to, datagram);
            debug_assert!(fits, "with nothing gathered there is room for every datagram");
        }
    }

    fn transmit_train(&mut self, to: SocketAddr, datagrams: &[u8], segment_size: usize) {
        if datagrams.len() <= segment_size {
            return self.transmit(to, datagrams);
        }
        // What came before goes before.
        self.flush();
        let shared = self.shared;
        shared.socket.send_train(to, datagrams, segment_size, |to, error| shared.not_sent(to, error));
    }

    fn transmit_whole(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        self.flush();
        self.shared.socket.send_whole(to, datagram).unwrap_or_else(|error| {
            self.shared.not_sent(to, &error);
            true
        })
    }

    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]) {
        self.write(interface, std::iter::once(packet));
    }

    fn sighted(&mut self, interface: InterfaceId, peer: PublicKey, sighting: Sighting) {
        self.shared.probing.sighted((interface, peer), sighting);
    }
}
