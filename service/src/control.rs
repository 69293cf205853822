//! Taking peers up and down, and waiting until their agents say that it is done.

use std::{collections::BTreeMap, time::Duration};

use cladnet_model::{DesiredState, HostId, MembershipStatus, NetworkId, PeerState};
use cladnet_store::{AnyKey, Change, Revision, StoreError, key};
use tokio::time::{Instant, timeout_at};

use crate::{
    Service,
    error::CallError,
    peers::{PeerRow, PeerUpdate},
};

/// What became of a command at one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The agent has carried it out.
    Acknowledged,
    /// The agent is not connected; it will when it is.
    Offline,
    /// The agent is connected and has not said so in time.
    TimedOut,
    /// It cannot be done; the detail says why.
    Failed,
}

impl Outcome {
    /// As the API says it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Offline => "offline",
            Self::TimedOut => "timed-out",
            Self::Failed => "failed",
        }
    }
}

/// The outcome at one peer.
#[derive(Debug, Clone)]
pub(crate) struct PeerOutcome {
    pub(crate) host: HostId,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) detail: String,
}

/// What is awaited of one agent.
struct Awaited {
    peer: PeerRow,
    /// The report must be of this revision or a later one; any will do when nothing was changed.
    since: Option<Revision>,
}

impl Service {
    /// Writes what is wished for each of `peers` and waits for their agents' reports, at most for `wait`. Plain machines
    /// have no agent and cannot be steered.
    pub(crate) async fn control(
        &self,
        network: &NetworkId,
        peers: Vec<PeerRow>,
        desired: DesiredState,
        wait: Duration,
        actor: &str,
    ) -> Result<Vec<PeerOutcome>, CallError> {
        let deadline = Instant::now() + wait;
        let mut outcomes = Vec::new();
        let mut awaited = BTreeMap::new();
        for peer in peers {
            if peer.membership.plain {
                outcomes.push(told(&peer, Outcome::Failed, "runs plain WireGuard, which nobody steers from here"));
                continue;
            }
            let update = PeerUpdate { desired_state: Some(desired), ..PeerUpdate::default() };
            let since = match self.update_peer(network, peer.id(), &update, actor).await {
                Ok(_) if peer.membership.desired_state == desired => None,
                Ok(_) => Some(self.membership(network, peer.id()).await?.modified),
                Err(CallError::NotFound(reason)) => {
                    outcomes.push(told(&peer, Outcome::Failed, &reason));
                    continue;
                }
                Err(error) => return Err(error),
            };
            if peer.online {
                awaited.insert(peer.id().clone(), Awaited { peer, since });
            } else {
                outcomes.push(told(&peer, Outcome::Offline, "is not connected; carried out when it returns"));
            }
        }
        self.await_reports(network, desired, deadline, &mut awaited, &mut outcomes).await?;
        outcomes.sort_by(|one, other| one.host.cmp(&other.host));
        Ok(outcomes)
    }

    async fn await_reports(
        &self,
        network: &NetworkId,
        desired: DesiredState,
        deadline: Instant,
        awaited: &mut BTreeMap<HostId, Awaited>,
        outcomes: &mut Vec<PeerOutcome>,
    ) -> Result<(), CallError> {
        let reported = self.store.list(&key::statuses(network)).await?;
        let mut watch = self.store.watch(&key::statuses(network), reported.revision).await?;
        let mut last: BTreeMap<HostId, MembershipStatus> = BTreeMap::new();
        let mut news: Vec<_> = reported.items;
        loop {
            for status in news.drain(..) {
                let AnyKey::Status(_, host) = status.key.parse() else { continue };
                let settled = awaited.get(&host).and_then(|awaited| settled(awaited, desired, &status.value));
                if let (Some((outcome, detail)), Some(done)) =
                    (settled, awaited.contains_key(&host).then(|| host.clone()))
                    && let Some(Awaited { peer, .. }) = awaited.remove(&done)
                {
                    outcomes.push(told(&peer, outcome, &detail));
                }
                last.insert(host, status.value);
            }
            if awaited.is_empty() {
                return Ok(());
            }
            match timeout_at(deadline, watch.next()).await {
                Ok(Ok(batch)) => news.extend(batch.changes.into_iter().filter_map(|change| match change {
                    Change::Put(status) => Some(status),
                    Change::Deleted(_) | Change::Undecodable(_) => None,
                })),
                Ok(Err(StoreError::Compacted { .. })) => {
                    let again = self.store.list(&key::statuses(network)).await?;
                    watch = self.store.watch(&key::statuses(network), again.revision).await?;
                    news = again.items;
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => break,
            }
        }
        let online = self.online().await?;
        for (host, Awaited { peer, .. }) in std::mem::take(awaited) {
            let state = last.get(&host).map(|status| status.state);
            // An agent that is already where it should be may have nothing new to say.
            let (outcome, detail) = match state {
                Some(state) if state == wanted(desired) => (Outcome::Acknowledged, state.to_string()),
                _ if !online.contains(&host) => (Outcome::Offline, "went away; carried out when it returns".to_owned()),
                Some(state) => (Outcome::TimedOut, format!("is still {state}")),
                None => (Outcome::TimedOut, "has not reported yet".to_owned()),
            };
            outcomes.push(told(&peer, outcome, &detail));
        }
        Ok(())
    }
}

fn wanted(desired: DesiredState) -> PeerState {
    match desired {
        DesiredState::Up => PeerState::Tunneling,
        DesiredState::Down => PeerState::Released,
    }
}

/// The outcome that a report settles, if it does.
fn settled(awaited: &Awaited, desired: DesiredState, status: &MembershipStatus) -> Option<(Outcome, String)> {
    if awaited.since.is_some_and(|since| status.revision < since.get()) {
        return None;
    }
    match status.state {
        state if state == wanted(desired) => Some((Outcome::Acknowledged, state.to_string())),
        PeerState::Failed => Some((Outcome::Failed, status.reason.clone())),
        _ => None,
    }
}

fn told(peer: &PeerRow, outcome: Outcome, detail: &str) -> PeerOutcome {
    PeerOutcome { host: peer.id().clone(), name: peer.name().to_owned(), outcome, detail: detail.to_owned() }
}
