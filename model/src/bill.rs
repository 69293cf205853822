//! The bill: what bytes cost by the book of prices, and what they would have cost over public addresses alone. Pure, and made
//! anew from bytes each time, so that a corrected price reaches back.
//!
//! What a host sent is billed to the sender's side by the sender's counter, what it received to the receiver's side by the
//! receiver's: no byte is billed twice. Tiers and free pools go by the month, in the order of days, over all networks.

mod budget;
mod matrix;
mod reconcile;
mod scenario;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use budget::{Budget, WARN_PERCENT, Warned};
pub use matrix::{Flow, Matrix, Move, Moved};
pub use reconcile::billed;
pub use scenario::{Priced, WhatIfRule, priced};

use crate::{
    HostId, HostUsage, NetworkId, Place, Scope, UsageRow,
    tariff::{self, AttoUsd, Book, Charge, Class, End, PoolUsage, Side},
    word::words,
};

/// Processor time that sealing or opening a byte costs one side. On two cores of an x86 machine with AVX2 a forwarder with
/// *ring*'s ChaCha20-Poly1305 moved 5.4 Gbit/s and without it 10.4 to 11.5: 1.48 against 0.73 ns a byte for both sides.
pub const SEAL_PICOS_PER_BYTE: u64 = 375;

/// What lines of a report stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    #[default]
    Network,
    /// The provider that bytes left and the one that they reached.
    Pair,
    Host,
    Class,
    Day,
}

words!(By {
    Network = "network",
    Pair = "pair",
    Host = "host",
    Class = "class",
    Day = "day",
});

/// Days that are billed, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub from: Date,
    pub to: Date,
}

impl Period {
    /// From a month's first day to this one.
    pub fn month_to_date(today: Date) -> Self {
        Self { from: today.first_of_month(), to: today }
    }

    /// Days whose bytes the tiers and pools of the period depend on.
    pub fn counted(self) -> impl Iterator<Item = Date> {
        let to = self.to;
        self.from.first_of_month().series(jiff::Span::new().days(1)).take_while(move |day| *day <= to)
    }
}

/// What some bytes come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// By the senders' counters, and by the receivers'.
    pub sent: u64,
    pub received: u64,
    /// What the bytes cost whose price is known.
    pub spent: AttoUsd,
    /// What those would have cost over public addresses whose price is known both ways, less what they did; below zero
    /// where private paths were dearer.
    pub saved: AttoUsd,
    /// Bytes without a known price; nothing of them is in `spent`.
    pub unpriced: u64,
    /// Bytes with a price, but without one over public addresses; nothing of them is in `saved`.
    pub uncompared: u64,
    /// Bytes of a place that is known only in part; they are billed as the dearer case.
    pub estimated: u64,
    /// Inner bytes that travelled unsealed, at either end.
    pub clear: u64,
}

impl Figures {
    /// Processor time that clear frames spared.
    pub fn spared(&self) -> Duration {
        Duration::from_nanos(
            u64::try_from(u128::from(self.clear) * u128::from(SEAL_PICOS_PER_BYTE) / 1_000).unwrap_or(u64::MAX),
        )
    }
}

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        for (ours, theirs) in [
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.unpriced, other.unpriced),
            (&mut self.uncompared, other.uncompared),
            (&mut self.estimated, other.estimated),
            (&mut self.clear, other.clear),
        ] {
            *ours = ours.saturating_add(theirs);
        }
        self.spent += other.spent;
        self.saved += other.saved;
    }
}

/// A bill, line by line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bill {
    /// In the order of their keys.
    pub lines: BTreeMap<String, Figures>,
    pub total: Figures,
    /// What each network spent, whatever the lines stand for: budgets go by it.
    pub by_network: BTreeMap<NetworkId, AttoUsd>,
}

/// Bills what hosts exchanged in a period; of one network, if it is named. `usages` are those of all networks and of every
/// day of [`Period::counted`]: tiers and pools depend on them.
pub fn bill<'a>(
    book: &Book,
    usages: impl IntoIterator<Item = &'a HostUsage>,
    period: Period,
    network: Option<&NetworkId>,
    by: By,
) -> Bill {
    let mut usages: Vec<&HostUsage> = usages.into_iter().filter(|usage| usage.day <= period.to).collect();
    usages.sort_by_key(|usage| (usage.day, &usage.network, &usage.host));
    let mut month = Month::default();
    let mut bill = Bill::default();
    for usage in usages {
        month.turn_to(usage.day);
        let is_billed = usage.day >= period.from && network.is_none_or(|network| *network == usage.network);
        for (leg, row) in usage.rows.iter().flat_map(|row| [(Leg::Out, row), (Leg::In, row)]) {
            let (class, figures) = month.charge(book, usage, leg, row);
            if is_billed && figures != Figures::default() {
                let key = key(by, usage, leg, row, class);
                *bill.lines.entry(key).or_default() += figures;
                bill.total += figures;
                *bill.by_network.entry(usage.network.clone()).or_default() += figures.spent;
            }
        }
    }
    bill
}

/// Which of a host's counters is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    /// What it sent, on the sender's side.
    Out,
    /// What it received, on the receiver's side.
    In,
}

impl Leg {
    fn bytes(self, row: &UsageRow) -> (u64, u64) {
        match self {
            Self::Out => (row.bytes.sent, row.bytes.clear_sent),
            Self::In => (row.bytes.received, row.bytes.clear_received),
        }
    }

    fn side(self) -> Side {
        match self {
            Self::Out => Side::Sender,
            Self::In => Side::Receiver,
        }
    }

    /// Where the bytes came from, and where they went.
    fn way(self, row: &UsageRow) -> (&Place, &Place) {
        match self {
            Self::Out => (&row.own, &row.peer),
            Self::In => (&row.peer, &row.own),
        }
    }
}

/// What was counted in a month so far, as it went and as it would have gone over public addresses. Each side has counts of
/// its own, because both sides' counters tell of the same bytes.
#[derive(Debug)]
struct Month {
    first: Option<Date>,
    used: [PoolUsage; 2],
    public: [PoolUsage; 2],
}

impl Default for Month {
    fn default() -> Self {
        let fresh = || [PoolUsage::new_month(), PoolUsage::new_month()];
        Self { first: None, used: fresh(), public: fresh() }
    }
}

impl Month {
    fn turn_to(&mut self, day: Date) {
        let first = Some(day.first_of_month());
        if self.first != first {
            *self = Self { first, ..Self::default() };
        }
    }

    /// What the host pays on its side, its own surcharges included.
    fn charge(&mut self, book: &Book, of: &HostUsage, leg: Leg, row: &UsageRow) -> (Class, Figures) {
        let (bytes, clear) = leg.bytes(row);
        let (from, to) = leg.way(row);
        let (from, to) = (from.location(), to.location());
        let (mut source, mut destination) = (End::from(&from), End::from(&to));
        match leg {
            Leg::Out => source.host = Some(&of.host),
            Leg::In => destination.host = Some(&of.host),
        }
        let charge =
            |scope, usage: &mut PoolUsage| tariff::charge(book, source, destination, scope, of.day, usage, bytes);
        let used = charge(row.scope, &mut self.used[leg as usize]);
        let public = charge(Scope::Public, &mut self.public[leg as usize]);
        let (spent, class) = of_side(&used, leg.side());
        let (baseline, _) = of_side(&public, leg.side());
        let saved = spent.zip(baseline).map(|(spent, baseline)| baseline - spent);
        let figures = Figures {
            sent: if leg == Leg::Out { bytes } else { 0 },
            received: if leg == Leg::In { bytes } else { 0 },
            spent: spent.unwrap_or_default(),
            saved: saved.unwrap_or_default(),
            unpriced: if spent.is_none() { bytes } else { 0 },
            uncompared: if spent.is_some() && saved.is_none() { bytes } else { 0 },
            estimated: if used.estimated { bytes } else { 0 },
            clear,
        };
        (class, figures)
    }
}

/// What one side pays, unless a price of it is not known, and for what.
fn of_side(charge: &Charge, side: Side) -> (Option<AttoUsd>, Class) {
    let amounts = || charge.amounts.iter().filter(|(part, _)| part.side == side);
    let class = amounts().map(|(part, _)| part.class).find(|class| *class != Class::Surcharge);
    let known = amounts().map(|(_, amount)| amount.as_ref().ok().copied());
    let sum = known.sum::<Option<AttoUsd>>();
    (sum, class.unwrap_or(charge.class))
}

fn key(by: By, usage: &HostUsage, leg: Leg, row: &UsageRow, class: Class) -> String {
    let provider = |place: &Place| place.provider.clone().unwrap_or_else(|| "unknown".to_owned());
    match by {
        By::Network => usage.network.to_string(),
        By::Pair => {
            let (from, to) = leg.way(row);
            format!("{} > {}", provider(from), provider(to))
        }
        By::Host => HostId::to_string(&usage.host),
        By::Class => class.to_string(),
        By::Day => usage.day.to_string(),
    }
}
