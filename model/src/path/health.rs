//! What an agent has seen of a peer's endpoints.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::word::words;

/// What the agent has seen of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers; the round trip is the median of the last ones.
    Answers { rtt: Duration, loss_permille: u16 },
    /// It answers, but was silent before and has not yet proved that it will stay.
    Proving { rtt: Duration, loss_permille: u16 },
    /// It was tried, and does not answer.
    Silent,
}

impl Health {
    fn figures(self) -> Option<(Duration, u16)> {
        match self {
            Self::Answers { rtt, loss_permille } | Self::Proving { rtt, loss_permille } => Some((rtt, loss_permille)),
            Self::Silent => None,
        }
    }
}

/// How well an endpoint is known to answer, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    Answers,
    Proving,
    Untried,
    Silent,
}

words!(Reach {
    Answers = "answers",
    Proving = "proving",
    Untried = "untried",
    Silent = "silent",
});

/// What the agent has seen of a peer's endpoints; those that were never tried are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measurements {
    pub in_use: Option<SocketAddr>,
    pub health: BTreeMap<SocketAddr, Health>,
}

impl Measurements {
    pub fn reach(&self, address: SocketAddr) -> Reach {
        match self.health.get(&address) {
            Some(Health::Answers { .. }) => Reach::Answers,
            Some(Health::Proving { .. }) => Reach::Proving,
            None => Reach::Untried,
            Some(Health::Silent) => Reach::Silent,
        }
    }

    /// The median round trip, of what answers.
    pub fn rtt(&self, address: SocketAddr) -> Option<Duration> {
        Some(self.health.get(&address)?.figures()?.0)
    }

    /// Of a thousand probes, those that were not answered; of what answers.
    pub fn loss_permille(&self, address: SocketAddr) -> Option<u16> {
        Some(self.health.get(&address)?.figures()?.1)
    }
}
