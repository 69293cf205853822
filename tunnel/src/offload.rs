//! Super-packets: what a TUN device with offloads gives and takes in place of single packets. [`Segments`] cuts one into
//! the packets it stands for, [`SuperPacket`] merges packets that an application's stack could not tell from the merged
//! one.
//!
//! Pure: the system calls are `agent::tun`'s. Nothing here trusts a length that it has not checked.

mod checksum;
mod coalesce;
mod segment;
mod virtio;

#[cfg(test)]
mod tests;

pub use coalesce::{Mergeable, SuperPacket};
pub use segment::Segments;
pub use virtio::{Gso, VirtioNetHeader};

/// The most packets that are cut from, or merged into, one: `UDP_MAX_SEGMENTS` of kernels before 6.9, for both sides.
pub const MAX_SEGMENTS: usize = 64;

/// Longer headers are not rewritten: IPv6 and TCP with all options leave 92 bytes for extension headers.
const MAX_HEADERS: usize = 192;

const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// What a super-packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// RFC 790.
    fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn of(protocol: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|transport| transport.protocol() == protocol)
    }

    /// Where its header keeps the checksum.
    fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// Fields of a header at an offset that the caller has checked.
fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
