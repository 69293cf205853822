//! The admin commands: one request each, one answer shown.

pub(crate) mod cost;
pub(crate) mod deploy;
pub(crate) mod deployment;
pub(crate) mod event;
mod export;
pub(crate) mod host;
pub(crate) mod host_key;
pub(crate) mod key;
mod lookup;
pub(crate) mod network;
pub(crate) mod path;
pub(crate) mod peer;
pub(crate) mod rule;
pub(crate) mod tariff;
pub(crate) mod test;
pub(crate) mod token;

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
};

use cladnet_proto::cladnet::v1::Info;

use crate::{
    api::{Api, request},
    args::{AdminCommand, ClientArgs},
    commands::deployment::DeploymentCommand,
    failure::Failure,
    output::{Output, Table},
};

/// Runs one command to its end.
pub(crate) fn run(client: ClientArgs, command: AdminCommand) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime.block_on(dispatch(client, command))
}

async fn dispatch(client: ClientArgs, command: AdminCommand) -> Result<ExitCode, Failure> {
    let api = match command {
        // It waits for a service that is away, at its start as later.
        AdminCommand::Deployment(DeploymentCommand::Show { follow: true, .. }) => Api::connect_later(&client)?,
        _ => Api::connect(&client).await?,
    };
    let out = Output::new(client.output);
    match command {
        AdminCommand::Network(command) => network::run(&api, out, command).await?,
        AdminCommand::Peer(command) => return peer::run(&api, out, command).await,
        AdminCommand::Host(command) => host::run(&api, out, command).await?,
        AdminCommand::Token(command) => token::run(&api, out, command).await?,
        AdminCommand::Key(command) => key::run(&api, out, command).await?,
        AdminCommand::Test(command) => return test::run(&api, out, command).await,
        AdminCommand::Deploy(args) => return deploy::run(&api, out, args).await,
        AdminCommand::Deployment(command) => return deployment::run(&api, out, command).await,
        AdminCommand::HostKey(command) => host_key::run(&api, out, command).await?,
        AdminCommand::Path(command) => path::run(&api, out, command).await?,
        AdminCommand::Cost(command) => cost::run(&api, out, command).await?,
        AdminCommand::Tariff(command) => tariff::run(&api, out, command).await?,
        AdminCommand::Rule(command) => return rule::run(&api, out, command).await,
        AdminCommand::Event(command) => event::run(&api, out, command).await?,
        AdminCommand::Info => info(&api, out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn info(api: &Api, out: Output) -> Result<(), Failure> {
    let info: Info = api.system().get_info(request(())).await?.into_inner();
    out.show(&info, |info| {
        Table::sheet([
            ("version", info.version.clone()),
            ("role", info.role.clone()),
            ("key", info.key_id.clone()),
            ("epoch", info.epoch.clone()),
            ("authority", info.ca_fingerprint.clone()),
        ])
    })
}

/// Asks before something that cannot be undone; a script says `--yes`.
fn confirm(yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{question} Say so with --yes where nobody can answer")));
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was changed")),
    }
}

/// Refuses a file that is there before the service makes what would be written to it.
fn must_be_new(flag: &str, file: Option<&Path>) -> Result<(), Failure> {
    match file.filter(|file| file.exists()) {
        Some(file) => {
            Err(Failure::usage(format!("{flag}: {} exists already; remove it or name another", file.display())))
        }
        None => Ok(()),
    }
}

/// A secret that is shown once goes to standard output alone, so that a script can catch it, or into a file.
fn hand_over(secret: &str, file: Option<&Path>, remark: &str) -> Result<(), Failure> {
    match file {
        Some(file) => crate::file::create_private(file, &format!("{secret}\n"))?,
        None => {
            writeln!(io::stdout().lock(), "{secret}")?;
        }
    }
    eprintln!("{remark}");
    Ok(())
}
