//! Planning of peers and their addresses: from the memberships of a network to what the controller has to write.
//!
//! Pure: equal inputs give equal plans in whatever order they come, so two controllers cannot disagree, and the plan
//! of a plan that was carried out is empty. Carrying out only some of the steps is safe: the next plan has the rest.

mod draft;
#[cfg(test)]
mod tests;

use std::{net::Ipv4Addr, time::Duration};

use jiff::Timestamp;

use crate::{Allocation, HostId, Membership, Network, Peer};

/// How long an address is kept back after its peer is gone: an agent that is cut off keeps sending to the peer it
/// knew there, and must not reach another one. Agents hear of a removal within seconds; ten minutes outlast a reboot
/// of one that did not.
pub const QUARANTINE: Duration = Duration::from_secs(600);

/// From when on anybody may have an address again that is kept back since then.
pub fn end_of_quarantine(since: Timestamp) -> Timestamp {
    // Saturates at the end of time.
    since.checked_add(QUARANTINE).unwrap_or(Timestamp::MAX)
}

/// What to write, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// When to plan again though nothing changed: the next quarantine ends.
    pub wake_at: Option<Timestamp>,
}

/// One transaction of the controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The address is no longer its host's: its allocation becomes [`crate::Hold::Quarantined`] since the moment of
    /// the plan.
    Release { address: Ipv4Addr, host: HostId },
    /// The quarantine is over: the allocation is deleted. `host` is whom it belonged to.
    Reclaim { address: Ipv4Addr, host: HostId },
    /// The address is the host's: its allocation becomes [`crate::Hold::Held`], and the peer is written with it and
    /// no problem. The allocation is absent, or is this host's own, held (then only the peer was wrong) or
    /// quarantined.
    Give { host: HostId, address: Ipv4Addr },
    /// The peer is written with the address it keeps, if any, and the problem; no allocation changes.
    Report { host: HostId, address: Option<Ipv4Addr>, problem: String },
    /// The membership is gone: the peer is deleted.
    Forget { host: HostId },
}

/// Decides every peer and allocation of a network. Records of other networks are passed over.
pub fn plan<'a>(
    now: Timestamp,
    network: &'a Network,
    memberships: impl IntoIterator<Item = &'a Membership>,
    peers: impl IntoIterator<Item = &'a Peer>,
    allocations: impl IntoIterator<Item = &'a Allocation>,
) -> Plan {
    let mut draft = draft::Draft::new(now, network, memberships, peers, allocations);
    draft.keep();
    draft.give_static();
    draft.give_back();
    draft.give_lowest();
    draft.report_unmet_wishes();
    draft.finish()
}

/// Decides what is left to do once the network itself is gone: nothing of it stays, quarantines neither.
pub fn plan_removal<'a>(
    peers: impl IntoIterator<Item = &'a Peer>,
    allocations: impl IntoIterator<Item = &'a Allocation>,
) -> Plan {
    let reclaim = |held: &Allocation| Step::Reclaim { address: held.address, host: held.host.clone() };
    let forget = |peer: &Peer| Step::Forget { host: peer.host.clone() };
    let mut steps: Vec<Step> = allocations.into_iter().map(reclaim).chain(peers.into_iter().map(forget)).collect();
    steps.sort();
    Plan { steps, wake_at: None }
}
