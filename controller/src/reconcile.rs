//! The leader's loop: take in what happened, plan each network concerned, write what differs.

use std::error::Error;

use cladnet_model::{HostId, Membership, NetworkId, Plan, Step, plan};
use cladnet_store::{AnyRecord, Follow, Leadership, Revision, StoreError, key};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::{
    Controller,
    agenda::Agenda,
    carry::Carrier,
    world::{Known, NetworkView, World},
};

/// Steps of one kind carried out at once; the store commits them in groups.
const AT_ONCE: usize = 64;

/// How a network was left.
struct Round {
    /// The last write.
    written: Revision,
    /// Steps that were refused or failed.
    failed: usize,
    wake_at: Option<Timestamp>,
}

impl Controller {
    /// Leads until something ends that; says what.
    pub(crate) async fn lead(&self, leadership: &Leadership) -> StoreError {
        match self.try_lead(leadership).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_lead(&self, leadership: &Leadership) -> Result<std::convert::Infallible, StoreError> {
        let mut follow = self.store.follow(&key::everything());
        let (mut world, mut agenda) = (World::default(), Agenda::new((self.clock)()));
        let mut written = Revision::ZERO;
        loop {
            self.listen(&mut follow, &mut world, &mut agenda, written).await?;
            for network in agenda.take((self.clock)(), world.network_ids()) {
                let round = self.reconcile(leadership, &world, &network).await?;
                written = written.max(round.written);
                match round.failed {
                    0 => agenda.settled(&network, round.wake_at),
                    _ => agenda.failed(&network, (self.clock)()),
                }
            }
        }
    }

    /// Waits until there is something to do, then takes in all that is here, and at least this leader's own writes.
    async fn listen(
        &self,
        follow: &mut Follow<AnyRecord>,
        world: &mut World,
        agenda: &mut Agenda,
        written: Revision,
    ) -> Result<(), StoreError> {
        tokio::select! {
            update = follow.next() => agenda.add(world.apply(update.ok_or(StoreError::Closed)?)),
            () = sleep(agenda.idle_time((self.clock)())) => {}
        }
        while world.revision() < written {
            agenda.add(world.apply(follow.next().await.ok_or(StoreError::Closed)?));
        }
        while let Some(update) = follow.try_next() {
            agenda.add(world.apply(update));
        }
        Ok(())
    }

    /// Brings one network to its plan. Fails only when this leader must stop.
    async fn reconcile(&self, leadership: &Leadership, world: &World, id: &NetworkId) -> Result<Round, StoreError> {
        let mut round = Round { written: Revision::ZERO, failed: 0, wake_at: None };
        let Some(view) = world.network(id) else { return Ok(round) };
        let now = (self.clock)();
        let plan = plan_for(world, id, view, now);
        round.wake_at = plan.wake_at;
        let carrier = Carrier { store: &self.store, fence: leadership.fence(), world, id, view, now };
        let of_a_kind = plan.steps.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b));
        for steps in of_a_kind.flat_map(|steps| steps.chunks(AT_ONCE)) {
            let commits: Vec<_> = steps.iter().map(|step| carrier.transaction(step).commit()).collect();
            for (step, outcome) in steps.iter().zip(join_all(commits).await) {
                round.note(id, step, outcome)?;
            }
        }
        Ok(round)
    }
}

impl Round {
    fn note(&mut self, id: &NetworkId, step: &Step, outcome: Result<Revision, StoreError>) -> Result<(), StoreError> {
        match outcome {
            Ok(revision) => {
                self.written = self.written.max(revision);
                tell(id, step);
            }
            Err(error @ (StoreError::NotLeader { .. } | StoreError::Closed)) => return Err(error),
            Err(StoreError::Conflict { key }) => {
                debug!(network = %id, ?step, key, "overtaken; will plan again");
                self.failed += 1;
            }
            Err(error) => {
                warn!(network = %id, ?step, error = &error as &dyn Error, "step failed; will plan again");
                self.failed += 1;
            }
        }
        Ok(())
    }
}

fn plan_for(world: &World, id: &NetworkId, view: &NetworkView, now: Timestamp) -> Plan {
    let allocations = view.allocations_or_stand_ins(id, now);
    let peers = || view.peers.values().filter_map(Known::record);
    let mut plan = match &view.network {
        Known::Unreadable => return Plan::default(),
        Known::Absent => plan::plan_removal(peers(), view.allocations.values().filter_map(Known::record)),
        Known::Record(network, _) => plan::plan(now, network, members(world, view), peers(), &allocations),
    };
    // Whoever cannot be read is a member still.
    let is_unreadable =
        |host: &HostId| matches!(view.memberships.get(host), Some(Known::Unreadable)) && world.has_host(host);
    plan.steps.retain(|step| match step {
        Step::Release { host, .. } | Step::Forget { host } => !is_unreadable(host),
        Step::Reclaim { .. } | Step::Give { .. } | Step::Report { .. } => true,
    });
    plan
}

/// The memberships of living hosts.
fn members<'a>(world: &'a World, view: &'a NetworkView) -> impl Iterator<Item = &'a Membership> {
    view.memberships.values().filter_map(Known::record).filter(|membership| world.has_host(&membership.host))
}

fn tell(id: &NetworkId, step: &Step) {
    match step {
        Step::Give { host, address } => info!(network = %id, %host, %address, "address given"),
        Step::Release { address, host } => info!(network = %id, %host, %address, "address released"),
        Step::Reclaim { address, .. } => debug!(network = %id, %address, "address free again"),
        Step::Report { host, problem, .. } => warn!(network = %id, %host, problem, "no address for a peer"),
        Step::Forget { host } => info!(network = %id, %host, "peer removed"),
    }
}

#[cfg(test)]
mod tests;
