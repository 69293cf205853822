//! Why packets are dropped, and how many were.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a packet was dropped; also the `reason` label of `cladnet_discards_total`, so the list stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
#[repr(usize)]
pub enum Discard {
    #[error("datagram is no message of WireGuard or ours")]
    Malformed,
    #[error("handshake message is for none of our keys")]
    WrongMac,
    #[error("handshake initiation comes from a key that is no peer")]
    UnknownPeer,
    #[error("receiver index belongs to no session")]
    UnknownIndex,
    #[error("handshake limit reached, a cookie was sent instead")]
    UnderLoad,
    #[error("handshake initiation is not newer than the last one")]
    StaleHandshake,
    #[error("reply answers nothing we sent")]
    UnexpectedReply,
    #[error("authentication failed")]
    NotAuthentic,
    #[error("counter already seen or too old")]
    Replay,
    #[error("counter is beyond the last one a key may be used for")]
    CounterExhausted,
    #[error("session has ended, or too much waits for one")]
    NoSession,
    #[error("inner packet is no IP packet")]
    NotIp,
    #[error("source address belongs to another peer or to none")]
    ForeignSource,
    #[error("no peer is responsible for the destination address")]
    NoRoute,
    #[error("peer has no endpoint yet")]
    NoEndpoint,
    #[error("packet is longer than a datagram can carry")]
    Oversized,
    #[error("datagram was refused by the socket")]
    NotSent,
    #[error("packet was refused by the interface")]
    NotDelivered,
    #[error("interface is gone")]
    UnknownInterface,
    #[error("endpoint lies inside a tunnel of ours")]
    InsideTunnel,
    #[error("offload header does not fit the packet behind it")]
    MalformedOffload,
    #[error("probe is of no pair of ours")]
    UnknownTag,
    #[error("probe was answered from another address than it was sent to")]
    Redirected,
    #[error("more probes than are answered came from this address")]
    ProbeLimit,
    #[error("packet is refused by the rules of the network")]
    Refused,
    #[error("fragment came without the first one of its packet")]
    UnknownFragment,
    #[error("clear frame came from where only sealed packets are accepted")]
    ClearRefused,
    #[error("clear frame came from an endpoint that has answered no probe lately")]
    ClearUnproved,
    #[error("clear frame bears a token that is not, or no longer, valid")]
    ClearStale,
    #[error("packet is longer than its path carries, and may not be cut")]
    TooLong,
    #[error("datagrams of its lane had waited too long, so its sender is to slow down")]
    Congested,
}

impl Discard {
    pub const ALL: [Self; 31] = [
        Self::Malformed,
        Self::WrongMac,
        Self::UnknownPeer,
        Self::UnknownIndex,
        Self::UnderLoad,
        Self::StaleHandshake,
        Self::UnexpectedReply,
        Self::NotAuthentic,
        Self::Replay,
        Self::CounterExhausted,
        Self::NoSession,
        Self::NotIp,
        Self::ForeignSource,
        Self::NoRoute,
        Self::NoEndpoint,
        Self::Oversized,
        Self::NotSent,
        Self::NotDelivered,
        Self::UnknownInterface,
        Self::InsideTunnel,
        Self::MalformedOffload,
        Self::UnknownTag,
        Self::Redirected,
        Self::ProbeLimit,
        Self::Refused,
        Self::UnknownFragment,
        Self::ClearRefused,
        Self::ClearUnproved,
        Self::ClearStale,
        Self::TooLong,
        Self::Congested,
    ];

    /// The value of the `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongMac => "wrong_mac",
            Self::UnknownPeer => "unknown_peer",
            Self::UnknownIndex => "unknown_index",
            Self::UnderLoad => "under_load",
            Self::StaleHandshake => "stale_handshake",
            Self::UnexpectedReply => "unexpected_reply",
            Self::NotAuthentic => "not_authentic",
            Self::Replay => "replay",
            Self::CounterExhausted => "counter_exhausted",
            Self::NoSession => "no_session",
            Self::NotIp => "not_ip",
            Self::ForeignSource => "foreign_source",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::Oversized => "oversized",
            Self::NotSent => "not_sent",
            Self::NotDelivered => "not_delivered",
            Self::UnknownInterface => "unknown_interface",
            Self::InsideTunnel => "inside_tunnel",
            Self::MalformedOffload => "malformed_offload",
            Self::UnknownTag => "unknown_tag",
            Self::Redirected => "redirected",
            Self::ProbeLimit => "probe_limit",
            Self::Refused => "refused",
            Self::UnknownFragment => "unknown_fragment",
            Self::ClearRefused => "clear_refused",
            Self::ClearUnproved => "clear_unproved",
            Self::ClearStale => "clear_stale",
            Self::TooLong => "too_long",
            Self::Congested => "congested",
        }
    }
}

/// One counter per reason, since start. Shared by the data threads.
#[derive(Debug, Default)]
pub struct DiscardCounts([AtomicU64; Discard::ALL.len()]);

impl DiscardCounts {
    pub fn count(&self, reason: Discard) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn of(&self, reason: Discard) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// Every reason with its count, zeros included, in the order of [`Discard::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.into_iter().map(|reason| (reason, self.of(reason)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_counter_and_a_label_of_its_own() {
        let counts = DiscardCounts::default();
        for (position, reason) in Discard::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, position);
            counts.count(reason);
        }
        assert!(counts.iter().all(|(_, count)| count == 1));
        assert_eq!(Discard::ALL.into_iter().map(Discard::label).collect::<BTreeSet<_>>().len(), Discard::ALL.len());
    }
}
