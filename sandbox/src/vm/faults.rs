//! What can go wrong with a VM while somebody works on it: its connections break, its disk is full.

use super::Vm;
use crate::error::{Error, Result};
use crate::state::TcpFault;

const FILL: &str = "/var/lib/sandbox-fill";

impl Vm<'_> {
    /// Breaks all TCP connections to a port of the VM, those that exist included, until it is called with `None`.
    pub fn set_tcp_fault(&self, port: u16, fault: Option<TcpFault>) -> Result<()> {
        self.sandbox.update(|state| {
            let faults = &mut state.vm_mut(self.name())?.tcp_faults;
            match fault {
                Some(fault) => faults.insert(port, fault),
                None => faults.remove(&port),
            };
            Ok(())
        })
    }

    /// Fills the disk of the VM to its last page; `/run` and `/tmp` are not on it. It takes as much of the host's memory.
    pub fn fill_disk(&self) -> Result<()> {
        let output = self.exec(["cp", "/dev/zero", FILL])?;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        match message.contains("No space left on device") {
            true => Ok(()),
            false => Err(Error::Process { process: format!("fill the disk of {}", self.name()), message }),
        }
    }

    /// Ends what [`Vm::fill_disk`] began.
    pub fn free_disk(&self) -> Result<()> {
        self.run(["rm", "-f", FILL]).map(drop)
    }
}
