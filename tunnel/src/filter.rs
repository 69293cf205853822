//! The packet filter of an interface: what its peers may send to this host. Enforced by the receiver, on packets that
//! are authentic and whose source is their sender's.
//!
//! Rules come as addresses and ports; labels and policy are others' business. A flow that this host opened is answered
//! whatever the rules say; a flow that a peer opened is judged again as soon as the rules change. What was cut stays
//! cut while anybody still speaks on it, though our own end may go on sending.

mod classifier;
mod flow;
mod flows;
mod fragments;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ipnet::IpNet;

use crate::discard::Discard;
use crate::packet::Addresses;
use classifier::Classifier;
use flow::{Flow, Part, Signature, Stage};
use flows::{By, Flows};
use fragments::Fragments;

/// Who may reach this host through an interface. Without one everything may, and no flow is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The first that matches decides.
    pub rules: Vec<AccessRule>,
    /// What happens to a packet that no rule matches.
    pub default: Action,
}

/// One rule. A list without elements matches nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    pub action: Action,
    pub sources: Vec<IpNet>,
    pub destinations: Vec<IpNet>,
    pub traffic: Traffic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
}

/// What a rule looks at beside addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Traffic {
    All,
    /// All of an IP protocol, by its number.
    Protocol(u8),
    /// Destination ports of a protocol that has ports.
    Ports {
        protocol: u8,
        ports: Vec<RangeInclusive<u16>>,
    },
}

/// [`Access`] in force. Shared by the data threads.
pub(crate) struct Filter {
    classifier: Classifier,
    /// Counts the changes of the rules: says under which ones a flow was judged.
    generation: u32,
    state: Arc<State>,
}

/// What outlives a change of rules.
struct State {
    flows: Flows,
    fragments: Mutex<Fragments>,
}

/// What was decided last in a run of packets. The next packet of the same flow is not looked up again.
#[derive(Default)]
pub(crate) struct Memo(Option<(Signature, Result<(), Discard>)>);

impl Filter {
    pub(crate) fn new(now: Instant, access: &Access) -> Self {
        let state = State { flows: Flows::new(now), fragments: Mutex::default() };
        Self { classifier: Classifier::new(access), generation: 0, state: Arc::new(state) }
    }

    /// The filter after a change of rules; flows go on as the new rules have it.
    pub(crate) fn with(&self, access: &Access) -> Self {
        Self {
            classifier: Classifier::new(access),
            generation: self.generation.wrapping_add(1),
            state: self.state.clone(),
        }
    }

    /// Whether a packet from the peer of this number, without padding, may be delivered. `is_theirs` says whether an
    /// address is reached through that peer.
    pub(crate) fn admit(
        &self,
        now: Instant,
        packet: &[u8],
        peer: u32,
        is_theirs: impl FnOnce(IpAddr) -> bool,
        memo: &mut Memo,
    ) -> Result<(), Discard> {
        memo.or_decide(packet, || self.judge(now, packet, peer, is_theirs))
    }

    /// Notes a packet of ours on its way to the peer of this number: its answers are welcome.
    pub(crate) fn note_sent(&self, now: Instant, packet: &[u8], peer: u32, memo: &mut Memo) {
        let _ = memo.or_decide(packet, || {
            if let Some(Part::Whole(seen) | Part::FirstFragment(seen, _)) = flow::of(packet) {
                self.state.flows.sent(now, seen.sent(), seen.stage, By { peer, generation: self.generation });
            }
            Ok(())
        });
    }

    fn judge(
        &self,
        now: Instant,
        packet: &[u8],
        peer: u32,
        is_theirs: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), Discard> {
        match flow::of(packet) {
            Some(Part::Whole(seen)) => self.judge_flow(now, peer, seen.received(), seen.stage),
            Some(Part::FirstFragment(seen, datagram)) => {
                self.judge_flow(now, peer, seen.received(), seen.stage)?;
                self.fragments(|known| known.admit(now, peer, datagram));
                Ok(())
            }
            Some(Part::LaterFragment(datagram)) => {
                let known = self.allows_whatever(packet) || self.fragments(|known| known.is_admitted(now, datagram));
                if known { Ok(()) } else { Err(Discard::UnknownFragment) }
            }
            Some(Part::ErrorAbout { quoted, seen }) => {
                let flow = quoted.sent();
                // What never came their way they cannot have an error about.
                if is_theirs(flow.remote.0) && self.state.flows.is_alive(now, flow) {
                    return Ok(());
                }
                self.judge_flow(now, peer, seen.received(), seen.stage)
            }
            None if self.allows_whatever(packet) => Ok(()),
            None => Err(Discard::Refused),
        }
    }

    /// Whether no packet between the two addresses of this one can be refused.
    fn allows_whatever(&self, packet: &[u8]) -> bool {
        Addresses::of(packet)
            .is_ok_and(|Addresses { source, destination }| self.classifier.allows_whatever(source, destination))
    }

    /// A flow that nobody has judged is judged now; an error about nothing of ours is one too.
    fn judge_flow(&self, now: Instant, peer: u32, flow: Flow, stage: Stage) -> Result<(), Discard> {
        let by = By { peer, generation: self.generation };
        match self.state.flows.received(now, flow, stage, by, || self.classifier.decide(&flow)) {
            Action::Allow => Ok(()),
            Action::Deny => Err(Discard::Refused),
        }
    }

    fn fragments<T>(&self, act: impl FnOnce(&mut Fragments) -> T) -> T {
        act(&mut self.state.fragments.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memo {
    fn or_decide(&mut self, packet: &[u8], decide: impl FnOnce() -> Result<(), Discard>) -> Result<(), Discard> {
        let signature = Signature::of(packet);
        if let (Some((known, verdict)), Some(signature)) = (&self.0, &signature)
            && known == signature
        {
            return *verdict;
        }
        let verdict = decide();
        self.0 = signature.map(|signature| (signature, verdict));
        verdict
    }
}
