//! A transfer between two VMs of one zone, and what the bill says of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{NETWORK, say};
use crate::{wait::eventually, world::World};

/// Echoes of this size, there and back.
const ECHOES: u64 = 20_000;
const BYTES: u64 = 1300;

/// Agents report every ten seconds.
const REPORTED: Duration = Duration::from_secs(60);

/// Sends, waits until it is billed, and prints the bill and the saving; holds if private paths have saved something.
pub(super) fn show(world: &World, [from, to]: [&str; 2]) -> Result<()> {
    let megabytes = 2 * ECHOES * BYTES / 1_000_000;
    say(&format!("sending {megabytes} MB between {from} and {to}, there and back, and reading the bill"));
    let (count, size) = (ECHOES.to_string(), BYTES.to_string());
    let overlay = world.address(NETWORK, to)?.to_string();
    world.vm(from)?.run(["ping", "-n", "-q", "-f", "-l", "50", "-c", &count, "-s", &size, &overlay])?;
    let total = eventually("the transfer to be billed", REPORTED, || {
        let total = world.admin().json(["cost", "report", "--network", NETWORK])?["total"].clone();
        let sent = number(&total, "sentBytes")?;
        ensure!(sent >= 2 * ECHOES as i64 * BYTES as i64, "{sent} bytes are billed");
        Ok(total)
    })?;
    print!("{}", world.admin().run(["cost", "report", "--network", NETWORK, "--by", "class"])?);
    let (spent, saved) = (number(&total, "spentNanoUsd")?, number(&total, "savedNanoUsd")?);
    println!(
        "spent {} USD; everything over public addresses would have cost {} USD: {} USD are saved",
        usd(spent),
        usd(spent + saved),
        usd(saved)
    );
    ensure!(saved > 0, "private paths have saved nothing: {total}");
    Ok(())
}

fn number(line: &Value, field: &str) -> Result<i64> {
    let text = line[field].as_str().with_context(|| format!("no {field} in {line}"))?;
    Ok(text.parse()?)
}

fn usd(nano: i64) -> String {
    format!("{:.6}", nano as f64 / 1e9)
}
