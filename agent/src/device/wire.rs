//! Where the tunnel's output goes: gathered by the thread that sealed or opened, written out in as few system calls as
//! there are trains and super-packets in it.

use std::net::SocketAddr;

use cladnet_tunnel::offload::{MAX_SEGMENTS, SuperPacket};
use cladnet_tunnel::{Discard, InterfaceId, Outbox};
use tracing::trace;

use super::shared::Shared;
use crate::tun::Tun;
use crate::udp::Trains;

/// What one received train opens to, twice.
const SLAB_LEN: usize = 2 << 16;
/// Packets that wait at most: two full super-packets.
const MAX_PACKETS: usize = 2 * MAX_SEGMENTS;

/// A data thread's output; nothing is allocated after it was made. What is in it goes out with [`Wire::flush`], or
/// earlier if there is no more room.
pub(super) struct Wire<'a> {
    shared: &'a Shared,
    trains: Trains,
    slab: Vec<u8>,
    packets: Vec<Packet>,
}

/// An inner packet in the slab.
struct Packet {
    interface: InterfaceId,
    start: usize,
    len: usize,
}

impl<'a> Wire<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            trains: Trains::new(),
            slab: Vec::with_capacity(SLAB_LEN),
            packets: Vec::with_capacity(MAX_PACKETS),
        }
    }

    pub(super) fn flush(&mut self) {
        self.send();
        self.write();
    }

    fn send(&mut self) {
        let Self { shared, trains, .. } = self;
        if trains.is_empty() {
            return;
        }
        shared.socket.send_trains(trains, |to, error| {
            trace!(%to, %error, "datagram not sent");
            shared.tunnel.discards().count(Discard::NotSent);
        });
    }

    fn write(&mut self) {
        for run in self.packets.chunk_by(|one, next| one.interface == next.interface) {
            let packets = run.iter().map(|packet| &self.slab[packet.start..][..packet.len]);
            self.write_to(run[0].interface, packets);
        }
        self.packets.clear();
        self.slab.clear();
    }

    fn write_to<'p>(&self, interface: InterfaceId, mut packets: impl Iterator<Item = &'p [u8]>) {
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
        if let Err(error) = tun.send(packet) {
            trace!(%error, "packet not delivered");
            (0..packet.count()).for_each(|_| self.shared.tunnel.discards().count(Discard::NotDelivered));
        }
    }
}

impl Outbox for Wire<'_> {
    fn transmit(&mut self, to: SocketAddr, datagram: &[u8]) {
        if !self.trains.push(to, datagram) {
            self.send();
            let fits = self.trains.push(to, datagram);
            debug_assert!(fits, "an empty train takes every datagram");
        }
    }

    fn deliver(&mut self, interface: InterfaceId, packet: &[u8]) {
        if self.packets.len() == MAX_PACKETS || self.slab.len() + packet.len() > SLAB_LEN {
            self.write();
        }
        self.packets.push(Packet { interface, start: self.slab.len(), len: packet.len() });
        self.slab.extend_from_slice(packet);
    }
}
