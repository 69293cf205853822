//! The inside of a VM: namespaces, a root of its own, and an init.
//!
//! [`run`] is the body of the process that becomes PID 1 of a VM. It never touches the VM's network: the maker wires it.

mod init;
pub(crate) mod protocol;
mod root;
mod services;
pub(crate) mod ssh;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use nix::sched::CloneFlags;

use crate::directory::Directory;
use crate::error::{Doing, Result};
use crate::process;

/// The name under which a VM's init is recorded.
pub(crate) fn process_name(vm: &str) -> String {
    format!("vm-{vm}")
}

/// Becomes a VM. Returns only when it could not.
pub(crate) fn run(directory: &Directory, name: &str, vm: &str) -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    let readiness = process::detach(directory, name, namespaces)?;
    match boot(directory, vm) {
        Ok(init) => {
            readiness.ready()?;
            init.run()
        }
        Err(error) => {
            readiness.failed(&error);
            Err(error)
        }
    }
}

fn boot(directory: &Directory, vm: &str) -> Result<init::Init> {
    let state = directory.load()?;
    let socket = directory.init_socket(vm);
    let listener = UnixListener::bind(&socket).doing(|| format!("listen on {}", socket.display()))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).doing(|| "protect init's socket".into())?;
    nix::unistd::sethostname(vm).doing(|| "set the host name".into())?;
    root::enter(&directory.vm(vm).join("disk"), &state, vm, &socket)?;
    let server = state.vm(vm)?.ssh.as_ref().map(ssh::set_up).transpose()?;
    let mut init = init::Init::new(listener)?;
    server.map_or(Ok(()), |spec| init.add(spec))?;
    Ok(init)
}
