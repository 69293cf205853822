//! The one thread that changes the file. Whatever is asked while a commit is on its way to the disk shares the next one.
//!
//! Nothing is answered and no watcher is told before it is durable. When the disk fails, everything in the round fails,
//! the file is opened again, and the state is what it was before.

use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::{Shared, directory, leases::Leases, round::Round, tables};
use crate::{
    Revision, StoreError,
    raw::{LeaseId, Outcome, RawTransaction},
};

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer can be asked.
pub(super) enum Command {
    Write { change: Change, reply: Reply<Outcome> },
    Grant { ttl: Duration, reply: Reply<LeaseId> },
    Renew { lease: LeaseId, reply: Reply<()> },
    Close { reply: Reply<()> },
}

/// What goes to the disk.
pub(super) enum Change {
    Commit(RawTransaction),
    EndLease(LeaseId),
    Compact(Revision),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    leases: Leases,
    /// Revisions of history to keep.
    history: i64,
    /// Set after a failure: leases are not ended, and the file is not opened, before this.
    rest_until: Option<Instant>,
}

/// Shuts the store when its writer ends, however it does: whoever reads or follows learns at once that nothing will be
/// written any more, and the process can end instead of refusing every change for ever.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("the store's writer has died; the process must be started again");
        }
        self.0.shut();
    }
}

/// Why a round failed.
struct Failure {
    error: redb::Error,
    /// The revision that may have been written: set once the commit was tried.
    attempted: Option<Revision>,
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        Self { error, attempted: None }
    }
}

/// Commands that share one commit at most.
const ROUND: usize = 256;

/// Pause after a failure, while nobody asks for anything.
const REST: Duration = Duration::from_secs(1);

/// With no lease to end, the writer wakes up for commands only.
const IDLE: Duration = Duration::from_secs(3600);

impl Writer {
    /// Ends the leases of earlier processes, then starts the thread. It stops when nobody can ask any more.
    pub(super) fn start(shared: Arc<Shared>, queue: Receiver<Command>, history: u32) -> Result<(), StoreError> {
        let mut writer = Self { shared, leases: Leases::default(), history: history.into(), rest_until: None };
        let orphaned = writer.round(|round| round.end_every_lease())?;
        if orphaned > 0 {
            info!(keys = orphaned, "ended the leases of an earlier process");
        }
        let spawned = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run(&queue));
        spawned
            .map(drop)
            .map_err(|error| StoreError::Unavailable { operation: "start the writer", reason: error.to_string() })
    }

    fn run(mut self, queue: &Receiver<Command>) {
        let _end = End(self.shared.clone());
        loop {
            let mut commands = Vec::new();
            match queue.recv_timeout(self.idle_time()) {
                Ok(command) => commands.push(command),
                Err(RecvTimeoutError::Timeout) => self.rest_until = None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            commands.extend(queue.try_iter().take(ROUND));
            // A panic in the database must not leave the store without a writer.
            match catch_unwind(AssertUnwindSafe(|| self.serve(commands))) {
                Ok(None) => {}
                Ok(Some(reply)) => {
                    self.shared.shut();
                    return drop(reply.send(Ok(())));
                }
                Err(_) => {
                    error!("the writer panicked; opening the file again");
                    self.reopen();
                }
            }
        }
    }

    fn idle_time(&self) -> Duration {
        let next = self.leases.next_end().max(self.rest_until);
        next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()))
    }

    /// Serves what has been asked; gives back the wish to close, if that was among it. Renewals come first, so that no
    /// lease ends whose renewal is already here.
    fn serve(&mut self, commands: Vec<Command>) -> Option<Reply<()>> {
        let now = Instant::now();
        let (mut writes, mut close) = (Vec::new(), None);
        for command in commands {
            match command {
                Command::Write { change, reply } => writes.push((change, reply)),
                Command::Grant { ttl, reply } => drop(reply.send(Ok(self.grant(ttl, now)))),
                Command::Renew { lease, reply } => {
                    let renewed = self.leases.renew(lease, now);
                    let _ = reply.send(renewed.then_some(()).ok_or(StoreError::LeaseEnded));
                }
                Command::Close { reply } => close = Some(reply),
            }
        }
        let lease_is_due = self.rest_until.is_none() && !self.leases.overdue(now).is_empty();
        if !writes.is_empty() || lease_is_due {
            self.write(writes, now);
        }
        close
    }

    fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        loop {
            let id = LeaseId(rand::random_range(1..i64::MAX));
            if self.leases.begin(id, ttl, now).is_some() {
                return id;
            }
        }
    }

    fn write(&mut self, writes: Vec<(Change, Reply<Outcome>)>, now: Instant) {
        let mut leases = self.leases.clone();
        let verdicts = self.round(|round| {
            for lease in leases.overdue(now) {
                leases.end(lease);
                round.end_lease(lease)?;
            }
            writes.iter().map(|(change, _)| carry_out(round, change, &mut leases)).collect::<Result<Vec<_>, _>>()
        });
        match verdicts {
            Ok(verdicts) => {
                self.leases = leases;
                for ((_, reply), verdict) in writes.into_iter().zip(verdicts) {
                    let _ = reply.send(verdict);
                }
            }
            Err(error) => {
                warn!(error = &error as &dyn Error, "a round of writes failed");
                for (_, reply) in writes {
                    let _ = reply.send(Err(again(&error)));
                }
            }
        }
    }

    /// Runs `work` in one durable transaction; on an error nothing of it has happened, unless it says
    /// [`StoreError::OutcomeUnknown`].
    fn round<T>(&mut self, work: impl FnOnce(&mut Round<'_>) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let Failure { error, attempted } = match self.try_round(work) {
            Ok(value) => {
                self.rest_until = None;
                return Ok(value);
            }
            Err(failure) => failure,
        };
        self.rest_until = Some(Instant::now() + REST);
        let broken = directory::is_io(&error);
        let explained = self.shared.directory.explain(error);
        if broken {
            let found = self.reopen();
            // What the disk refused to confirm may be there all the same.
            if attempted.is_some() && (found.is_none() || found == attempted) {
                return Err(StoreError::OutcomeUnknown { reason: explained.to_string() });
            }
        }
        Err(explained)
    }

    fn try_round<T>(&self, work: impl FnOnce(&mut Round<'_>) -> Result<T, redb::Error>) -> Result<T, Failure> {
        let guard = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = guard.as_ref() else { return Err(redb::Error::PreviousIo.into()) };
        let transaction = database.begin_write().map_err(redb::Error::from)?;
        let mut round = Round::begin(&transaction)?;
        let value = work(&mut round)?;
        match round.finish(self.history)? {
            Some(revision) => {
                let attempted = Some(revision);
                transaction.commit().map_err(|error| Failure { error: error.into(), attempted })?;
                self.publish(revision);
            }
            None => transaction.abort().map_err(redb::Error::from)?,
        }
        Ok(value)
    }

    fn publish(&self, revision: Revision) {
        self.shared.revision.send_if_modified(|known| std::mem::replace(known, revision) != revision);
    }

    /// After an I/O error the database refuses everything until it is opened again, which undoes what was not committed.
    /// Gives the revision that is found then.
    fn reopen(&self) -> Option<Revision> {
        let mut guard = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        *guard = None;
        let reopened = self.shared.directory.reopen_database().and_then(|database| {
            let found = tables::revision(&database).map_err(|error| self.shared.directory.explain(error))?;
            *guard = Some(database);
            Ok(found)
        });
        match reopened {
            Ok(found) => {
                self.publish(found);
                Some(found)
            }
            Err(error) => {
                error!(error = &error as &dyn Error, "the store stays shut until its file can be opened");
                None
            }
        }
    }
}

fn carry_out(
    round: &mut Round<'_>,
    change: &Change,
    leases: &mut Leases,
) -> Result<Result<Outcome, StoreError>, redb::Error> {
    match change {
        Change::Commit(transaction) => round.commit(transaction, leases),
        Change::Compact(revision) => round.compact(*revision),
        Change::EndLease(lease) => {
            leases.end(*lease);
            round.end_lease(*lease)?;
            Ok(Ok(Outcome::Committed(Revision::ZERO)))
        }
    }
}

/// The error of a round, once more for each who was in it.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full { reason } => StoreError::Full { reason: reason.clone() },
        StoreError::OutcomeUnknown { reason } => StoreError::OutcomeUnknown { reason: reason.clone() },
        other => StoreError::Unavailable { operation: "write to the data directory", reason: other.to_string() },
    }
}
