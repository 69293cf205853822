//! The command line of `cladnet-agent`. `run`, `static` and `wireguard` work themselves; everything else asks the daemon over its
//! control socket.

mod ask;
mod render;

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    iter,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cladnet_model::NetworkId;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::{
    config::{Config, Engine, LogFilter, Overrides},
    daemon,
    failure::{Failure, Kind},
    netlink,
    offload::OffloadPolicy,
    static_tunnel::{self, StaticTunnelError},
    wireguard::{self, Background, WireguardError},
};

/// Joins this machine to cladnet networks.
#[derive(Debug, Parser)]
#[command(name = "cladnet-agent", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(flatten)]
    overrides: Overrides,
    /// How answers are printed
    #[arg(long, value_enum, default_value_t, global = true)]
    output: Output,
    /// Check the configuration, say what is wrong with it, and do nothing else
    #[arg(long, global = true)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground (what the service manager starts)
    Run,
    /// Join a network with a token; enrols this host if it is new
    Join(Join),
    /// Raise a network's interface
    Up { network: Option<NetworkId> },
    /// Remove a network's interface, and stay a member
    Down { network: Option<NetworkId> },
    /// End a membership; with --all give up this host's identity too
    Leave {
        #[arg(conflicts_with = "all")]
        network: Option<NetworkId>,
        /// Leave every network and forget who this host was
        #[arg(long)]
        all: bool,
    },
    /// Show this host, its networks and its link to the service
    Status,
    /// List the remote peers
    Peers { network: Option<NetworkId> },
    /// List the path to every remote peer, and what it was chosen from
    Paths {
        network: Option<NetworkId>,
        /// Measure the round trip of each path first
        #[arg(long)]
        probe: bool,
    },
    /// Ping a peer over the overlay, by name, host id or address
    Ping(Ping),
    /// Check what this host needs: privilege, /dev/net/tun, port, interface, public addresses, NAT, metadata, service
    Netcheck,
    /// Run the tunnel of a file without any service
    Static {
        // Not `file`: flattened flags share the names, and one of them is the agent's own configuration.
        #[arg(id = "tunnel_file", value_name = "FILE")]
        file: PathBuf,
    },
    /// Run a plain WireGuard interface, which wg(8) and wg-quick(8) configure
    Wireguard(Wireguard),
    /// Print a completion script
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, clap::Args)]
struct Join {
    /// https://HOST:PORT of the service; several replicas separated by commas
    #[arg(value_name = "URL")]
    services: String,
    /// The token; --token-file keeps it out of the process list
    #[arg(required_unless_present = "token_file", conflicts_with = "token_file")]
    token: Option<String>,
    /// Read the token from a file, or with `-` from standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long to go on asking a busy service and to wait for the interface, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=3600))]
    wait: u64,
}

#[derive(Debug, clap::Args)]
struct Wireguard {
    /// The interface to make
    #[arg(value_parser = interface_name)]
    interface: String,
    /// Stay in the foreground; without it, return when the interface can be configured
    #[arg(short, long)]
    foreground: bool,
    /// What a program in the background is started with
    #[arg(long, hide = true, conflicts_with = "foreground")]
    background: bool,
}

#[derive(Debug, clap::Args)]
struct Ping {
    peer: String,
    #[arg(long)]
    network: Option<NetworkId>,
    /// Number of echo requests
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    count: u32,
    /// Milliseconds between two of them
    #[arg(short, long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    interval: u64,
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse_from(as_subcommand(env::args_os()));
    let output = arguments.output;
    match execute(arguments) {
        Ok(code) => code,
        Err(failure) => {
            report(output, &failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn execute(arguments: Arguments) -> Result<ExitCode, Failure> {
    if let Some(Command::Completions { shell }) = arguments.command {
        clap_complete::generate(shell, &mut Arguments::command(), "cladnet-agent", &mut io::stdout());
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(&arguments.overrides).map_err(|error| Failure::caused(Kind::Configuration, &error))?;
    if arguments.check_config {
        crate::facts::location_file::read(&config.location_file)
            .map_err(|error| Failure::caused(Kind::Configuration, &error))?;
        render::line("configuration is good")?;
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.command {
        Some(Command::Run) => {
            log(&config.log);
            daemon::run(config).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Static { file }) => {
            log(&config.log);
            static_tunnel(&file, config.engine, config.offload)
        }
        Some(Command::Wireguard(arguments)) => plain_interface(&arguments, &config),
        Some(command) => ask::run(&config, command, arguments.output),
        None => {
            let _ = Arguments::command().print_help();
            Ok(ExitCode::from(Kind::Usage.exit_code()))
        }
    }
}

/// Runs until a signal; the file is the whole configuration of the tunnel.
fn static_tunnel(file: &Path, engine: Engine, policy: OffloadPolicy) -> Result<ExitCode, Failure> {
    match runtime()?.block_on(static_tunnel::run(file, engine.into(), policy)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ StaticTunnelError::File(_)) => Err(Failure::caused(Kind::Configuration, &error)),
        Err(error) => Err(Failure::caused(Kind::Failed, &error)),
    }
}

/// In the foreground, in the background, or as what starts the one in the background.
fn plain_interface(arguments: &Wireguard, config: &Config) -> Result<ExitCode, Failure> {
    let failed = |error: io::Error| Failure::caused(Kind::Failed, &WireguardError::Background(error));
    if !arguments.foreground && !arguments.background {
        return Background::start().map_err(failed);
    }
    let background = arguments.background.then(Background::enter).transpose().map_err(failed)?;
    if background.is_none() {
        log(&config.log);
    }
    let ready = || background.map_or(Ok(()), Background::ready);
    let run = wireguard::run(&arguments.interface, config.engine.into(), config.offload, ready);
    match runtime()?.block_on(run) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ WireguardError::InterfaceExists(_)) => Err(Failure::caused(Kind::Conflict, &error)),
        Err(error) => Err(Failure::caused(Kind::Failed, &error)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Kind::Failed, format!("cannot start: {error}")))
}

/// Called as [`wireguard::PROGRAM`], the binary is its subcommand of that kind: `wg-quick` gives it one word and no more.
fn as_subcommand(mut arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let name = arguments.next().unwrap_or_default();
    let is_other = Path::new(&name).file_name().is_some_and(|name| name == wireguard::PROGRAM);
    let subcommand = is_other.then(|| OsString::from("wireguard"));
    iter::once(name).chain(subcommand).chain(arguments).collect()
}

fn interface_name(name: &str) -> Result<String, &'static str> {
    if netlink::is_interface_name(name) { Ok(name.to_owned()) } else { Err(netlink::INTERFACE_NAME) }
}

/// The daemon's log goes to standard error: the service manager keeps it. `boringtun` reports every peer that is away
/// as an error; who wants to hear it says so in the filter.
fn log(filter: &LogFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("boringtun=off,{filter}")))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // A line that cannot be written, on a full disk for example, is lost; telling so on the same stream would be a panic.
        .log_internal_errors(false)
        .init();
}

fn report(output: Output, failure: &Failure) {
    let mut stderr = io::stderr().lock();
    let _ = match output {
        Output::Text => writeln!(stderr, "cladnet-agent: {failure}"),
        Output::Json => writeln!(stderr, "{}", serde_json::json!({ "error": failure })),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_token_comes_by_argument_or_by_file_and_not_by_both() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' ')).map(drop);
        assert!(parse("cladnet-agent join https://a TOKEN").is_ok());
        assert!(parse("cladnet-agent join https://a,https://b --token-file -").is_ok());
        assert!(parse("cladnet-agent join https://a TOKEN --token-file f").is_err());
        assert!(parse("cladnet-agent join https://a").is_err());
        assert!(parse("cladnet-agent leave prod --all").is_err());
        assert!(parse("cladnet-agent up Prod").is_err(), "an id is checked at once");
    }

    #[test]
    fn by_its_other_name_the_binary_makes_a_plain_interface() {
        let parse = |line: &str| {
            Arguments::try_parse_from(as_subcommand(line.split(' ').map(OsString::from))).map(|parsed| parsed.command)
        };
        for line in ["/usr/bin/cladnet-wireguard -f wg0", "cladnet-agent wireguard --foreground wg0"] {
            let Ok(Some(Command::Wireguard(Wireguard { interface, foreground, background }))) = parse(line) else {
                panic!("{line}");
            };
            assert_eq!((interface.as_str(), foreground, background), ("wg0", true, false));
        }
        for name in ["", "a/b", "..", "wg%d", "sixteen-letters-"] {
            assert!(parse(&format!("cladnet-wireguard {name}")).is_err(), "{name}");
        }
    }
}
