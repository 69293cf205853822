//! The members of the cluster: which one is asked, for how long, and who is asked next.
//!
//! One connection per member, kept apart, so that "another endpoint" really is another one. All calls go to the same
//! member until it fails.

use std::{
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient, MaintenanceClient, ResponseHeader, WatchClient};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{EtcdOptions, fault::Fault, revision_of};
use crate::{Revision, StoreError};

/// A caller has its answer, or an error, after this.
const CALL: Duration = Duration::from_secs(3);

/// One of several members may take so long; the next one is asked then. Covers an election of the cluster's leader only
/// together with the next attempts.
const ATTEMPT: Duration = Duration::from_millis(1200);

/// First and longest pause after all members failed; doubles, with jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(200));

/// Largest message taken: a page of records of the largest kind that is in use.
const MAX_MESSAGE: usize = 256 << 20;

pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    /// Index of the member to ask.
    current: AtomicUsize,
    /// Highest revision in any answer: the store has got at least so far.
    seen: AtomicI64,
    options: ConnectOptions,
    closed: CancellationToken,
}

struct Endpoint {
    url: String,
    client: OnceCell<Client>,
}

/// A connected member, for one attempt.
#[derive(Clone)]
pub(super) struct Member(Client);

/// An attempt's answer, and whether an earlier attempt of the same call may have got through.
pub(super) struct Answered<T> {
    pub(super) value: T,
    pub(super) repeated: bool,
}

/// Why a call got no answer from anybody.
pub(super) enum Unanswered {
    Final(StoreError),
    /// Every attempt failed; the last reason.
    Exhausted(String),
}

impl Pool {
    pub(super) fn new(options: EtcdOptions) -> Result<Self, StoreError> {
        options.check()?;
        let connect_options = options.connect_options();
        let endpoints: Vec<_> =
            options.endpoints.into_iter().map(|url| Endpoint { url, client: OnceCell::new() }).collect();
        let current = AtomicUsize::new(rand::random_range(0..endpoints.len()));
        Ok(Self {
            endpoints,
            current,
            seen: AtomicI64::new(0),
            options: connect_options,
            closed: CancellationToken::new(),
        })
    }

    /// Does what may safely be done twice.
    pub(super) async fn call<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        operation: &'static str,
        attempt: impl Fn(Member) -> F,
    ) -> Result<T, StoreError> {
        match self.attempts(attempt).await {
            Ok(answered) => Ok(answered.value),
            Err(Unanswered::Final(error)) => Err(error),
            Err(Unanswered::Exhausted(reason)) => Err(StoreError::Unavailable { operation, reason }),
        }
    }

    /// Attempts at one member after the other until one answers or the time of the call is over.
    pub(super) async fn attempts<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        attempt: impl Fn(Member) -> F,
    ) -> Result<Answered<T>, Unanswered> {
        let deadline = Instant::now() + CALL;
        let (mut pause, mut tries) = (PAUSE.0, 0);
        loop {
            if self.closed.is_cancelled() {
                return Err(Unanswered::Final(StoreError::Closed));
            }
            let index = self.current.load(Ordering::Relaxed);
            let endpoint = &self.endpoints[index];
            let reason = match timeout(self.patience(deadline), self.attempt_at(endpoint, &attempt)).await {
                Ok(Ok(value)) => return Ok(Answered { value, repeated: tries > 0 }),
                Ok(Err(Fault::Final(error))) => return Err(Unanswered::Final(error)),
                Ok(Err(Fault::Passing(reason))) => reason,
                Err(_) => "no answer in time".to_owned(),
            };
            debug!(endpoint = endpoint.url, reason, "attempt failed");
            tries += 1;
            self.leave(index);
            if tries % self.endpoints.len() == 0 {
                sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(PAUSE.1);
            }
            if Instant::now() >= deadline {
                return Err(Unanswered::Exhausted(format!("{}: {reason}", endpoint.url)));
            }
        }
    }

    fn patience(&self, deadline: Instant) -> Duration {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.endpoints.len() > 1 { left.min(ATTEMPT) } else { left }
    }

    async fn attempt_at<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        endpoint: &Endpoint,
        attempt: &impl Fn(Member) -> F,
    ) -> Result<T, Fault> {
        let connect = || Client::connect([&endpoint.url], Some(self.options.clone()));
        attempt(Member(endpoint.client.get_or_try_init(connect).await?.clone())).await
    }

    /// Asks the next member from now on, unless somebody has already moved on.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.endpoints.len();
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Notes how far the store has got.
    pub(super) fn saw(&self, header: Option<&ResponseHeader>) {
        self.seen.fetch_max(revision_of(header).get(), Ordering::Relaxed);
    }

    /// A revision that the store had reached before this call.
    pub(super) fn seen(&self) -> Revision {
        Revision(self.seen.load(Ordering::Relaxed))
    }

    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }
}

impl Member {
    pub(super) fn kv(&self) -> KvClient {
        self.0.kv_client().max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.0.watch_client().max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) fn lease(&self) -> LeaseClient {
        self.0.lease_client()
    }

    pub(super) fn maintenance(&self) -> MaintenanceClient {
        self.0.maintenance_client()
    }
}
