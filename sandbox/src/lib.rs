//! A cloud on one Linux machine: VMs that are namespaces, VPCs with routers, NAT and security groups, and an internet with
//! delay and loss between them.
//!
//! [`Sandbox::create`] builds one from a [`Topology`]; it lives until [`Sandbox::destroy`], whatever happens to its maker.
//! The work is done by processes of the binary `cladnet-sandbox`, which must be beside the running program, on the search
//! path, or named by `CLADNET_SANDBOX_BIN`. Everything is synchronous and needs root. This is a laboratory, not a jail:
//! what runs in a VM is trusted as much as what runs on the host.
//!
//! ```no_run
//! use cladnet_sandbox::{Sandbox, Topology};
//!
//! let sandbox = Sandbox::create(&Topology::demo())?.destroy_on_drop();
//! let gcp = sandbox.vm("gcp-1")?.public_address()?;
//! print!("{}", sandbox.vm("control")?.run(["ping", "-c1", &gcp.to_string()])?);
//! # Ok::<(), cladnet_sandbox::Error>(())
//! ```

mod directory;
mod enter;
mod error;
mod freezer;
pub mod geography;
mod guest;
mod host_access;
mod metadata;
mod namespace;
mod netlink;
mod process;
pub mod regions;
mod router;
mod rules;
mod sandbox;
mod state;
mod syscall;
mod topology;
mod vm;
mod wan;

#[doc(hidden)]
pub mod internal;

pub use error::{Error, Result};
pub use guest::protocol::{ServiceSpec, ServiceState, ServiceStatus};
pub use sandbox::{Direction, Sandbox, TemporarySandbox};
pub use state::{Block, BlockedPath, Link, Machine, Place, Router, State, TcpFault};
pub use topology::{
    InternetVm, LinkQuality, MetadataService, NatKind, Peering, Provider, SecurityGroup, Ssh, SshChoice, Subnet,
    Topology, VmSpec, Vpc, Wan, WanLink,
};
pub use vm::{PublicAddress, Vm, WireCount};
pub use wan::Statistics;
