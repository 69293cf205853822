//! Which hosts are connected to this replica, for everybody to see: a leased record per stream. Level-triggered: streams
//! only say that something changed, and what differs between the streams and what was written is written, many hosts in
//! one transaction. Streams live on without it while the store does not answer.
//!
//! Beside it stands a record without a lease, made with the event that the host is online and deleted with the one that it
//! is offline. When a replica crashes, presence vanishes and this record stays: whichever replica sees that first deletes
//! it with the event, also the same one after its restart, and nobody else can.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cladnet_model::HostId;
use cladnet_store::{Lease, Revision, StoreError, Transaction, key};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::{Shared, follow::look_at_presence, streams::Handle};
use crate::events::Note;

/// So long the hosts of a replica that vanished count as connected.
const LEASE: Duration = Duration::from_secs(10);
/// Hosts in one transaction: three changes each, and room below what a transaction may have.
const CHUNK: usize = 40;
/// Before the store is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// What was written for a host, by which of its streams.
#[derive(Debug, Clone, Copy)]
struct Claim {
    stream: u64,
    revision: Revision,
}

/// A host without a stream here; with what was written for the last one, or without if that was a crashed replica's.
type Gone = (HostId, Option<Claim>);

/// Keeps presence until the replica stops; then everything it wrote is gone.
pub(super) async fn run(shared: &Shared) {
    let keep = async {
        loop {
            match shared.parts.store.grant(LEASE).await {
                Ok(lease) => keep(shared, &lease).await,
                Err(error) => {
                    warn!(%error, "no lease for the presence of hosts");
                    sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = keep => {}
        () = shared.parts.shutdown.cancelled() => {}
    }
}

/// Until the lease is lost.
async fn keep(shared: &Shared, lease: &Lease) {
    let mut keeper = Keeper { shared, lease, claims: BTreeMap::new(), written: Revision::ZERO };
    shared.streams.touch_all(); // under an earlier lease, if there was one
    loop {
        let touched = tokio::select! {
            touched = shared.streams.touched() => touched,
            () = lease.lost() => {
                warn!("lease of presence lost; writing it again under a new one");
                return;
            }
        };
        let failed = keeper.look_at(touched).await;
        if !failed.is_empty() {
            sleep(PAUSE).await;
            failed.iter().for_each(|host| shared.streams.touch(host));
        }
    }
}

/// What this replica has written of its hosts under one lease.
struct Keeper<'a> {
    shared: &'a Shared,
    lease: &'a Lease,
    claims: BTreeMap<HostId, Claim>,
    /// When it wrote last.
    written: Revision,
}

impl Keeper<'_> {
    /// Writes what differs; gives the hosts that must be looked at again.
    async fn look_at(&mut self, touched: BTreeSet<HostId>) -> BTreeSet<HostId> {
        // The view tells who counts as connected. If it stays behind, conflicts do.
        let _ = self.shared.reached(self.written.get()).await;
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        for host in touched {
            match self.shared.streams.get(&host) {
                Some(handle) if self.is_claimed(&host, &handle) => {}
                Some(handle) => came.push((host, handle)),
                None => match self.claims.remove(&host) {
                    None if !self.shared.view().is_lost(&host) => {}
                    claim => gone.push((host, claim)),
                },
            }
        }
        let mut failed = BTreeSet::new();
        for chunk in came.chunks(CHUNK) {
            if let Err(error) = self.claim(chunk).await {
                warn!(%error, hosts = chunk.len(), "presence not written; trying again");
                failed.extend(chunk.iter().map(|(host, _)| host.clone()));
            }
        }
        for (host, claim) in self.release_all(&gone).await {
            failed.insert(host.clone());
            self.claims.extend(claim.map(|claim| (host, claim)));
        }
        failed
    }

    /// Whether this stream's presence was written and is still there.
    fn is_claimed(&self, host: &HostId, handle: &Handle) -> bool {
        self.claims.get(host).is_some_and(|claim| claim.stream == handle.number) && {
            let view = self.shared.view();
            let behind = view.revision() < Some(handle.claimed().get());
            behind || view.presence(host).is_some()
        }
    }

    /// A newer stream replaces whatever is there.
    async fn claim(&mut self, hosts: &[(HostId, Arc<Handle>)]) -> Result<(), StoreError> {
        let mut transaction = self.shared.parts.store.transaction();
        for (host, handle) in hosts {
            let stream = key::stream(host);
            transaction = transaction.put_leased(&key::presence(host), &handle.presence, self.lease);
            transaction = if self.shared.view().is_connected(host) {
                transaction.exists(&stream)
            } else {
                let transaction = transaction.absent(&stream).put(&stream, &handle.presence);
                note(self.shared, transaction, "host.online", host, format!("{host} connected"))
            };
        }
        self.written = transaction.commit().await?;
        for (host, handle) in hosts {
            handle.set_claimed(self.written);
            self.claims.insert(host.clone(), Claim { stream: handle.number, revision: self.written });
            look_at_presence(self.shared, &self.shared.view(), host);
        }
        Ok(())
    }

    /// Says that hosts are gone, together where all of it is still true, else one by one; gives those to be looked at again.
    async fn release_all(&mut self, hosts: &[Gone]) -> Vec<Gone> {
        let mut again = Vec::new();
        let mut pieces: Vec<&[Gone]> = hosts.chunks(CHUNK).collect();
        while let Some(piece) = pieces.pop() {
            match (self.release(piece).await, piece) {
                (Ok(()), _) => {}
                (Err(StoreError::Conflict { .. }), [(host, claim)]) => {
                    debug!(%host, "presence is another replica's now, or it has told of its end");
                    again.extend(claim.map(|_| (host.clone(), None))); // or it vanished: then it is to be told of
                }
                (Err(StoreError::Conflict { .. }), _) => pieces.extend(piece.chunks(1)),
                (Err(error), _) => {
                    warn!(%error, hosts = piece.len(), "presence not taken away; trying again");
                    again.extend_from_slice(piece);
                }
            }
        }
        again
    }

    async fn release(&mut self, hosts: &[Gone]) -> Result<(), StoreError> {
        let mut transaction = self.shared.parts.store.transaction();
        for (host, claim) in hosts {
            let (presence, stream) = (key::presence(host), key::stream(host));
            let (conditional, message) = match claim {
                Some(claim) => {
                    let ours = transaction.unchanged(&presence, claim.revision).delete(&presence);
                    (ours, format!("{host} disconnected"))
                }
                None => {
                    let lost = transaction.absent(&presence).exists(&stream);
                    (lost, format!("{host} was lost with the replica that held its stream"))
                }
            };
            transaction = note(self.shared, conditional.delete(&stream), "host.offline", host, message);
        }
        self.written = transaction.commit().await?;
        Ok(())
    }
}

fn note(shared: &Shared, transaction: Transaction, kind: &'static str, host: &HostId, message: String) -> Transaction {
    let note = Note { kind, network: None, host: Some(host), actor: host.as_str(), message };
    shared.note(transaction, note)
}

#[cfg(test)]
mod tests;
