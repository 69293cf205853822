//! `cladnet-sandbox`: makes, steers and destroys sandboxes from the command line. All work is in the library.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match cli::run(cli::Arguments::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("cladnet-sandbox: {error:#}");
            let known = error.downcast_ref::<cladnet_sandbox::Error>();
            ExitCode::from(known.map_or(1, cladnet_sandbox::Error::exit_code))
        }
    }
}
