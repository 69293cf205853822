//! What a peer was sent and was heard saying, by the kind of path: as packets of the overlay, and as the datagrams that a
//! cloud bills. Counted once for a train; only what was authentic counts as heard.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::DATA_OVERHEAD;
use crate::train::Train;

/// What UDP puts in front of every datagram.
const UDP_HEADER: u64 = 8;
const V4_HEADER: u64 = 20;
const V6_HEADER: u64 = 40;

/// The kind of path that an address is at the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Scope {
    /// Of no use to hosts elsewhere: RFC 1918, RFC 6598, RFC 4193, link-local and loopback addresses.
    Private,
    /// IPv4.
    Public,
    PublicV6,
}

/// What went one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Inner packets.
    pub packets: u64,
    /// Of inner packets, with the padding that WireGuard gives them.
    pub bytes: u64,
    /// Of these, what travelled as clear frames: bytes that cost no encryption.
    pub clear_bytes: u64,
    /// With handshakes, keepalives and probes.
    pub datagrams: u64,
    /// Of datagrams, with the headers of IP and UDP.
    pub wire_bytes: u64,
}

/// What went both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    pub sent: Tally,
    pub received: Tally,
}

/// Of one peer. Shared by the data threads, without a lock.
#[derive(Debug, Default)]
pub(crate) struct Counters([[Counter; 2]; Scope::ALL.len()]);

#[derive(Debug, Default)]
struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
    clear_bytes: AtomicU64,
    datagrams: AtomicU64,
    wire_bytes: AtomicU64,
}

/// Datagrams that went together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    pub(crate) datagrams: usize,
    /// Of UDP's payload.
    pub(crate) payload: usize,
    pub(crate) packets: usize,
    /// Of inner packets.
    pub(crate) bytes: usize,
    /// Of these, unsealed ones.
    pub(crate) clear_bytes: usize,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Private, Self::Public, Self::PublicV6];

    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [first, second, ..] = v4.octets();
                let is_shared = first == 100 && second >> 6 == 1;
                let is_private = v4.is_private() || is_shared || v4.is_loopback() || v4.is_link_local();
                if is_private { Self::Private } else { Self::Public }
            }
            IpAddr::V6(v6) => {
                let is_private = v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local();
                if is_private { Self::Private } else { Self::PublicV6 }
            }
        }
    }
}

impl Counters {
    pub(crate) fn sent(&self, to: SocketAddr, carried: Carried) {
        self.0[Scope::of(to.ip()) as usize][0].add(to, carried);
    }

    pub(crate) fn received(&self, from: SocketAddr, carried: Carried) {
        self.0[Scope::of(from.ip()) as usize][1].add(from, carried);
    }

    /// In the order of [`Scope::ALL`].
    pub(crate) fn volumes(&self) -> [Volume; Scope::ALL.len()] {
        self.0.each_ref().map(|[sent, received]| Volume { sent: sent.tally(), received: received.tally() })
    }
}

impl Counter {
    fn add(&self, address: SocketAddr, carried: Carried) {
        let Carried { datagrams, payload, packets, bytes, clear_bytes } = carried;
        let ip = if address.ip().to_canonical().is_ipv4() { V4_HEADER } else { V6_HEADER };
        let wire_bytes = payload as u64 + datagrams as u64 * (ip + UDP_HEADER);
        for (counter, by) in [
            (&self.packets, packets as u64),
            (&self.bytes, bytes as u64),
            (&self.clear_bytes, clear_bytes as u64),
            (&self.datagrams, datagrams as u64),
            (&self.wire_bytes, wire_bytes),
        ] {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn tally(&self) -> Tally {
        let [packets, bytes, clear_bytes, datagrams, wire_bytes] =
            [&self.packets, &self.bytes, &self.clear_bytes, &self.datagrams, &self.wire_bytes]
                .map(|counter| counter.load(Ordering::Relaxed));
        Tally { packets, bytes, clear_bytes, datagrams, wire_bytes }
    }
}

impl Carried {
    /// A datagram that carries no inner packet.
    pub(crate) fn one(payload: usize) -> Self {
        Self { datagrams: 1, payload, ..Self::default() }
    }

    /// The datagrams of a train.
    pub(crate) fn train(train: &Train<'_>) -> Self {
        let (datagrams, payload) = (train.len(), train.datagrams().len());
        Self { datagrams, payload, packets: datagrams, bytes: payload - datagrams * DATA_OVERHEAD, clear_bytes: 0 }
    }

    /// The same with one more data message.
    #[must_use]
    pub(crate) fn and_data(self, packet: usize) -> Self {
        Self {
            datagrams: self.datagrams + 1,
            payload: self.payload + packet + DATA_OVERHEAD,
            packets: self.packets + usize::from(packet > 0),
            bytes: self.bytes + packet,
            ..self
        }
    }

    /// The same as clear frames.
    #[must_use]
    pub(crate) fn in_clear(self) -> Self {
        Self { clear_bytes: self.bytes, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_the_kind_of_path() {
        for (address, scope) in [
            ("10.1.2.3", Scope::Private),
            ("100.64.0.1", Scope::Private),
            ("100.128.0.1", Scope::Public),
            ("::ffff:192.168.0.1", Scope::Private),
            ("fd00::1", Scope::Private),
            ("192.0.2.1", Scope::Public),
            ("2001:db8::1", Scope::PublicV6),
        ] {
            assert_eq!(Scope::of(address.parse().unwrap()), scope, "{address}");
        }
    }

    #[test]
    fn headers_count_for_every_datagram_and_by_family() {
        let counters = Counters::default();
        let train = (0..45).fold(Carried::default(), |train, _| train.and_data(1420));
        counters.sent("192.0.2.1:1".parse().unwrap(), train);
        counters.received("[2001:db8::1]:1".parse().unwrap(), Carried::one(32));
        let [private, public, public_v6] = counters.volumes();
        assert_eq!(private, Volume::default());
        let sent = Tally { packets: 45, bytes: 45 * 1420, clear_bytes: 0, datagrams: 45, wire_bytes: 45 * 1480 };
        assert_eq!(public, Volume { sent, ..Volume::default() });
        let received = Tally { datagrams: 1, wire_bytes: 80, ..Tally::default() };
        assert_eq!(public_v6, Volume { received, ..Volume::default() });
    }

    #[test]
    fn what_is_not_sealed_counts_apart() {
        let counters = Counters::default();
        let to = "10.0.0.2:1".parse().unwrap();
        counters.sent(to, Carried::default().and_data(1000).in_clear());
        counters.sent(to, Carried::default().and_data(500));
        let [private, ..] = counters.volumes();
        assert_eq!((private.sent.bytes, private.sent.clear_bytes), (1500, 1000));
    }
}
