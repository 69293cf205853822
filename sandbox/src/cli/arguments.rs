//! The words of the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use cladnet_sandbox::{NatKind, TcpFault};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// A cloud on one Linux machine: VMs, VPCs and an internet made of namespaces.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a sandbox and print its id
    Create(Create),
    /// End and remove everything of a sandbox; no error if there is none
    Destroy { id: String },
    /// Print the ids of all sandboxes
    List,
    /// Show machines, addresses and links of a sandbox
    Show {
        id: String,
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Run a program in a VM: streams and exit code are passed through
    Exec {
        id: String,
        vm: String,
        /// NAME=VALUE for the program's environment, which is otherwise the VM's own
        #[arg(long = "env", value_name = "NAME=VALUE", value_parser = assignment)]
        environment: Vec<(String, String)>,
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Open a shell in a VM
    Enter { id: String, vm: String },
    /// Add a VM with one-to-one NAT to a subnet
    AddVm { id: String, vm: String, vpc: String, subnet: String },
    /// End a VM and forget it, its disk included
    RemoveVm { id: String, vm: String },
    /// Freeze a VM: no process runs, no packet comes or goes
    Suspend { id: String, vm: String },
    /// Let a suspended VM go on, and print its public address
    Resume {
        id: String,
        vm: String,
        /// It comes back with another public address
        #[arg(long)]
        new_public_ip: bool,
    },
    /// Give a running VM another public address, and print it
    Readdress { id: String, vm: String },
    /// Kill every process of a VM, empty its /run and /tmp, start its services again
    Reboot { id: String, vm: String },
    /// Change how a VM reaches the internet
    Nat {
        id: String,
        vm: String,
        #[arg(value_enum)]
        kind: Nat,
    },
    /// Change delay, jitter and loss between two sites; what is not given stays as it is
    Link(Link),
    /// Make packets between two machines disappear
    Block(Block),
    /// End what `block` began
    Unblock(Block),
    /// Write everything on the WAN to a pcap file
    Capture {
        id: String,
        #[command(subcommand)]
        action: CaptureAction,
    },
    /// Replace the security group of a VM or a VPC
    SecurityGroup(SecurityGroupChange),
    /// Keep programs running in a VM
    Service {
        id: String,
        vm: String,
        #[command(subcommand)]
        action: ServiceAction,
    },
    /// Break all TCP connections to a port of a VM, until the fault is `none`
    TcpFault {
        id: String,
        vm: String,
        port: u16,
        #[arg(value_enum)]
        fault: Fault,
    },
    /// Fill the disk of a VM, or free what was filled
    Disk {
        id: String,
        vm: String,
        #[arg(value_enum)]
        action: DiskAction,
    },
    /// Print the public host key of a VM's SSH server
    SshHostKey {
        id: String,
        vm: String,
        /// Give the VM another one first, as if it had been rebuilt
        #[arg(long)]
        replace: bool,
    },
    /// Count what a VM sends from now on, by destination
    CountWire { id: String, vm: String },
    /// Print what a VM has sent since `count-wire`: destination, packets, bytes
    WireCounts { id: String, vm: String },
    /// What the WAN has carried and dropped
    Statistics { id: String },
    #[command(hide = true)]
    Process(Process),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Topology, YAML or JSON
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["demo", "regions"])]
    pub(crate) file: Option<PathBuf>,
    /// The built-in topology: AWS, GCP, Azure and a control plane
    #[arg(long, conflicts_with = "file")]
    pub(crate) demo: bool,
    /// The built-in topology: 20 regions of AWS and GCP with measured round trips, and a control plane
    #[arg(long, conflicts_with_all = ["file", "demo"])]
    pub(crate) regions: bool,
    /// a-z, 0-9 and -, at most 24 characters; generated if absent
    #[arg(long)]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Nat {
    OneToOne,
    PortRestricted,
    None,
}

impl From<Nat> for NatKind {
    fn from(nat: Nat) -> Self {
        match nat {
            Nat::OneToOne => Self::OneToOne,
            Nat::PortRestricted => Self::PortRestricted,
            Nat::None => Self::None,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Fault {
    /// Nothing passes, and nobody is told
    BlackHole,
    /// Whatever the other side sends is answered with a reset
    Reset,
    None,
}

impl From<Fault> for Option<TcpFault> {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::BlackHole => Some(TcpFault::BlackHole),
            Fault::Reset => Some(TcpFault::Reset),
            Fault::None => None,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DiskAction {
    Fill,
    Free,
}

#[derive(Debug, Args)]
pub(crate) struct Link {
    pub(crate) id: String,
    /// A site, such as aws/ap-northeast-2
    #[arg(value_name = "REGION-A")]
    pub(crate) a: String,
    #[arg(value_name = "REGION-B")]
    pub(crate) b: String,
    /// One way: half of the round trip
    #[arg(long)]
    pub(crate) delay_ms: Option<f64>,
    #[arg(long)]
    pub(crate) jitter_ms: Option<f64>,
    #[arg(long)]
    pub(crate) loss_percent: Option<f64>,
    /// Nothing passes; without this flag everything may
    #[arg(long)]
    pub(crate) blackhole: bool,
    /// Only what is sent from the first to the second
    #[arg(long)]
    pub(crate) one_way: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Block {
    pub(crate) id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    /// Which addresses of the other machine are meant
    #[arg(long, value_enum)]
    pub(crate) path: PathChoice,
    /// Only packets from FROM to TO
    #[arg(long)]
    pub(crate) one_way: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PathChoice {
    Private,
    Public,
    All,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaptureAction {
    Start { file: PathBuf },
    Stop,
}

#[derive(Debug, Args)]
pub(crate) struct SecurityGroupChange {
    pub(crate) id: String,
    /// A VM, or a VPC for all of its VMs without a group of their own
    pub(crate) name: String,
    /// Ports open for TCP, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) tcp: Vec<u16>,
    /// Ports open for UDP, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) udp: Vec<u16>,
    #[arg(long)]
    pub(crate) icmp: bool,
    /// Let the VM have its VPC's group again
    #[arg(long, conflicts_with_all = ["tcp", "udp", "icmp"])]
    pub(crate) inherit: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceAction {
    /// Start a program, and start it again 100 ms after it ends
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
    /// Send a signal to a service's main process
    Kill {
        name: String,
        #[arg(long, default_value_t = 9)]
        signal: i32,
    },
    /// Print what a service has logged
    Log {
        name: String,
    },
    Status,
}

#[derive(Debug, Args)]
pub(crate) struct Process {
    #[arg(value_enum)]
    pub(crate) role: ProcessRole,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) vm: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ProcessRole {
    Wan,
    Router,
    Metadata,
    Vm,
}

pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    parts.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "write NAME=VALUE".to_owned())
}
