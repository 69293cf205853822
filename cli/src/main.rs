//! The binary `cladnet`: every action of an administrator over `cladnet.v1`, and every server role composed.
//! It decides nothing itself: it turns arguments into requests, and answers into tables, JSON, YAML and exit codes.

mod api;
mod args;
mod commands;
mod csv_text;
mod failure;
mod file;
mod hosts_file;
mod output;
mod parse;
mod roles;
mod wg_quick;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Command, Invocation};
use failure::Failure;

fn main() -> ExitCode {
    let invocation = Invocation::parse();
    match run(invocation) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(invocation: Invocation) -> Result<ExitCode, Failure> {
    cladnet_pki::install_crypto_provider();
    match invocation.command {
        Command::Completions { shell } => Ok(args::print_completions(shell)),
        Command::Server(args) => roles::server(args),
        Command::Controller(args) => roles::controller(args),
        Command::Service(args) => roles::service(args),
        Command::Provisioner(args) => roles::provisioner(args, invocation.client),
        Command::AdminWeb(args) => roles::admin_web(&invocation.client, args),
        Command::Admin(command) => commands::run(invocation.client, command),
    }
}
