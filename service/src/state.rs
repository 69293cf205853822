//! What every handler of one replica shares.

use std::{fmt, sync::Arc};

use cladnet_model::KeyId;
use cladnet_pki::Authority;
use cladnet_store::Store;
use jiff::Timestamp;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::{Config, agents::Agents, auth::Gates, shares::Shares, web::names::OwnNames};

/// The current time; tests hand in their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// A clock that asks `now` each time.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// This moment.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// One replica: its settings, its name and the parts it works with. Shared behind an `Arc`.
pub struct Service {
    pub(crate) store: Store,
    /// Names servers and hosts; equal in all replicas.
    pub(crate) authority: Arc<Authority>,
    /// Changes when the store is restored from a backup.
    pub(crate) epoch: String,
    /// Random name of this run of this replica; presence records carry it.
    pub(crate) replica: String,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    /// Under which names browsers may ask.
    pub(crate) names: Arc<OwnNames>,
    /// How often sources may try.
    pub(crate) gates: Gates,
    /// The agents' side: their RPCs, commands to them, what they are told.
    pub(crate) agents: Agents,
    /// Held by whoever creates a network.
    pub(crate) creating: Mutex<()>,
    /// Held by whoever reads usage: a month of many hosts is much.
    pub(crate) billing: Mutex<()>,
    /// The streams to administrators, by API key.
    pub(crate) streams: Shares<KeyId>,
    /// Places for those who watch deployments.
    pub(crate) deployment_watches: Arc<Semaphore>,
    /// Cancelled when the replica stops: whoever holds a stream open ends it then.
    pub(crate) shutdown: CancellationToken,
}
