//! What the kernel does for many packets at once, and whether it may. How is `tun`'s and `udp`'s business.

use serde::{Deserialize, Serialize};

/// Whether many packets may go through the kernel as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffloadPolicy {
    /// Whatever the kernel turns out to be able to.
    WherePossible,
    /// For comparison, and should a kernel be wrong.
    Never,
}

/// What is in use; part of what `status` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offloads {
    /// Of every interface; nothing while there is none.
    pub tun: TunOffloads,
    pub udp: UdpOffloads,
}

/// What a TUN device leaves to us, and takes from us, instead of doing it packet by packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunOffloads {
    pub checksum: bool,
    pub tso4: bool,
    pub tso6: bool,
    /// UDP of both families; kernels from 6.2.
    pub uso: bool,
}

/// What the kernel does to a train of datagrams at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpOffloads {
    /// `UDP_SEGMENT`, kernels from 4.18.
    pub segment: bool,
    /// `UDP_GRO`, kernels from 5.0.
    pub gro: bool,
}

impl TunOffloads {
    /// What both have.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            checksum: self.checksum && other.checksum,
            tso4: self.tso4 && other.tso4,
            tso6: self.tso6 && other.tso6,
            uso: self.uso && other.uso,
        }
    }
}
