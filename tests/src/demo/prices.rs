//! What each pair's path costs both ways, what the alternatives would cost, and what the rule of cb-network, the ancestor, would have
//! taken: all from `cladnet path explain`.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{NETWORK, say};
use crate::world::World;

/// The path from one VM to another.
struct Explained {
    scope: String,
    price: Option<f64>,
    return_price: Option<f64>,
    /// Scope and price of what else there is.
    alternatives: Vec<(String, Option<f64>)>,
    /// Price of what cb-network's rule takes.
    ancestor: Option<f64>,
}

/// Prints a line per pair, and holds if the cheapest path that answers is the one in use.
pub(super) fn show(world: &World, names: &[&str]) -> Result<()> {
    say("what each path costs in USD per GB, and what it could have cost");
    println!(
        "{:<9}{:<9}{:<11}{:>8}{:>8}  {:<34}CB-NETWORK'S RULE",
        "FROM", "TO", "PATH", "THERE", "BACK", "ALTERNATIVES"
    );
    for (n, from) in names.iter().enumerate() {
        for to in &names[n + 1..] {
            let path = explain(world, from, to)?;
            let alternatives: Vec<String> =
                path.alternatives.iter().map(|(scope, price)| format!("{scope} {}", text(*price))).collect();
            println!(
                "{from:<9}{to:<9}{:<11}{:>8}{:>8}  {:<34}{}",
                path.scope,
                text(path.price),
                text(path.return_price),
                alternatives.join(", "),
                text(path.ancestor)
            );
            path.is_cheapest().with_context(|| format!("the path from {from} to {to}"))?;
        }
    }
    Ok(())
}

impl Explained {
    fn is_cheapest(&self) -> Result<()> {
        let Some(price) = self.price else { return Ok(()) };
        let others = self.alternatives.iter().filter_map(|(_, price)| *price).chain(self.ancestor);
        let cheapest = others.fold(price, f64::min);
        ensure!(price <= cheapest, "costs {price} USD/GB, and there is one for {cheapest}");
        Ok(())
    }
}

fn explain(world: &World, from: &str, to: &str) -> Result<Explained> {
    let explained = world.admin().json(["path", "explain", NETWORK, from, to])?;
    let candidates = explained["candidates"].as_array().context("no candidates")?;
    let used = candidates.first().context("there is no candidate")?;
    let scope = |candidate: &Value| candidate["scope"].as_str().unwrap_or_default().to_owned();
    let is_alternative = |candidate: &&Value| candidate["rank"].as_u64().is_some_and(|rank| rank > 1);
    Ok(Explained {
        scope: scope(used),
        price: price(&used["price"]),
        return_price: price(&used["returnPrice"]),
        alternatives: candidates
            .iter()
            .filter(is_alternative)
            .map(|candidate| (scope(candidate), price(&candidate["price"])))
            .collect(),
        ancestor: price(&explained["basic"]["price"]),
    })
}

/// Of a quote; none where a part of it is not known.
fn price(quote: &Value) -> Option<f64> {
    Some(quote["perGbNanoUsd"].as_str()?.parse::<f64>().ok()? / 1e9)
}

fn text(price: Option<f64>) -> String {
    price.map_or_else(|| "unknown".to_owned(), |price| format!("{price:.4}"))
}
