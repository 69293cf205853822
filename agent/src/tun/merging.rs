//! What packets may be merged into for a device, until it refuses that: then they go one by one.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use cladnet_tunnel::offload::{Gso, Mergeable, SuperPacket};
use tracing::warn;

use crate::offload::TunOffloads;

/// Of one device; shared by the threads that write to it.
#[derive(Debug)]
pub(super) struct Merging {
    tcp_v4: AtomicBool,
    tcp_v6: AtomicBool,
    udp: AtomicBool,
}

impl Merging {
    pub(super) fn new(offloads: TunOffloads) -> Self {
        let TunOffloads { checksum: _, tso4, tso6, uso } = offloads;
        Self { tcp_v4: tso4.into(), tcp_v6: tso6.into(), udp: uso.into() }
    }

    pub(super) fn mergeable(&self) -> Mergeable {
        let is = |kind| self.of(kind).load(Ordering::Relaxed);
        Mergeable { tcp_v4: is(Gso::TcpV4), tcp_v6: is(Gso::TcpV6), udp: is(Gso::Udp) }
    }

    /// Writes a packet. One that was merged and is refused as such is written packet by packet, and nothing of its kind
    /// is merged any more: the device will say the same next time. `refused` hears of every packet that was not written.
    pub(super) fn send(
        &self,
        packet: &mut SuperPacket<'_>,
        mut write: impl FnMut(&mut SuperPacket<'_>) -> io::Result<()>,
        mut refused: impl FnMut(&io::Error),
    ) {
        let Err(error) = write(packet) else { return };
        let Some(kind) = packet.gso().filter(|_| error.raw_os_error() == Some(libc::EINVAL)) else {
            return packet.packets().for_each(|_| refused(&error));
        };
        if self.of(kind).swap(false, Ordering::Relaxed) {
            warn!(?kind, "the interface takes no merged packets of this kind");
        }
        for packet in packet.packets() {
            if let Err(error) = write(&mut SuperPacket::new(packet, Mergeable::default())) {
                refused(&error);
            }
        }
    }

    fn of(&self, kind: Gso) -> &AtomicBool {
        match kind {
            Gso::TcpV4 => &self.tcp_v4,
            Gso::TcpV6 => &self.tcp_v6,
            Gso::Udp => &self.udp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: TunOffloads = TunOffloads { checksum: true, tso4: true, tso6: true, uso: true };

    /// UDP packets of one flow, with checksums.
    fn flow() -> [Vec<u8>; 3] {
        let mut packet = vec![0; 32];
        (packet[0], packet[3], packet[6], packet[8], packet[9]) = (0x45, 32, 0x40, 64, 17);
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet[25] = 12;
        let ip = checksum(&packet[..20], 0);
        packet[10..12].copy_from_slice(&ip);
        let message = checksum(&packet[12..], 17 + 12);
        packet[26..28].copy_from_slice(&message);
        [packet.clone(), packet.clone(), packet]
    }

    /// RFC 1071.
    fn checksum(bytes: &[u8], begin: u32) -> [u8; 2] {
        let words = bytes.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = begin + words.sum::<u32>();
        (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
    }

    fn merged<'a>(packets: &'a [Vec<u8>], merging: &Merging) -> SuperPacket<'a> {
        let mut merged = SuperPacket::new(&packets[0], merging.mergeable());
        assert!(packets[1..].iter().all(|packet| merged.join(packet)));
        merged
    }

    #[test]
    fn a_merged_packet_that_is_refused_is_written_one_by_one_and_none_is_merged_again() {
        let (merging, packets) = (Merging::new(ALL), flow());
        let mut written = Vec::new();
        let write = |packet: &mut SuperPacket<'_>| match packet.gso() {
            Some(_) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            None => {
                written.push(packet.first().to_vec());
                Ok(())
            }
        };
        merging.send(&mut merged(&packets, &merging), write, |error| panic!("{error}"));
        assert_eq!(written, packets);
        assert_eq!(merging.mergeable(), Mergeable { tcp_v4: true, tcp_v6: true, udp: false });
    }

    #[test]
    fn what_is_refused_for_another_reason_is_told_and_goes_on_being_merged() {
        let (merging, packets) = (Merging::new(ALL), flow());
        let mut refused = 0;
        let write = |_: &mut SuperPacket<'_>| Err(io::Error::from_raw_os_error(libc::EIO));
        merging.send(&mut merged(&packets, &merging), write, |_| refused += 1);
        assert_eq!((refused, merging.mergeable().udp), (3, true));

        let write = |_: &mut SuperPacket<'_>| Err(io::Error::from_raw_os_error(libc::EINVAL));
        merging.send(&mut SuperPacket::new(&packets[0], merging.mergeable()), write, |_| refused += 1);
        assert_eq!((refused, merging.mergeable().udp), (4, true), "it was not merged");
    }
}
