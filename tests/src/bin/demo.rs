//! `cladnet-demo`: what `scripts/demo` runs as root once everything is built.

use std::process::ExitCode;

use cladnet_tests::demo::{self, Options};
use clap::Parser as _;

fn main() -> ExitCode {
    match demo::run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
