//! How much of a month's traffic went before: tiers and free pools depend on it.

use std::collections::BTreeMap;

/// What is counted together in a month.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meter {
    pub provider: String,
    /// None for hosts whose account is not known: they are counted together.
    pub account: Option<String>,
    /// A free pool, or the tiers of a class.
    pub name: String,
    /// A region or a group of regions; none if the whole account counts together.
    pub place: Option<String>,
}

/// What went before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PoolUsage {
    /// Nothing, and nothing is free: the price of the first tier that costs something. Paths are compared by it.
    #[default]
    FirstPaid,
    /// Bytes of this month so far. Bills are made by it.
    Month(BTreeMap<Meter, u64>),
}

impl PoolUsage {
    /// A month in which nothing was sent yet.
    pub fn new_month() -> Self {
        Self::Month(BTreeMap::new())
    }

    /// Bytes that count; none if nothing is counted.
    pub(super) fn of(&self, meter: impl FnOnce() -> Meter) -> Option<u64> {
        match self {
            Self::FirstPaid => None,
            Self::Month(bytes) => Some(bytes.get(&meter()).copied().unwrap_or(0)),
        }
    }

    pub(super) fn add(&mut self, meter: impl FnOnce() -> Meter, more: u64) {
        if let Self::Month(bytes) = self {
            let counted = bytes.entry(meter()).or_default();
            *counted = counted.saturating_add(more);
        }
    }
}
