//! What this host has sent and heard, by peer, kind of path and day, until the service has counted it. Pure: it reads no
//! counter and writes no file; `daemon::usage` does.

mod ledger;
mod meter;

use cladnet_model::{HostId, NetworkId, Scope};
use serde::{Deserialize, Serialize};

pub(crate) use ledger::{Batch, Day, Ledger, flows};
pub(crate) use meter::Meter;

/// Whom bytes were exchanged with, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub network: NetworkId,
    /// The peer.
    pub host: HostId,
    pub scope: Scope,
}

/// What passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 4]", into = "[u64; 4]")]
pub(crate) struct Bytes {
    /// Of datagrams, with the headers of IP and UDP.
    pub sent: u64,
    pub received: u64,
    /// Of inner packets that travelled unsealed.
    pub clear_sent: u64,
    pub clear_received: u64,
}

impl Bytes {
    pub(crate) fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Both ways.
    pub(crate) fn total(self) -> u64 {
        self.sent.saturating_add(self.received)
    }
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        let (ours, theirs): ([u64; 4], [u64; 4]) = ((*self).into(), other.into());
        *self = Self::from(std::array::from_fn(|at| ours[at].saturating_add(theirs[at])));
    }
}

impl From<[u64; 4]> for Bytes {
    fn from([sent, received, clear_sent, clear_received]: [u64; 4]) -> Self {
        Self { sent, received, clear_sent, clear_received }
    }
}

impl From<Bytes> for [u64; 4] {
    fn from(Bytes { sent, received, clear_sent, clear_received }: Bytes) -> Self {
        [sent, received, clear_sent, clear_received]
    }
}
