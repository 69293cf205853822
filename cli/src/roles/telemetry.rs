//! Logs of the server roles, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

const DEFAULT: &str = "info";

/// What `--log` lets through.
pub(super) fn filter(directives: Option<&str>) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(directives.unwrap_or(DEFAULT)).map_err(|error| {
        Failure::configuration(format!("--log: {error}; write for example info or cladnet_service=debug,warn"))
    })
}

/// From now on; once per process.
pub(super) fn start(filter: EnvFilter) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = !plain && std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        // A line that cannot be written, on a full disk for example, is lost; telling so on the same stream would be a panic.
        .log_internal_errors(false)
        .init();
}
