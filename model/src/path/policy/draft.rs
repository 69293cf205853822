//! Path settings as a person states them; what is absent stays as it is.

use std::{collections::BTreeSet, time::Duration};

use super::PathSettings;
use crate::{
    RuleType, Scope,
    tariff::{Price, PriceError},
    validate::Checks,
};

/// Longer round trips are no limit: nothing on earth takes them.
pub(crate) const MAX_RTT_MS: u32 = 60_000;

/// Changes to path settings, as they were sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct PathSettingsDraft<'a> {
    /// Empty: the default.
    pub usd_per_ms: Option<&'a str>,
    /// Empty: the default.
    pub usd_per_loss_percent: Option<&'a str>,
    /// 0: no limit.
    pub max_rtt_ms: Option<u32>,
    /// Empty: no limit.
    pub max_usd_per_gb: Option<&'a str>,
    /// Empty: none.
    pub forbid: Option<&'a [String]>,
}

impl PathSettingsDraft<'_> {
    /// The settings with the changes; `rule_type` is the one that will hold. What is wrong is noted.
    pub(crate) fn apply(&self, settings: &PathSettings, rule_type: RuleType, checks: &mut Checks) -> PathSettings {
        let mut changed = settings.clone();
        let usual = PathSettings::default();
        let mut weight = |field, text: Option<&str>, slot: &mut Price, usual| {
            if let Some(price) = checks.optional(field, text.map(price)) {
                *slot = price.unwrap_or(usual);
            }
        };
        weight("usd_per_ms", self.usd_per_ms, &mut changed.price_per_ms, usual.price_per_ms);
        let (slot, usual) = (&mut changed.price_per_loss_percent, usual.price_per_loss_percent);
        weight("usd_per_loss_percent", self.usd_per_loss_percent, slot, usual);
        if let Some(limit) = checks.optional("max_rtt_ms", self.max_rtt_ms.map(round_trip)) {
            changed.limits.max_rtt = limit;
        }
        if let Some(limit) = checks.optional("max_usd_per_gb", self.max_usd_per_gb.map(price)) {
            changed.limits.max_price_per_gb = limit;
        }
        if let Some(words) = self.forbid {
            let scope = |(at, word): (usize, &String)| checks.field(&format!("forbid[{at}]"), word.parse());
            changed.limits.forbid = words.iter().enumerate().filter_map(scope).collect::<BTreeSet<Scope>>();
        }
        checks.field("forbid", changed.limits.leave_something(Some(rule_type)));
        changed
    }
}

/// None if nothing is stated.
fn price(text: &str) -> Result<Option<Price>, PriceError> {
    (!text.is_empty()).then(|| text.parse()).transpose()
}

fn round_trip(ms: u32) -> Result<Option<Duration>, String> {
    match ms {
        0 => Ok(None),
        1..=MAX_RTT_MS => Ok(Some(Duration::from_millis(u64::from(ms)))),
        _ => Err(format!("is {ms}; use at most {MAX_RTT_MS}, or 0 for no limit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(draft: PathSettingsDraft<'_>, settings: &PathSettings, rule: RuleType) -> Result<PathSettings, String> {
        let mut checks = Checks::default();
        let changed = draft.apply(settings, rule, &mut checks);
        checks.finish().map(|()| changed).map_err(|faults| faults.to_string())
    }

    #[test]
    fn what_is_absent_stays_and_what_is_empty_goes_back_to_the_default() {
        let forbid = ["public-v6".to_owned()];
        let all = PathSettingsDraft {
            usd_per_ms: Some("0.002"),
            usd_per_loss_percent: Some("0"),
            max_rtt_ms: Some(80),
            max_usd_per_gb: Some("0.05"),
            forbid: Some(&forbid),
        };
        let set = checked(all, &PathSettings::default(), RuleType::Balanced).unwrap();
        assert_eq!((set.price_per_ms, set.price_per_loss_percent), (Price(2_000_000), Price(0)));
        assert_eq!(set.limits.max_rtt, Some(Duration::from_millis(80)));
        assert_eq!(set.limits.max_price_per_gb, Some(Price(50_000_000)));
        assert!(set.limits.forbids(Scope::PublicV6) && !set.limits.forbids(Scope::Public));
        assert_eq!(checked(PathSettingsDraft::default(), &set, RuleType::Balanced).unwrap(), set);
        let none = PathSettingsDraft {
            usd_per_ms: Some(""),
            usd_per_loss_percent: Some(""),
            max_rtt_ms: Some(0),
            max_usd_per_gb: Some(""),
            forbid: Some(&[]),
        };
        assert!(checked(none, &set, RuleType::Balanced).unwrap().is_default());
    }

    #[test]
    fn every_fault_names_its_field() {
        let words = ["private".to_owned(), "everything".to_owned()];
        let wrong = PathSettingsDraft {
            usd_per_ms: Some("cheap"),
            usd_per_loss_percent: Some("-1"),
            max_rtt_ms: Some(60_001),
            max_usd_per_gb: Some("2 cents"),
            forbid: Some(&words),
        };
        let told = checked(wrong, &PathSettings::default(), RuleType::Balanced).unwrap_err();
        for field in
            ["usd_per_ms is", "usd_per_loss_percent is", "max_rtt_ms is 60001", "max_usd_per_gb is", "forbid[1] is"]
        {
            assert!(told.contains(field), "{field}: {told}");
        }
    }

    #[test]
    fn what_would_leave_no_path_at_all_is_refused() {
        let forbid = |words: &[&str], rule| {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let draft = PathSettingsDraft { forbid: Some(&words), ..PathSettingsDraft::default() };
            checked(draft, &PathSettings::default(), rule)
        };
        let told = forbid(&["private", "public"], RuleType::Balanced).unwrap_err();
        assert_eq!(told, "forbid leaves no scope; public includes public-v6");
        let told = forbid(&["public"], RuleType::Basic).unwrap_err();
        assert_eq!(told, "forbid leaves nothing: rule type basic uses public addresses only");
        assert!(forbid(&["public"], RuleType::Balanced).is_ok());
    }
}
