//! What a month may cost.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::{
    NetworkId,
    tariff::{AttoUsd, NanoUsd},
    validate::{Checks, InvalidInput},
};

/// When a warning comes if nobody says.
pub const WARN_PERCENT: u32 = 80;

/// The whole budget.
const ALL: u32 = 100;

/// A budget, and of what was warned. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// None: all networks together.
    pub network: Option<NetworkId>,
    pub monthly: NanoUsd,
    pub warn_percent: u32,
    #[serde(default)]
    pub warned: Option<Warned>,
}

/// A warning that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warned {
    /// The month's first day.
    pub month: Date,
    pub percent: u32,
}

impl Budget {
    /// Checks what somebody asks for; 0 per cent stands for the usual ones.
    pub fn check(network: Option<NetworkId>, monthly: i64, warn_percent: u32) -> Result<Self, InvalidInput> {
        let mut checks = Checks::default();
        let positive = if monthly > 0 { Ok(()) } else { Err(format!("is {monthly}; use more than 0")) };
        checks.field("monthly_nano_usd", positive);
        let share = if warn_percent <= ALL { Ok(()) } else { Err(format!("is {warn_percent}; use 1 to {ALL}")) };
        checks.field("warn_percent", share);
        checks.finish()?;
        let warn_percent = if warn_percent == 0 { WARN_PERCENT } else { warn_percent };
        Ok(Self { network, monthly: NanoUsd(monthly), warn_percent, warned: None })
    }

    /// How much of it is spent, in per cent.
    pub fn percent(&self, spent: AttoUsd) -> u32 {
        let (spent, monthly) = (i128::from(spent.round().0), i128::from(self.monthly.0.max(1)));
        u32::try_from(spent.max(0).saturating_mul(100) / monthly).unwrap_or(u32::MAX)
    }

    /// The mark that was passed this month without a warning: of two the higher one, which stands for both.
    pub fn due(&self, today: Date, spent: AttoUsd) -> Option<Warned> {
        let month = today.first_of_month();
        let marks = [ALL, self.warn_percent];
        let percent = marks.into_iter().find(|mark| self.percent(spent) >= *mark)?;
        let is_told = self.warned.is_some_and(|warned| warned.month == month && warned.percent >= percent);
        (!is_told).then_some(Warned { month, percent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(usd: i128) -> AttoUsd {
        AttoUsd(usd * 1_000_000_000_000_000_000)
    }

    #[test]
    fn a_mark_is_warned_of_once_a_month() {
        let today = Date::new(2026, 11, 20).unwrap();
        let mut budget = Budget::check(None, 100_000_000_000, 0).unwrap();
        assert_eq!(budget.due(today, usd(79)), None);
        let first = budget.due(today, usd(80)).unwrap();
        budget.warned = Some(first);
        assert_eq!((first.percent, budget.due(today, usd(99))), (80, None));
        budget.warned = budget.due(today, usd(130));
        assert_eq!(budget.warned.unwrap().percent, 100);
        assert_eq!(budget.due(today, usd(90)), None, "prices that were corrected downwards warn nobody again");
        assert_eq!(budget.due(Date::new(2026, 12, 1).unwrap(), usd(85)).unwrap().percent, 80);
    }

    #[test]
    fn of_two_marks_that_were_passed_at_once_the_higher_one_is_warned_of() {
        let today = Date::new(2026, 11, 20).unwrap();
        let mut budget = Budget::check(None, 100_000_000_000, 0).unwrap();
        budget.warned = budget.due(today, usd(130));
        assert_eq!(budget.warned.map(|warned| warned.percent), Some(100));
        assert_eq!(budget.due(today, usd(130)), None, "neither of them is told again");
    }

    #[test]
    fn what_cannot_be_a_budget_is_refused_by_field() {
        let fields = |monthly, percent| {
            let refused = Budget::check(None, monthly, percent).unwrap_err().to_string();
            (refused.contains("monthly_nano_usd"), refused.contains("warn_percent"))
        };
        assert_eq!(fields(0, 101), (true, true));
        assert_eq!(fields(-5, 50), (true, false));
    }
}
