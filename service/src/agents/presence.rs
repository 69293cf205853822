//! Which hosts are connected to this replica, for everybody to see: a leased record per stream. Level-triggered: streams
//! only say that something changed, and what differs between the streams and what was written is written, many hosts in
//! one transaction. Streams live on without it while the store does not answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cladnet_model::HostId;
use cladnet_store::{Lease, Revision, StoreError, Transaction, key};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Shared, follow::look_at_presence, streams::Handle};
use crate::events::Note;

/// So long the hosts of a replica that vanished count as connected.
const LEASE: Duration = Duration::from_secs(10);
/// Hosts in one transaction: two changes each, and room below what a transaction may have.
const CHUNK: usize = 48;
/// Before the store is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// What was written for a host, by which of its streams.
struct Claim {
    stream: u64,
    revision: Revision,
}

type Claims = BTreeMap<HostId, Claim>;

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
    let mut claims = Claims::new();
    shared.streams.touch_all(); // under an earlier lease, if there was one
    loop {
        let touched = tokio::select! {
            touched = shared.streams.touched() => touched,
            () = lease.lost() => {
                warn!("lease of presence lost; writing it again under a new one");
                return;
            }
        };
        let (mut came, mut gone) = (Vec::new(), Vec::new());
        for host in touched {
            match shared.streams.get(&host) {
                Some(handle) if is_claimed(shared, &claims, &host, &handle) => {}
                Some(handle) => came.push((host, handle)),
                None => gone.extend(claims.remove(&host).map(|claim| (host, claim))),
            }
        }
        let mut failed = BTreeSet::new();
        for chunk in came.chunks(CHUNK) {
            if let Err(error) = claim(shared, lease, &mut claims, chunk).await {
                warn!(%error, hosts = chunk.len(), "presence not written; trying again");
                failed.extend(chunk.iter().map(|(host, _)| host.clone()));
            }
        }
        for chunk in gone.chunks(CHUNK) {
            release(shared, chunk).await;
        }
        if !failed.is_empty() {
            sleep(PAUSE).await;
            failed.iter().for_each(|host| shared.streams.touch(host));
        }
    }
}

/// Whether this stream's presence was written and is still there.
fn is_claimed(shared: &Shared, claims: &Claims, host: &HostId, handle: &Handle) -> bool {
    claims.get(host).is_some_and(|claim| claim.stream == handle.number) && {
        let view = shared.view();
        let behind = view.revision() < Some(handle.claimed().get());
        behind || view.presence(host).is_some()
    }
}

/// A newer stream replaces whatever is there.
async fn claim(
    shared: &Shared,
    lease: &Lease,
    claims: &mut Claims,
    hosts: &[(HostId, Arc<Handle>)],
) -> Result<(), StoreError> {
    let mut transaction = shared.parts.store.transaction();
    for (host, handle) in hosts {
        transaction = transaction.put_leased(&key::presence(host), &handle.presence, lease);
        if shared.view().presence(host).is_none() {
            transaction = note(shared, transaction, "host.online", host, format!("{host} connected"));
        }
    }
    let revision = transaction.commit().await?;
    for (host, handle) in hosts {
        handle.set_claimed(revision);
        claims.insert(host.clone(), Claim { stream: handle.number, revision });
        look_at_presence(shared, &shared.view(), host);
    }
    Ok(())
}

/// Takes away what is still ours: together if it all is, else one by one.
async fn release(shared: &Shared, hosts: &[(HostId, Claim)]) {
    let result = release_together(shared, hosts).await;
    let Err(error) = result else { return };
    if !matches!(error, StoreError::Conflict { .. }) {
        // What stays behind ends with the lease, or when the host connects again.
        warn!(%error, hosts = hosts.len(), "presence not taken away");
        return;
    }
    if hosts.len() > 1 {
        for host in hosts {
            if let Err(error) = release_together(shared, std::slice::from_ref(host)).await {
                info!(%error, host = %host.0, "presence is another replica's now");
            }
        }
    }
}

async fn release_together(shared: &Shared, hosts: &[(HostId, Claim)]) -> Result<Revision, StoreError> {
    let mut transaction = shared.parts.store.transaction();
    for (host, claim) in hosts {
        let presence = key::presence(host);
        transaction = transaction.unchanged(&presence, claim.revision).delete(&presence);
        transaction = note(shared, transaction, "host.offline", host, format!("{host} disconnected"));
    }
    transaction.commit().await
}

fn note(shared: &Shared, transaction: Transaction, kind: &'static str, host: &HostId, message: String) -> Transaction {
    let note = Note { kind, network: None, host: Some(host), actor: host.as_str(), message };
    shared.note(transaction, note)
}
