//! The agent's settings, parsed once into a type that cannot be wrong: file < environment < flags.
//! The file is optional; an unknown key, a bad value or a bad file is refused with its line before anything is opened.

mod forwarding;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use cladnet_tunnel::Implementation;
use clap::builder::FalseyValueParser;
use serde::Deserialize;

pub(crate) use forwarding::{Forwarding, Subnets};

use crate::offload::OffloadPolicy;

/// Read if it exists, unless `--config` names another, which must.
pub(crate) const DEFAULT_FILE: &str = "/etc/cladnet-agent/config.toml";
/// UDP port of the tunnel; what security groups are told to admit.
pub(crate) const DEFAULT_LISTEN_PORT: u16 = 8055;
/// cb-network's interface was `cbnet0`; the next network gets `cbnet1`.
pub(crate) const DEFAULT_INTERFACE_PREFIX: &str = "cbnet";
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/cladnet-agent";
pub(crate) const DEFAULT_SOCKET: &str = "/run/cladnet-agent/control.sock";
/// Fields of the cloud location that the operator knows better than any metadata service.
pub(crate) const DEFAULT_LOCATION_FILE: &str = "/etc/cladnet-agent/location.toml";
pub(crate) const DEFAULT_LOG: &str = "info";

/// What flags and environment may override.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Configuration file [default: /etc/cladnet-agent/config.toml, if it exists]
    #[arg(long = "config", value_name = "FILE", env = "CLADNET_AGENT_CONFIG", global = true)]
    pub file: Option<PathBuf>,
    /// Directory of keys and last known configuration [default: /var/lib/cladnet-agent]
    #[arg(long, value_name = "DIR", env = "CLADNET_AGENT_STATE_DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Control socket of the daemon [default: /run/cladnet-agent/control.sock]
    #[arg(long, value_name = "FILE", env = "CLADNET_AGENT_SOCKET", global = true)]
    pub socket: Option<PathBuf>,
    /// UDP port of the tunnel [default: 8055]
    #[arg(long, value_name = "PORT", env = "CLADNET_AGENT_LISTEN_PORT", global = true)]
    pub listen_port: Option<u16>,
    /// What carries WireGuard [default: own]
    #[arg(long, value_enum, value_name = "ENGINE", env = "CLADNET_AGENT_ENGINE", global = true)]
    pub engine: Option<Engine>,
    /// Move packets one by one, without the kernel's help for many at once: slower, for comparison
    #[arg(long, env = "CLADNET_AGENT_NO_OFFLOAD", value_parser = FalseyValueParser::new(), global = true)]
    pub no_offload: bool,
    /// What is logged, as tracing directives [default: info]
    #[arg(long, value_name = "LEVEL", env = "CLADNET_AGENT_LOG", global = true)]
    pub log: Option<String>,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen_port: Option<u16>,
    interface_prefix: Option<InterfacePrefix>,
    state_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    location_file: Option<PathBuf>,
    extra_endpoints: Option<Vec<SocketAddr>>,
    advertise: Option<Subnets>,
    set_forwarding: Option<bool>,
    no_snat: Option<bool>,
    engine: Option<Engine>,
    offload: Option<bool>,
    log: Option<LogFilter>,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub listen_port: u16,
    pub interface_prefix: InterfacePrefix,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    pub location_file: PathBuf,
    /// Endpoints that nothing on the host or outside can tell: a port forward, a second address.
    pub extra_endpoints: Vec<SocketAddr>,
    pub forwarding: Forwarding,
    pub engine: Engine,
    pub offload: OffloadPolicy,
    pub log: LogFilter,
}

/// Which implementation of WireGuard carries the tunnels. Peers cannot tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// cladnet's own
    #[default]
    Own,
    /// The library boringtun, a packet at a time
    Boringtun,
}

impl From<Engine> for Implementation {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Own => Self::Own,
            Engine::Boringtun => Self::Boringtun,
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read configuration file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("configuration file {}: {}", path.display(), source.to_string().trim_end())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{field} {problem}")]
    Value { field: &'static str, problem: String },
}

impl Config {
    /// Reads the file and lays the overrides over it.
    pub(crate) fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let file = match &overrides.file {
            Some(path) => read(path)?,
            None if Path::new(DEFAULT_FILE).exists() => read(Path::new(DEFAULT_FILE))?,
            None => File::default(),
        };
        Self::merge(file, overrides)
    }

    fn merge(file: File, overrides: &Overrides) -> Result<Self, ConfigError> {
        let log = match &overrides.log {
            Some(text) => {
                Some(text.parse().map_err(|LogFilterError(problem)| ConfigError::Value { field: "log", problem })?)
            }
            None => file.log,
        };
        let listen_port = overrides.listen_port.or(file.listen_port).unwrap_or(DEFAULT_LISTEN_PORT);
        if listen_port == 0 {
            let problem = format!("is 0; peers need a port that stays, use 1 to 65535 (default {DEFAULT_LISTEN_PORT})");
            return Err(ConfigError::Value { field: "listen_port", problem });
        }
        Ok(Self {
            listen_port,
            interface_prefix: file.interface_prefix.unwrap_or_default(),
            state_dir: pick(&overrides.state_dir, file.state_dir, DEFAULT_STATE_DIR),
            socket: pick(&overrides.socket, file.socket, DEFAULT_SOCKET),
            location_file: pick(&None, file.location_file, DEFAULT_LOCATION_FILE),
            extra_endpoints: file.extra_endpoints.unwrap_or_default(),
            forwarding: Forwarding {
                advertise: file.advertise.unwrap_or_default(),
                may_set: file.set_forwarding.unwrap_or_default(),
                keeps_sources: file.no_snat.unwrap_or_default(),
            },
            engine: overrides.engine.or(file.engine).unwrap_or_default(),
            offload: if overrides.no_offload || file.offload == Some(false) {
                OffloadPolicy::Never
            } else {
                OffloadPolicy::WherePossible
            },
            log: log.unwrap_or_default(),
        })
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })
}

fn pick(flag: &Option<PathBuf>, file: Option<PathBuf>, default: &str) -> PathBuf {
    flag.clone().or(file).unwrap_or_else(|| default.into())
}

/// First part of an interface's name; a number follows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct InterfacePrefix(String);

impl InterfacePrefix {
    /// The kernel takes 15 characters; three are left for the number.
    const MAX_LENGTH: usize = 12;

    /// The name of the interface with this number.
    pub(crate) fn interface(&self, number: u16) -> String {
        format!("{}{number}", self.0)
    }

    /// Whether an interface of this name is one of ours.
    pub(crate) fn names(&self, interface: &str) -> bool {
        let number = interface.strip_prefix(&self.0);
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    }
}

impl Default for InterfacePrefix {
    fn default() -> Self {
        Self(DEFAULT_INTERFACE_PREFIX.to_owned())
    }
}

impl TryFrom<String> for InterfacePrefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let letters = text.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !text.starts_with('-');
        if text.is_empty() || text.len() > Self::MAX_LENGTH || !letters {
            let max = Self::MAX_LENGTH;
            return Err(format!("interface prefix {text:?} is not 1 to {max} characters of [a-z-], a letter first"));
        }
        Ok(Self(text))
    }
}

/// Directives of `tracing_subscriber::EnvFilter`, known to parse.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct LogFilter(String);

/// The text is no list of directives.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LogFilterError(String);

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(LogFilterError(format!(
                "{text:?} is not a log level ({error}); use error, warn, info, debug or trace, or directives like info,cladnet_agent=debug"
            ))),
        }
    }
}

impl TryFrom<String> for LogFilter {
    type Error = LogFilterError;

    fn try_from(text: String) -> Result<Self, LogFilterError> {
        text.parse()
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self(DEFAULT_LOG.to_owned())
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, text).expect("write");
        Config::load(&Overrides { file: Some(file), ..Overrides::default() })
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parse("").expect("valid");
        assert_eq!(config.listen_port, 8055);
        assert_eq!(config.interface_prefix.interface(1), "cbnet1");
        assert_eq!(config.state_dir, Path::new(DEFAULT_STATE_DIR));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = parse("listen_port = 8055\nlisten_prot = 8056\n").expect_err("unknown key").to_string();
        assert!(error.contains("line 2") && error.contains("listen_prot"), "{error}");
    }

    #[test]
    fn a_bad_value_is_refused_with_its_line() {
        for text in [
            "\nlisten_port = 70000",
            "\ninterface_prefix = \"Net 0\"",
            "\nextra_endpoints = [\"203.0.113.1\"]",
            "\nadvertise = [\"10.1.0.5/16\"]",
            "\nadvertise = [\"10.1.0.0/16\", \"10.1.2.0/24\"]",
            "\nset_forwarding = \"yes\"",
            "\nengine = \"wireguard-go\"",
            "\nlog = \"loud=very=much\"",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "listen_port = 1000\nstate_dir = \"/a\"").expect("write");
        let overrides = Overrides { file: Some(file), listen_port: Some(2000), ..Overrides::default() };
        let config = Config::load(&overrides).expect("valid");
        assert_eq!((config.listen_port, config.state_dir.as_path()), (2000, Path::new("/a")));
    }

    #[test]
    fn offloads_are_used_unless_file_or_flag_says_no() {
        assert_eq!(parse("").expect("valid").offload, OffloadPolicy::WherePossible);
        assert_eq!(parse("offload = false").expect("valid").offload, OffloadPolicy::Never);
        let flagged = Overrides { no_offload: true, ..Overrides::default() };
        assert_eq!(Config::load(&flagged).expect("valid").offload, OffloadPolicy::Never);
    }

    #[test]
    fn a_file_that_was_named_must_exist() {
        let overrides = Overrides { file: Some("/nonexistent/config.toml".into()), ..Overrides::default() };
        assert!(matches!(Config::load(&overrides), Err(ConfigError::Read { .. })));
    }

    #[test]
    fn port_zero_is_refused() {
        assert!(parse("listen_port = 0").expect_err("port 0").to_string().starts_with("listen_port is 0"));
    }

    #[test]
    fn the_packaged_example_names_every_setting_with_its_default() {
        let example = include_str!("../../scripts/packaging/cladnet-agent.toml");
        let settings: String = example
            .lines()
            .filter_map(|line| line.strip_prefix('#')?.split_once(" = "))
            .fold(String::new(), |text, (name, value)| format!("{text}{name} = {value}\n"));
        let (stated, default) = (parse(&settings).expect("valid"), parse("").expect("valid"));
        let Config {
            listen_port,
            interface_prefix,
            state_dir,
            socket,
            location_file,
            extra_endpoints: _,
            forwarding: Forwarding { advertise: _, may_set, keeps_sources },
            engine,
            offload,
            log,
        } = stated;
        assert_eq!((listen_port, interface_prefix), (default.listen_port, default.interface_prefix));
        assert_eq!((state_dir, socket), (default.state_dir, default.socket));
        assert_eq!(
            (location_file, engine, offload, log),
            (default.location_file, default.engine, default.offload, default.log)
        );
        assert_eq!((may_set, keeps_sources), (default.forwarding.may_set, default.forwarding.keeps_sources));
        assert_eq!(settings.lines().count(), 12);
    }
}
