//! What every handler of one replica shares.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::Config;

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
#[derive(Debug)]
#[expect(dead_code, reason = "the handlers that read it arrive with the listener")]
pub struct Service {
    /// Random name of this run of this replica; presence records carry it.
    pub(crate) replica: String,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
}
