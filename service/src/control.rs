//! Taking peers up and down, and waiting until their agents say that it is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cladnet_model::{DesiredState, HostId, Membership, MembershipStatus, NetworkId, PeerState};
use cladnet_store::{AnyKey, Change, Revision, StoreError, Versioned, key};
use tokio::time::{Instant, timeout_at};

use crate::{Service, error::CallError, networks::TRIES, peers::PeerRow};

/// Peers told in one transaction: each takes two changes.
const CHUNK: usize = 60;

/// What is said of those who have not carried it out.
const STORED: &str = "the wish is stored and takes effect when it returns";

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
        let steered = peers.iter().filter(|peer| !peer.membership.plain).map(PeerRow::id).collect();
        let told = self.desire(network, steered, desired, actor).await?;
        let (mut reports, mut connected) = (Reports::new(desired), Vec::new());
        for peer in peers {
            match told.get(peer.id()) {
                _ if peer.membership.plain => {
                    reports.tell(&peer, Outcome::Failed, "runs plain WireGuard, which nobody steers from here");
                }
                None => reports.tell(&peer, Outcome::Failed, "left the network at the same moment"),
                Some(_) if !peer.online => {
                    reports.tell(&peer, Outcome::Offline, &format!("is offline; {STORED}"));
                }
                Some(since) => connected.push((peer, *since)),
            }
        }
        // The agents' time begins when the last of them has been told.
        let deadline = Instant::now() + wait;
        // A stream may outlive its machine for a while, and so may what was reported on it.
        let ids: Vec<HostId> = connected.iter().map(|(peer, _)| peer.id().clone()).collect();
        let asked = self.agents.ask_all(&ids, |host| self.agents.answers(network, host, deadline)).await;
        for ((peer, since), (_, answers)) in connected.into_iter().zip(asked) {
            match (since, answers) {
                (None, false) => reports.tell(&peer, Outcome::Offline, &format!("does not answer; {STORED}")),
                _ => reports.expect(peer, since, answers),
            }
        }
        self.await_reports(network, deadline, &mut reports).await?;
        Ok(reports.conclude(&self.online().await?))
    }

    /// Writes what is wished for the members among `hosts`, many in one transaction; says at which revision, none if it
    /// was wished for already. Nobody is told twice: a later wish of somebody else stays.
    async fn desire(
        &self,
        network: &NetworkId,
        mut hosts: BTreeSet<&HostId>,
        desired: DesiredState,
        actor: &str,
    ) -> Result<BTreeMap<HostId, Option<Revision>>, CallError> {
        let mut told = BTreeMap::new();
        for _ in 0..TRIES {
            let members = self.members_among(network, &hosts).await?;
            let (done, others): (Vec<_>, Vec<_>) =
                members.into_iter().partition(|member| member.value.desired_state == desired);
            told.extend(done.into_iter().map(|member| (member.value.host, None)));
            let mut conflicted = false;
            for chunk in others.chunks(CHUNK) {
                let wish = |transaction, member: &Versioned<Membership>| {
                    let changed = Membership { desired_state: desired, ..member.value.clone() };
                    self.change_peer(transaction, member, &changed, actor)
                };
                match chunk.iter().fold(self.store.transaction(), wish).commit().await {
                    Ok(at) => told.extend(chunk.iter().map(|member| (member.value.host.clone(), Some(at)))),
                    Err(StoreError::Conflict { .. }) => conflicted = true, // somebody changed one of them
                    Err(error) => return Err(error.into()),
                }
            }
            if !conflicted {
                return Ok(told);
            }
            hosts.retain(|host| !told.contains_key(*host));
        }
        Err(CallError::Conflict(format!(
            "peers of network {network} keep changing at the same moment; repeat the call"
        )))
    }

    /// The memberships of those among `hosts` who have one. One that cannot be read is not one that is gone.
    async fn members_among(
        &self,
        network: &NetworkId,
        hosts: &BTreeSet<&HostId>,
    ) -> Result<Vec<Versioned<Membership>>, CallError> {
        let mut members = self.store.list(&key::memberships(network)).await?;
        members.undecodable.retain(|bad| match AnyKey::parse(&bad.key) {
            AnyKey::Membership(_, host) => hosts.contains(&host),
            _ => true,
        });
        let members = members.complete()?.into_iter();
        Ok(members.filter(|member| hosts.contains(&member.value.host)).collect())
    }

    /// Hears reports until all that are expected have come, or until the deadline.
    async fn await_reports(
        &self,
        network: &NetworkId,
        deadline: Instant,
        reports: &mut Reports,
    ) -> Result<(), CallError> {
        let statuses = key::statuses(network);
        while !reports.are_complete() {
            let listed = self.store.list(&statuses).await?;
            listed.items.into_iter().for_each(|status| reports.hear(status));
            let mut watch = self.store.watch(&statuses, listed.revision).await?;
            while !reports.are_complete() {
                let batch = match timeout_at(deadline, watch.next()).await {
                    Ok(Ok(batch)) => batch,
                    Ok(Err(StoreError::Compacted)) => break, // list again
                    Ok(Err(error)) => return Err(error.into()),
                    Err(_) => return Ok(()),
                };
                for change in batch.changes {
                    if let Change::Put(status) = change {
                        reports.hear(status);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What agents have reported, and of which reports are still to come. Pure.
struct Reports {
    desired: DesiredState,
    expected: BTreeMap<HostId, Expected>,
    outcomes: Vec<PeerOutcome>,
}

/// A report that is to come.
struct Expected {
    peer: PeerRow,
    /// Only a report of this revision or a later one counts; any does when nothing was changed and the agent answers.
    since: Option<Revision>,
    /// Whether the agent answered after the wish was written.
    answers: bool,
    /// The last one, whether it counts or not.
    last: Option<PeerState>,
}

impl Reports {
    fn new(desired: DesiredState) -> Self {
        Self { desired, expected: BTreeMap::new(), outcomes: Vec::new() }
    }

    fn expect(&mut self, peer: PeerRow, since: Option<Revision>, answers: bool) {
        self.expected.insert(peer.id().clone(), Expected { peer, since, answers, last: None });
    }

    fn are_complete(&self) -> bool {
        self.expected.is_empty()
    }

    fn tell(&mut self, peer: &PeerRow, outcome: Outcome, detail: &str) {
        let (host, name) = (peer.id().clone(), peer.name().to_owned());
        self.outcomes.push(PeerOutcome { host, name, outcome, detail: detail.to_owned() });
    }

    fn wanted(&self) -> PeerState {
        match self.desired {
            DesiredState::Up => PeerState::Tunneling,
            DesiredState::Down => PeerState::Released,
        }
    }

    fn hear(&mut self, status: Versioned<MembershipStatus>) {
        let AnyKey::Status(_, host) = status.key.parse() else { return };
        let wanted = self.wanted();
        let Some(expected) = self.expected.get_mut(&host) else { return };
        let MembershipStatus { state, reason, revision, .. } = status.value;
        expected.last = Some(state);
        if expected.since.is_some_and(|since| revision < since.get()) {
            return;
        }
        let (outcome, detail) = match state {
            state if state == wanted => (Outcome::Acknowledged, state.to_string()),
            PeerState::Failed => (Outcome::Failed, reason),
            _ => return,
        };
        if let Some(Expected { peer, .. }) = self.expected.remove(&host) {
            self.tell(&peer, outcome, &detail);
        }
    }

    /// No more reports: what is missing is told by the last one and by whether the agent is still `online`.
    fn conclude(mut self, online: &BTreeSet<HostId>) -> Vec<PeerOutcome> {
        for (host, Expected { peer, last, answers, .. }) in std::mem::take(&mut self.expected) {
            match last {
                _ if !online.contains(&host) => self.tell(&peer, Outcome::Offline, &format!("went away; {STORED}")),
                Some(_) if !answers => self.tell(&peer, Outcome::TimedOut, &format!("does not answer; {STORED}")),
                // An agent that is where it should be already may have nothing new to say.
                Some(state) if state == self.wanted() => self.tell(&peer, Outcome::Acknowledged, state.as_str()),
                Some(state) => self.tell(&peer, Outcome::TimedOut, &format!("is still {state}")),
                None => self.tell(&peer, Outcome::TimedOut, "has not reported yet"),
            }
        }
        self.outcomes.sort_by(|one, other| one.host.cmp(&other.host));
        self.outcomes
    }
}
