//! One run from its first ping to its last record. It has a task of its own: nobody needs to wait for it.

use cladnet_model::{
    ConnectivityResult, ConnectivityRun, HostId, RoundTrips,
    connectivity::{MissingHost, PairFigures, Results},
};
use cladnet_proto::{
    cladnet::v1::{ConnectivityTest, PingResult},
    convert,
};
use cladnet_store::{Store, StoreError, key};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::keep;
use crate::{
    Clock, Service,
    agents::{Agents, CommandError, ConnectivityPlan},
};

/// Results written in one transaction: the largest of them together are within what the store takes.
const BATCH: usize = 16;

impl Service {
    /// Carries a run out whose head is written. The receiver gets the answer as soon as the last peer's is here, written or
    /// not; it may be dropped.
    pub(super) fn carry_out(
        &self,
        run: ConnectivityRun,
        plan: ConnectivityPlan,
    ) -> oneshot::Receiver<ConnectivityTest> {
        let (told, answer) = oneshot::channel();
        let runner = Runner { store: self.store.clone(), agents: self.agents.clone(), clock: self.clock.clone(), run };
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move { shutdown.run_until_cancelled(runner.carry_out(plan, told)).await });
        answer
    }
}

struct Runner {
    store: Store,
    agents: Agents,
    clock: Clock,
    run: ConnectivityRun,
}

impl Runner {
    async fn carry_out(self, plan: ConnectivityPlan, told: oneshot::Sender<ConnectivityTest>) {
        let (written, to_write) = mpsc::unbounded_channel();
        let asking = async {
            let results = self.ask(&plan, written).await;
            let answer = convert::connectivity_test(&self.run, &results, self.clock.now());
            let _ = told.send(answer); // nobody may be waiting
            results
        };
        let (results, ()) = tokio::join!(asking, self.write(to_write));
        self.tell("ended", self.end(&results).await);
        self.tell("trimmed", keep::trim(&self.store, &self.run.network, self.clock.now()).await);
    }

    /// Lets everybody ping, and hands every answer on to be written when it comes.
    async fn ask(
        &self,
        plan: &ConnectivityPlan,
        written: mpsc::UnboundedSender<(HostId, ConnectivityResult)>,
    ) -> Results {
        let taken = |source: &HostId, pings: Vec<PingResult>, error: Option<CommandError>| {
            let failure = error.map(|error| MissingHost {
                host: source.clone(),
                outcome: error.outcome().to_owned(),
                detail: error.to_string(),
            });
            let result =
                ConnectivityResult::new(pings.into_iter().filter_map(|ping| self.pair(ping)).collect(), failure);
            let _ = written.send((source.clone(), result.fitted())); // the run may have been deleted
            result
        };
        self.agents.ping_each_other(plan, taken).await.into_iter().collect()
    }

    /// What an agent says of a host that it was to ping.
    fn pair(&self, ping: PingResult) -> Option<PairFigures> {
        let destination: HostId = ping.host_id.parse().ok()?;
        let round_trips = RoundTrips::of(&ping.rtts_us).unwrap_or_default();
        let known = self.run.hosts.contains_key(&destination);
        known.then_some(PairFigures { destination, sent: ping.sent, round_trips, error: ping.error })
    }

    /// Writes results as they come, many at once where they come fast, as long as the run is there.
    async fn write(&self, mut results: mpsc::UnboundedReceiver<(HostId, ConnectivityResult)>) {
        let ConnectivityRun { network, id, .. } = &self.run;
        let mut batch = Vec::with_capacity(BATCH);
        while results.recv_many(&mut batch, BATCH).await > 0 {
            let while_kept = self.store.transaction().exists(&key::connectivity_run(network, id));
            let write = batch.drain(..).fold(while_kept, |write, (host, result)| {
                write.put(&key::connectivity_result(network, id, &host), &result)
            });
            self.tell("written", write.commit().await.map(drop));
        }
    }

    async fn end(&self, results: &Results) -> Result<(), StoreError> {
        let figures = self.run.figures(results, self.clock.now());
        let ended = ConnectivityRun { outcome: Some(figures), ..self.run.clone() };
        let head = key::connectivity_run(&ended.network, &ended.id);
        self.store.transaction().exists(&head).put(&head, &ended).commit().await.map(drop)
    }

    fn tell(&self, what: &'static str, outcome: Result<(), StoreError>) {
        match outcome {
            Ok(()) | Err(StoreError::Conflict { .. }) => {} // it was deleted meanwhile
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, run = %self.run.id, what, "connectivity run not kept");
            }
        }
    }
}
