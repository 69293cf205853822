//! `cladnet-bench`: what `scripts/bench` runs as root once everything is built.

use std::process::ExitCode;

use cladnet_tests::bench::{self, Options};
use clap::Parser as _;

fn main() -> ExitCode {
    match bench::run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
