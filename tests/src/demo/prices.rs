//! What each pair's path costs both ways, what the alternatives would cost, and what the rule of cb-network, the ancestor, would have
//! taken: all from `cladnet path explain`.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{NETWORK, PROVED, say};
use crate::{wait::eventually, world::World};

/// The paths from one VM to another.
struct Explained {
    used: Path,
    alternatives: Vec<Path>,
    /// What cb-network's rule `basic` takes; none if there is no public address.
    ancestor: Option<Path>,
}

/// A path, and its price per GB there and back; none where a part of it is not known.
struct Path {
    scope: String,
    there: Option<f64>,
    back: Option<f64>,
}

/// Prints a line per pair, and holds if the cheapest path that answers is the one in use.
pub(super) fn show(world: &World, names: &[&str]) -> Result<()> {
    say("what each path costs in USD per GB there and back, and what it could have cost");
    println!("{:<9}{:<9}{:<24}{:<24}CB-NETWORK'S RULE", "FROM", "TO", "PATH IN USE", "ALTERNATIVES");
    for (n, from) in names.iter().enumerate() {
        for to in &names[n + 1..] {
            let explained = eventually(&format!("the cheapest path from {from} to {to}"), PROVED, || {
                let explained = explain(world, from, to)?;
                explained.is_cheapest()?;
                Ok(explained)
            })?;
            let (used, alternatives) = (explained.used.text(), texts(&explained.alternatives));
            println!("{from:<9}{to:<9}{used:<24}{alternatives:<24}{}", texts(&explained.ancestor));
        }
    }
    Ok(())
}

impl Explained {
    fn is_cheapest(&self) -> Result<()> {
        let Some(price) = self.used.there else { return Ok(()) };
        let others = self.alternatives.iter().chain(&self.ancestor).filter_map(|path| path.there);
        let cheapest = others.fold(price, f64::min);
        ensure!(price <= cheapest, "costs {price} USD/GB, and there is one for {cheapest}");
        Ok(())
    }
}

impl Path {
    fn of(candidate: &Value) -> Self {
        let scope = candidate["scope"].as_str().unwrap_or_default().to_owned();
        Self { scope, there: price(&candidate["price"]), back: price(&candidate["returnPrice"]) }
    }

    fn text(&self) -> String {
        let text = |price: Option<f64>| price.map_or_else(|| "unknown".to_owned(), |price| format!("{price:.4}"));
        format!("{} {} {}", self.scope, text(self.there), text(self.back))
    }
}

fn texts<'a>(paths: impl IntoIterator<Item = &'a Path>) -> String {
    let texts: Vec<String> = paths.into_iter().map(Path::text).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
}

fn explain(world: &World, from: &str, to: &str) -> Result<Explained> {
    let explained = world.admin().json(["path", "explain", NETWORK, from, to])?;
    let candidates = explained["candidates"].as_array().context("no candidates")?;
    let rank = |candidate: &Value| candidate["rank"].as_u64();
    let used = candidates.iter().find(|candidate| rank(candidate) == Some(1)).context("there is no path")?;
    let alternatives = candidates.iter().filter(|candidate| rank(candidate) > Some(1)).map(Path::of);
    Ok(Explained {
        used: Path::of(used),
        alternatives: alternatives.collect(),
        ancestor: explained.get("basic").filter(|basic| !basic.is_null()).map(Path::of),
    })
}

fn price(quote: &Value) -> Option<f64> {
    Some(quote["perGbNanoUsd"].as_str()?.parse::<f64>().ok()? / 1e9)
}
