//! Paths: how long ranking takes, and what a fixed traffic matrix costs under each rule. Both are pure: no machine of a cloud is
//! raised for them.

mod fleet;
mod money;
mod ranking;

use anyhow::Result;

use super::Effort;
use crate::report::Report;

pub(super) fn measure(effort: Effort) -> Result<Report> {
    let mut report = Report::new("paths");
    ranking::measure(effort, &mut report)?;
    money::measure(&mut report)?;
    Ok(report)
}
