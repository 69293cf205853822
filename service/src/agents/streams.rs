//! The streams that this replica holds, by host.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use cladnet_model::{HostId, Presence};
use cladnet_proto::cladnet::v1::AgentCommand;
use cladnet_store::Revision;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::commands::Asked;

/// A stream as others reach it.
#[derive(Debug)]
pub(crate) struct Handle {
    /// Tells streams of one host apart; later ones are greater.
    pub(crate) number: u64,
    pub(crate) presence: Presence,
    /// What the agent is asked.
    pub(super) asked: Asked,
    /// There may be something new to be told.
    pub(crate) wake: Notify,
    /// Revision at which this stream's presence was written; zero before.
    claimed: AtomicI64,
    reason: OnceLock<Status>,
    ended: CancellationToken,
}

impl Handle {
    /// Ends the stream; the agent is told `reason`.
    pub(crate) fn end(&self, reason: Status) {
        let _ = self.reason.set(reason); // the first reason is the one
        self.ended.cancel();
    }

    /// Waits until somebody ends it.
    pub(crate) async fn ended(&self) -> Status {
        self.ended.cancelled().await;
        self.reason.get().cloned().unwrap_or_else(|| Status::unavailable("the stream was ended"))
    }

    pub(crate) fn claimed(&self) -> Revision {
        self.claimed.load(Ordering::Acquire).into()
    }

    pub(crate) fn set_claimed(&self, revision: Revision) {
        self.claimed.store(revision.get(), Ordering::Release);
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    by_host: Mutex<HashMap<HostId, Arc<Handle>>>,
    numbers: AtomicU64,
    /// Hosts whose stream came or went, here or with a replica that crashed, for whoever keeps presence.
    touched: Mutex<BTreeSet<HostId>>,
    touch: Notify,
}

impl Streams {
    /// Registers a host's stream, which takes its commands from the receiver; an older one is ended.
    pub(crate) fn open(&self, host: &HostId, presence: Presence) -> (Arc<Handle>, mpsc::Receiver<AgentCommand>) {
        let (asked, commands) = Asked::new();
        let handle = Arc::new(Handle {
            number: self.numbers.fetch_add(1, Ordering::Relaxed) + 1,
            presence,
            asked,
            wake: Notify::new(),
            claimed: AtomicI64::new(0),
            reason: OnceLock::new(),
            ended: CancellationToken::new(),
        });
        if let Some(old) = self.lock().insert(host.clone(), handle.clone()) {
            old.end(replaced());
        }
        self.touch(host);
        (handle, commands)
    }

    /// Forgets a stream, unless a newer one of the host stands in its place.
    pub(crate) fn close(&self, host: &HostId, number: u64) {
        let mut by_host = self.lock();
        if by_host.get(host).is_some_and(|handle| handle.number == number) {
            by_host.remove(host);
            drop(by_host);
            self.touch(host);
        }
    }

    /// The stream of a host.
    pub(crate) fn get(&self, host: &HostId) -> Option<Arc<Handle>> {
        self.lock().get(host).cloned()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Wakes the streams of these hosts.
    pub(crate) fn wake<'a>(&self, hosts: impl Iterator<Item = &'a HostId>) {
        let by_host = self.lock();
        for handle in hosts.filter_map(|host| by_host.get(host)) {
            handle.wake.notify_one();
        }
    }

    /// Wakes every stream.
    pub(crate) fn wake_all(&self) {
        self.lock().values().for_each(|handle| handle.wake.notify_one());
    }

    /// Ends every stream.
    pub(crate) fn end_all(&self, reason: &Status) {
        self.lock().values().for_each(|handle| handle.end(reason.clone()));
    }

    /// Marks a host's presence as something to look at.
    pub(crate) fn touch(&self, host: &HostId) {
        self.touched.lock().expect("no holder of this lock panics").insert(host.clone());
        self.touch.notify_one();
    }

    /// Marks every stream's presence.
    pub(crate) fn touch_all(&self) {
        let hosts: Vec<HostId> = self.lock().keys().cloned().collect();
        self.touched.lock().expect("no holder of this lock panics").extend(hosts);
        self.touch.notify_one();
    }

    /// Waits for marks and takes them.
    pub(crate) async fn touched(&self) -> BTreeSet<HostId> {
        loop {
            let touched = std::mem::take(&mut *self.touched.lock().expect("no holder of this lock panics"));
            if !touched.is_empty() {
                return touched;
            }
            self.touch.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostId, Arc<Handle>>> {
        self.by_host.lock().expect("no holder of this lock panics")
    }
}

/// Why a stream ends that a newer one follows.
pub(crate) fn replaced() -> Status {
    Status::aborted("a newer stream of this host replaced this one")
}
