//! Subcommands that ask the daemon: build the request, wait, print the answer.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use super::{Command, Join, Output, Ping, render};
use crate::{
    config::Config,
    control::{Reply, Request, client, protocol::Outcome},
    failure::{Failure, Kind},
    netcheck,
};

/// Beyond what the request itself may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// A token is 140 characters.
const MAX_TOKEN_FILE: u64 = 4096;

pub(super) fn run(config: &Config, command: Command, output: Output) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot start: {error}")))?;
    let (request, patience) = request(command)?;
    let reply = runtime.block_on(async {
        match client::ask(&config.socket, &request, patience).await {
            Err(failure) if failure.kind == Kind::Unreachable && matches!(request, Request::Netcheck) => {
                Ok(Reply::Netcheck(netcheck::without_daemon(config, &failure).await))
            }
            other => other,
        }
    })?;
    render::reply(&reply, output)?;
    Ok(verdict(&reply))
}

fn request(command: Command) -> Result<(Request, Duration), Failure> {
    Ok(match command {
        Command::Join(join) => {
            let wait = Duration::from_secs(join.wait);
            let services = join.services.split(',').map(|url| url.trim().to_owned()).collect();
            let request = Request::Join { token: token(&join)?, services, wait_ms: join.wait * 1000 };
            (request, wait + PATIENCE)
        }
        Command::Up { network } => (Request::Up { network }, PATIENCE),
        Command::Down { network } => (Request::Down { network }, PATIENCE),
        Command::Leave { network, all } => (Request::Leave { network, all }, PATIENCE),
        Command::Status => (Request::Status, PATIENCE),
        Command::Peers { network } => (Request::Peers { network }, PATIENCE),
        Command::Paths { network, probe } => (Request::Paths { network, probe }, PATIENCE),
        Command::Ping(Ping { peer, network, count, interval }) => {
            let request = Request::Ping { peer, network, count, interval_ms: interval };
            (request, Duration::from_millis(interval) * count + PATIENCE)
        }
        Command::Netcheck => (Request::Netcheck, PATIENCE),
        Command::Run | Command::Static { .. } | Command::Wireguard(_) | Command::Completions { .. } => {
            return Err(Failure::new(Kind::Usage, "this subcommand does not ask the daemon"));
        }
    })
}

/// Most answers are a success; a ping without a reply and a failed check are not.
fn verdict(reply: &Reply) -> ExitCode {
    let failed = match reply {
        Reply::Ping(report) => report.rtts_us.is_empty(),
        Reply::Netcheck(checks) => checks.iter().any(|check| check.outcome == Outcome::Bad),
        _ => false,
    };
    if failed { ExitCode::from(Kind::Failed.exit_code()) } else { ExitCode::SUCCESS }
}

fn token(join: &Join) -> Result<String, Failure> {
    match (&join.token, &join.token_file) {
        (Some(token), _) => Ok(token.clone()),
        (None, Some(file)) => read_token(file),
        (None, None) => Err(Failure::new(Kind::Usage, "give a token, or --token-file FILE")),
    }
}

fn read_token(file: &PathBuf) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().take(MAX_TOKEN_FILE).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(MAX_TOKEN_FILE).read_to_string(&mut text)),
    };
    read.map_err(|error| Failure::new(Kind::Usage, format!("cannot read --token-file {}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}
