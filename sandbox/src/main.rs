//! `cladnet-sandbox`: makes, steers and destroys sandboxes from the command line. All work is in the library.
//!
//! The same program is in every VM as `cladnet-init`, and speaks to the VM's init there.

mod cli;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let (name, done) = match Path::new(&name).file_name() {
        Some(name) if name == cli::init::NAME => (cli::init::NAME, cli::init::run(cli::init::Arguments::parse())),
        _ => ("cladnet-sandbox", cli::run(cli::Arguments::parse())),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{name}: {error:#}");
            let known = error.downcast_ref::<cladnet_sandbox::Error>();
            ExitCode::from(known.map_or(1, cladnet_sandbox::Error::exit_code))
        }
    }
}
