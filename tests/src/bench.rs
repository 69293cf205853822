//! Benchmarks. A figure that misses its target is told, never asserted: machines differ, tests must not.

mod data_plane;
mod deploy;
mod footprint;
mod join;
mod paths;
mod web;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use data_plane::Contender;

/// Measures one thing and writes its figures.
#[derive(Debug, Parser)]
#[command(name = "scripts/bench")]
pub struct Options {
    /// What to measure
    name: Name,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer rounds: done within two minutes
    #[arg(long, conflicts_with = "long")]
    quick: bool,
    /// More rounds: takes what it takes
    #[arg(long)]
    long: bool,
    /// Of data-plane: beside whom; all by default
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES")]
    peers: Option<Vec<Contender>>,
    /// Of data-plane: what is measured, by the names that results bear, as tcp-1, udp-64, ping-loaded; all by default
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    scenarios: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// From the join command to the first ping over the overlay
    Join,
    /// How many VMs a minute get their agents over SSH
    Deploy,
    /// Memory of an idle agent and an idle server
    Footprint,
    /// What the admin web's page of peers costs a browser
    Web,
    /// Rates, latency, CPU and memory of tunnels, beside other people's
    DataPlane,
    /// How paths are chosen and left: time to rank, money of a traffic matrix, failover, probes
    Paths,
}

/// How thorough a benchmark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Quick,
    Normal,
    Long,
}

/// Runs the benchmark that was asked for.
pub fn run(options: &Options) -> Result<()> {
    let effort = match (options.quick, options.long) {
        (true, _) => Effort::Quick,
        (_, true) => Effort::Long,
        _ => Effort::Normal,
    };
    let report = match options.name {
        Name::Join => join::measure(effort)?,
        Name::Deploy => deploy::measure(effort)?,
        Name::Footprint => footprint::measure(effort)?,
        Name::Web => web::measure(effort)?,
        Name::Paths => paths::measure(effort)?,
        Name::DataPlane => data_plane::measure(effort, options.peers.as_deref(), options.scenarios.as_deref())?,
    };
    report.print();
    if let Some(file) = &options.json {
        report.write(file)?;
    }
    Ok(())
}
