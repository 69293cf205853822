//! A world: clouds of the sandbox, a control plane on its machine `control`, agents on its VMs. The real binaries, as a user runs them.
//!
//! A world is destroyed when it is dropped. With `CLADNET_KEEP=1` it stays, and says how to enter it and how to destroy it.

mod admin;
mod deployment;
mod servers;
mod traffic;
mod vm;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use cladnet_sandbox::{Sandbox, Topology, Vm};
use tempfile::TempDir;

pub use admin::{Admin, Answer};
pub use deployment::{Deployed, HostsFile, SSH_USER, SshKey, Target};
pub use servers::{SERVICE_PORT, Servers};

/// The machine of every topology here that runs the control plane.
pub const CONTROL: &str = "control";

/// Name of the agent's service in a VM.
pub const AGENT: &str = "cladnet-agent";

/// See the module.
pub struct World {
    sandbox: Sandbox,
    servers: Servers,
    /// Whether agents come by SSH: then there is a provisioner.
    deploys: bool,
    /// The admin's key and the CA's certificate, on the host.
    work: TempDir,
    keep: bool,
}

impl World {
    /// Raises the clouds and the control plane, and returns when the service is healthy.
    pub fn raise(topology: &Topology, servers: Servers) -> Result<Self> {
        let sandbox = Sandbox::create(topology).context("could not raise the sandbox")?;
        let work = tempfile::Builder::new().prefix("cladnet-world-").tempdir().context("no temporary directory")?;
        let keep = env::var_os("CLADNET_KEEP").is_some();
        let world = Self { sandbox, servers, deploys: topology.ssh.is_some(), work, keep };
        if let Err(error) = world.start_servers() {
            let logs = world.save_logs()?;
            return Err(error.context(format!("could not start the control plane; logs: {}", logs.display())));
        }
        Ok(world)
    }

    /// The clouds.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// A machine of the clouds.
    pub fn vm(&self, name: &str) -> Result<Vm<'_>> {
        Ok(self.sandbox.vm(name)?)
    }

    /// The VMs, the control plane left out, by name.
    pub fn vm_names(&self) -> Result<Vec<String>> {
        let all = self.sandbox.vms()?;
        Ok(all.iter().map(|vm| vm.name().to_owned()).filter(|name| name != CONTROL).collect())
    }

    /// Keeps the clouds when this is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Copies what the machines logged to a directory that stays, and returns it: for people who look for a cause.
    pub fn save_logs(&self) -> Result<PathBuf> {
        let target = failures(&self.sandbox);
        fs::create_dir_all(&target)?;
        for vm in self.sandbox.vms()? {
            for service in vm.services()? {
                let log = vm.service_log(&service.name).unwrap_or_else(|error| error.to_string());
                fs::write(target.join(format!("{}-{}.log", vm.name(), service.name)), log)?;
            }
        }
        for log in fs::read_dir(self.sandbox.directory().join("log"))?.flatten() {
            fs::copy(log.path(), target.join(format!("sandbox-{}", log.file_name().to_string_lossy())))?;
        }
        Ok(target)
    }

    fn work(&self) -> &Path {
        self.work.path()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let id = self.sandbox.id();
        if self.keep {
            // The key and the certificate in it stay useful as long as the clouds do.
            self.work.disable_cleanup(true);
            println!("kept: cladnet-sandbox enter {id} VM; cladnet-sandbox destroy {id}");
        } else if let Err(error) = self.sandbox.destroy() {
            eprintln!("could not destroy the sandbox {id}: {error}");
        }
    }
}

/// Runs `body` in a world of its own, after which *explain* must agree with the agents. Fails with the reason; then the logs stay, and
/// their place is told.
pub fn story(topology: &Topology, servers: Servers, body: impl FnOnce(&World) -> Result<()>) {
    let world = World::raise(topology, servers).unwrap_or_else(|error| panic!("{error:#}"));
    if let Err(error) = body(&world).and_then(|()| world.explain_agrees_everywhere()) {
        let logs = world.save_logs().map_or_else(|error| error.to_string(), |logs| logs.display().to_string());
        drop(world);
        panic!("{error:#}\nlogs: {logs}; CLADNET_KEEP=1 keeps the sandbox to look into");
    }
}

/// Where what is left of a failed story is found.
pub fn failures(sandbox: &Sandbox) -> PathBuf {
    env::temp_dir().join("cladnet-failures").join(sandbox.id())
}

/// A binary of this project, beside the running program or one directory above it (tests run from `deps`).
pub fn binary(name: &str) -> Result<PathBuf> {
    let this = env::current_exe()?;
    let beside = this.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    match beside.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is not built: run `cargo build --bin {name}` first (scripts/test does)"),
    }
}
