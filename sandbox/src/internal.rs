//! What only the binary `cladnet-sandbox` may call: becoming one of a sandbox's processes, or entering a VM, for which the
//! process must have a single thread; and, inside a VM, asking its init.

use std::ffi::OsString;
use std::path::Path;

use nix::sched::CloneFlags;

use crate::directory::Directory;
use crate::enter::Program;
use crate::error::{Error, Result};
pub use crate::guest::protocol::Request as InitRequest;
use crate::guest::protocol::{self, ServiceStatus};
use crate::vm::Vm;
use crate::{guest, metadata, process, wan};

/// The processes that a sandbox consists of.
#[derive(Debug, Clone)]
pub enum Role {
    Wan,
    /// Does nothing but be in the network namespace of a VPC's router.
    Router,
    Metadata,
    Vm {
        name: String,
    },
}

/// Becomes a process of a sandbox. Returns only when that fails.
pub fn become_process(sandbox: &str, process_name: &str, role: Role) -> Result<()> {
    let directory = Directory::of(sandbox);
    match role {
        Role::Wan => wan::run(&directory, process_name),
        Role::Metadata => metadata::run(&directory, process_name),
        Role::Vm { name } => guest::run(&directory, process_name, &name),
        Role::Router => {
            process::detach(&directory, process_name, CloneFlags::CLONE_NEWNET)?.ready()?;
            loop {
                nix::unistd::pause();
            }
        }
    }
}

/// Runs a program in a VM with the caller's streams and returns its exit code.
pub fn enter(vm: &Vm<'_>, command: Vec<OsString>, environment: Vec<(String, String)>) -> Result<u8> {
    vm.enter(&Program { command, environment })
}

/// Asks the init of the VM that this program runs in, and returns its services as they are then.
pub fn ask_init(request: &InitRequest) -> Result<Vec<ServiceStatus>> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    protocol::ask_init(Path::new(protocol::SOCKET_INSIDE), "this VM", request)
}
