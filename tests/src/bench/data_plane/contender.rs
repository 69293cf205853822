//! Who is measured: cladnet, its own variants, and other people's programs, each as its makers ship it.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::world::binary;

/// Programs that are not Debian's are looked for here; `scripts/bench` builds them.
const PEERS_DIRECTORY: &str = "CLADNET_BENCH_PEERS";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Contender {
    /// This product, with a packet filter of a hundred rules and probes
    Cladnet,
    /// The same without packet filter and probes: what these cost
    Unfiltered,
    /// The same without segmentation offloads
    NoOffload,
    /// The same in clear frames, as in a VPC that both ends trust
    Clear,
    /// The same with encryption replaced by nothing: the roof of what it could reach
    Null,
    /// `boringtun-cli` of crates.io
    Boringtun,
    /// `gotatun-cli` of crates.io
    Gotatun,
    /// Debian's `wireguard-go`
    WireguardGo,
    /// The Go module `github.com/tailscale/wireguard-go`
    TailscaleWireguardGo,
    /// Debian's `nebula`, which is no WireGuard
    Nebula,
    /// No tunnel: what the cable and the programs that send and receive can do
    Bare,
}

/// How a contender is told what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// By a file of our own; these flags beside it.
    Static(&'static [&'static str]),
    /// By `wg`, over a socket that is named as the interface.
    Userspace,
    Nebula,
    /// There is nothing to tell.
    Bare,
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cladnet => "cladnet",
            Self::Unfiltered => "unfiltered",
            Self::NoOffload => "no-offload",
            Self::Clear => "clear",
            Self::Null => "null",
            Self::Boringtun => "boringtun",
            Self::Gotatun => "gotatun",
            Self::WireguardGo => "wireguard-go",
            Self::TailscaleWireguardGo => "tailscale-wireguard-go",
            Self::Nebula => "nebula",
            Self::Bare => "bare",
        }
    }

    /// Whether it is somebody else's work.
    pub(super) fn is_of_others(self) -> bool {
        match self {
            Self::Cladnet | Self::Unfiltered | Self::NoOffload | Self::Clear | Self::Null | Self::Bare => false,
            Self::Boringtun | Self::Gotatun | Self::WireguardGo | Self::TailscaleWireguardGo | Self::Nebula => true,
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Cladnet | Self::Unfiltered | Self::Clear | Self::Null => Kind::Static(&[]),
            Self::NoOffload => Kind::Static(&["--no-offload"]),
            Self::Boringtun | Self::Gotatun | Self::WireguardGo | Self::TailscaleWireguardGo => Kind::Userspace,
            Self::Nebula => Kind::Nebula,
            Self::Bare => Kind::Bare,
        }
    }

    /// What it must be told beside its interface.
    pub(super) fn flags(self) -> &'static [&'static str] {
        match self {
            // Else they want to become the user who logged in, and there is none.
            Self::Boringtun | Self::Gotatun => &["--disable-drop-privileges"],
            _ => &[],
        }
    }

    /// Where its program is, or why there is none.
    pub(super) fn program(self) -> Result<PathBuf> {
        match self {
            Self::Cladnet | Self::Unfiltered | Self::NoOffload | Self::Clear => binary("cladnet-agent"),
            Self::Null => built("cladnet-agent-null"),
            Self::Boringtun => built("boringtun-cli"),
            Self::Gotatun => built("gotatun"),
            Self::TailscaleWireguardGo => built("tailscale-wireguard-go"),
            Self::WireguardGo => on_path("wireguard-go"),
            Self::Nebula => on_path("nebula"),
            Self::Bare => bail!("without a tunnel there is no program"),
        }
    }

    pub(super) fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn port(self) -> u16 {
        8060 + u16::from(self.number())
    }
}

fn built(name: &str) -> Result<PathBuf> {
    let directory = env::var_os(PEERS_DIRECTORY).with_context(|| format!("{PEERS_DIRECTORY} is not set"))?;
    let path = PathBuf::from(directory).join(name);
    if !path.is_file() {
        bail!("{} is not built: see what `scripts/bench` said of it", path.display());
    }
    Ok(path)
}

fn on_path(name: &str) -> Result<PathBuf> {
    let found = Command::new("which").arg(name).output()?;
    if !found.status.success() {
        bail!("{name} is not installed");
    }
    Ok(PathBuf::from(String::from_utf8(found.stdout)?.trim()))
}
