//! The paths from one host to another: which endpoints are candidates, what each costs, how they rank, and why. Agents
//! choose by it and *explain* tells by it, so what is told is what is done.

mod ancestor;
mod candidate;
mod encryption;
mod health;
mod order;
mod policy;
mod pricing;
mod rank;
mod reason;
#[cfg(test)]
mod tests;
mod vpc;

pub use ancestor::ancestors_cost_rule;
pub use candidate::{Candidate, HostView, Route, Unfit, candidates};
pub use encryption::{Encryption, Transport};
pub use health::{Health, Measurements, Reach};
pub(crate) use policy::MAX_RTT_MS;
pub use policy::{
    Author, Authors, DEFAULT_PRICE_PER_LOSS_PERCENT, DEFAULT_PRICE_PER_MS, Limits, PairPolicy, PathSettings,
    PathSettingsDraft, Policy,
};
pub use pricing::Pricing;
pub use rank::{CandidateState, Ranked, ancestor, rank};
pub use reason::{Grounds, Reason, summary};
pub use vpc::{Apart, same_vpc};
