//! The host key of a VM's SSH server.

use std::fs;

use super::Vm;
use crate::error::{Doing, Error, Result};
use crate::guest::ssh;

impl Vm<'_> {
    /// The public host key of the VM's SSH server (`ssh-ed25519 AAAA…`); an error if it has none.
    pub fn ssh_host_key(&self) -> Result<String> {
        self.check_ssh()?;
        // Read from outside: a suspended VM has its key too.
        let path = format!("/proc/{}/root{}.pub", self.init_pid()?, ssh::HOST_KEY);
        let line = fs::read_to_string(&path).doing(|| format!("read {path}"))?;
        Ok(line.trim_end().to_owned())
    }

    /// Gives the VM another host key, as if it had been rebuilt, and returns it. Connections that exist go on.
    pub fn replace_ssh_host_key(&self) -> Result<String> {
        self.check_ssh()?;
        self.run(["sh", "-c", ssh::MAKE_HOST_KEY])?;
        self.restart_service(ssh::SERVICE)?;
        self.sandbox.await_ssh(self.name(), &self.machine()?)?;
        self.ssh_host_key()
    }

    fn check_ssh(&self) -> Result<()> {
        match self.machine()?.ssh {
            Some(_) => Ok(()),
            None => Err(Error::Conflict(format!("{} has no SSH server: its topology says no `ssh`", self.name()))),
        }
    }
}
