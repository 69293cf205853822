//! Paths: how long ranking and resolving rules take, and what a fixed traffic matrix costs under each rule, all pure; how soon traffic
//! is on another path when its own died or led to an address that changed; what probing costs.

mod failover;
mod fleet;
mod money;
mod overhead;
mod ranking;
mod rules;

use anyhow::Result;

use super::Effort;
use crate::report::Report;

pub(super) fn measure(effort: Effort) -> Result<Report> {
    let mut report = Report::new("paths");
    ranking::measure(effort, &mut report)?;
    rules::measure(effort, &mut report)?;
    money::measure(&mut report)?;
    failover::measure(effort, &mut report)?;
    overhead::measure(effort, &mut report)?;
    Ok(report)
}
