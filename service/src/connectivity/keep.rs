//! Runs as they are kept: the last ones of every network, until it is deleted.
//!
//! Results go before their head, so that what a crash leaves is found by its head and deleted later.

use cladnet_model::{ConnectivityRun, NetworkId, RunId, connectivity::Results};
use cladnet_store::{AnyKey, Revision, Store, StoreError, key};
use jiff::Timestamp;

use crate::{Service, error::CallError};

/// Runs kept of each network; also how many may be started at a time, as none is deleted while it goes on.
pub(super) const KEPT: usize = 10;

/// Records deleted in one transaction.
const BATCH: usize = 100;

impl Service {
    /// The last runs of a network, newest first, each with what is known of its results; those of a run that has ended
    /// stand in its head and are not read.
    pub(crate) async fn last_runs(&self, network: &NetworkId) -> Result<Vec<(ConnectivityRun, Results)>, CallError> {
        self.network(network).await?;
        let mut last = Vec::new();
        for run in self.runs(network).await?.into_iter().take(KEPT) {
            let results = match run.outcome {
                Some(_) => Results::new(),
                None => self.results(&run).await?,
            };
            last.push((run, results));
        }
        Ok(last)
    }

    /// A run with its results, or that there is none.
    pub(crate) async fn run(&self, network: &NetworkId, id: &RunId) -> Result<(ConnectivityRun, Results), CallError> {
        let Some(run) = self.store.get(&key::connectivity_run(network, id)).await? else {
            self.network(network).await?;
            return Err(CallError::NotFound(format!(
                "network {network} has no connectivity run {id}; the last {KEPT} are kept"
            )));
        };
        let results = self.results(&run.value).await?;
        Ok((run.value, results))
    }

    /// Writes the head of a run whose network must be there.
    pub(super) async fn open_run(&self, run: &ConnectivityRun) -> Result<(), CallError> {
        let network = key::network(&run.network);
        let write = self.store.transaction().exists(&network).put(&key::connectivity_run(&run.network, &run.id), run);
        match write.commit().await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { .. }) => {
                Err(CallError::NotFound(format!("there is no network {} any more", run.network)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Every run of a network, newest first.
    pub(super) async fn runs(&self, network: &NetworkId) -> Result<Vec<ConnectivityRun>, StoreError> {
        let runs = self.store.list(&key::connectivity_runs(network)).await?.items;
        Ok(runs.into_iter().rev().map(|run| run.value).collect())
    }

    /// Deletes the runs of a network that goes, those made up to `until`.
    pub(crate) async fn delete_runs(&self, network: &NetworkId, until: Revision) -> Result<(), StoreError> {
        for run in self.store.list(&key::connectivity_runs(network)).await?.items {
            if run.created <= until {
                delete(&self.store, &run.value).await?;
                // Those that came while it was deleted; without its head nothing more is written.
                delete_results(&self.store, &run.value).await?;
            }
        }
        Ok(())
    }

    async fn results(&self, run: &ConnectivityRun) -> Result<Results, StoreError> {
        let records = self.store.list(&key::connectivity_results(&run.network, &run.id)).await?.items;
        let by_host = records.into_iter().filter_map(|record| match record.key.parse() {
            AnyKey::ConnectivityResult(.., host) => Some((host, record.value)),
            _ => None,
        });
        Ok(by_host.collect())
    }
}

/// Deletes what is older than the last runs of a network; none that still goes on.
pub(super) async fn trim(store: &Store, network: &NetworkId, now: Timestamp) -> Result<(), StoreError> {
    let runs = store.list(&key::connectivity_runs(network)).await?.items;
    let old = runs.iter().rev().skip(KEPT).map(|run| &run.value);
    for run in old.filter(|run| run.is_over(now)) {
        delete(store, run).await?;
    }
    Ok(())
}

async fn delete(store: &Store, run: &ConnectivityRun) -> Result<(), StoreError> {
    delete_results(store, run).await?;
    store.transaction().delete(&key::connectivity_run(&run.network, &run.id)).commit().await.map(drop)
}

async fn delete_results(store: &Store, run: &ConnectivityRun) -> Result<(), StoreError> {
    let asked: Vec<_> = run.asked().collect();
    for hosts in asked.chunks(BATCH) {
        let delete = hosts.iter().fold(store.transaction(), |delete, host| {
            delete.delete(&key::connectivity_result(&run.network, &run.id, host))
        });
        delete.commit().await?;
    }
    Ok(())
}
