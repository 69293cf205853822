//! `cladnet-init`: the command line of a VM's init, inside the VM.

use anyhow::Result;
use cladnet_sandbox::internal::{InitRequest, ask_init};
use cladnet_sandbox::{Error, ServiceSpec};
use clap::{Parser, Subcommand};

use super::arguments::assignment;

/// The name by which this program knows that it is to be this one.
pub(crate) const NAME: &str = "cladnet-init";

/// The services of this VM: kept running, and started when it boots.
#[derive(Debug, Parser)]
#[command(name = NAME, version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a program, in the place of a service of the same name, and start it again 100 ms after it ends
    Add {
        name: String,
        #[arg(long = "env", value_name = "NAME=VALUE", value_parser = assignment)]
        environment: Vec<(String, String)>,
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    Start {
        name: String,
    },
    /// End a service and wait until it has ended
    Stop {
        name: String,
    },
    /// End a service, if it runs, and start it
    Restart {
        name: String,
    },
    /// Stop a service and forget it
    Remove {
        name: String,
    },
    /// Print a service, or all of them, as one line of JSON each; exit code 3 if there is none of the name
    Status {
        name: Option<String>,
    },
}

/// Does what was asked and returns the exit code.
pub(crate) fn run(arguments: Arguments) -> Result<u8> {
    let request = match arguments.command {
        Command::Status { name } => return status(name),
        Command::Add { name, environment, command } => {
            let environment = environment.into_iter().collect();
            InitRequest::Replace(ServiceSpec { name, command, environment })
        }
        Command::Start { name } => InitRequest::Start(name),
        Command::Stop { name } => InitRequest::Stop(name),
        Command::Restart { name } => InitRequest::Restart(name),
        Command::Remove { name } => InitRequest::Remove(name),
    };
    ask_init(&request)?;
    Ok(0)
}

fn status(name: Option<String>) -> Result<u8> {
    let mut services = ask_init(&InitRequest::Status)?;
    if let Some(name) = name {
        services.retain(|service| service.name == name);
        if services.is_empty() {
            return Err(Error::NoService(name).into());
        }
    }
    for service in &services {
        println!("{}", serde_json::to_string(service)?);
    }
    Ok(0)
}
