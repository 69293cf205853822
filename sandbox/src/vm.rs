//! One machine of a sandbox, from the outside: run programs in it, keep services in it, suspend it, move its address.

mod faults;
mod ssh;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Output, Stdio};

pub use wire::WireCount;

use crate::enter;
use crate::error::{Doing, Error, Result};
use crate::freezer::Freezer;
use crate::guest::protocol::{Request, ServiceSpec, ServiceStatus, ask_init};
use crate::sandbox::Sandbox;
use crate::state::{Machine, Place, provider_of};
use crate::topology::{NatKind, SecurityGroup};
use crate::{host_access, namespace, process};

/// A VM of a VPC or a machine on the internet.
#[derive(Debug, Clone)]
pub struct Vm<'a> {
    sandbox: &'a Sandbox,
    name: String,
}

/// Whether a VM gets another public address while it sleeps, as most clouds give one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicAddress {
    Keep,
    Change,
}

impl<'a> Vm<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox, name: &str) -> Self {
        Self { sandbox, name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its record.
    pub fn machine(&self) -> Result<Machine> {
        self.sandbox.state()?.vm(&self.name).cloned()
    }

    /// Its address inside its VPC; an error on the internet, where there is none.
    pub fn private_address(&self) -> Result<Ipv4Addr> {
        self.machine()?.private_address().ok_or_else(|| self.lacks("private address"))
    }

    /// The address it is seen with on the WAN now; an error without NAT.
    pub fn public_address(&self) -> Result<Ipv4Addr> {
        self.machine()?.public_address().ok_or_else(|| self.lacks("public address"))
    }

    pub fn ipv6_address(&self) -> Result<Ipv6Addr> {
        self.machine()?.ipv6_address.ok_or_else(|| self.lacks("IPv6 address"))
    }

    /// The address under which the host reaches this machine.
    pub fn host_access(&self) -> Result<Ipv4Addr> {
        match self.machine()?.place {
            Place::Internet { host_access: Some(network), .. } => Ok(host_access::addresses(network)[1]),
            _ => Err(self.lacks("host_access")),
        }
    }

    /// The id, on the host, of its PID 1: for `/proc/<pid>/root` and `nsenter`.
    pub fn init_pid(&self) -> Result<i32> {
        Ok(self.init()?.pid)
    }

    /// A command that runs inside the VM; set its streams and start it as any other. Killing it kills the program.
    ///
    /// Its environment is the VM's, not the caller's: use `env` of the VM (`command(["env", "A=B", …])`).
    pub fn command<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Command> {
        let mut outer = Command::new(process::binary()?);
        outer.args(["exec", self.sandbox.id(), &self.name, "--"]).args(command);
        Ok(outer)
    }

    /// Runs a program inside the VM to its end.
    pub fn exec<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<Output> {
        let mut command = self.command(command)?;
        command.stdin(Stdio::null()).output().doing(|| format!("run a program in {}", self.name))
    }

    /// Runs a program that must succeed, and returns what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<String> {
        let command: Vec<S> = command.into_iter().collect();
        let program = command.first().map(|program| program.as_ref().display().to_string()).unwrap_or_default();
        let output = self.exec(command)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(Error::Process {
                process: format!("{program} in {}", self.name),
                message: format!("{}: {}{}", output.status, text(&output.stdout), text(&output.stderr)),
            }),
        }
    }

    /// Writes a file inside the VM, making its directory if need be.
    pub fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        const SCRIPT: &str =
            r#"set -e; mkdir -p "$(dirname "$1")"; cat > "$1.new"; chmod "$2" "$1.new"; mv "$1.new" "$1""#;
        let doing = || format!("write {path} in {}", self.name);
        let mut command = self.command(["sh", "-c", SCRIPT, "sh", path, &format!("{mode:o}")])?;
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().doing(doing)?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(content));
        let output = child.wait_with_output().doing(doing)?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Process { process: doing(), message });
        }
        written.doing(doing)
    }

    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.exec(["cat", "--", path])?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => {
                let message = String::from_utf8_lossy(&output.stderr).into_owned();
                Err(Error::Process { process: format!("read {path} in {}", self.name), message })
            }
        }
    }

    /// Adds a service and starts it: from now on it is started again 100 ms after it ends. It logs to
    /// `/var/log/<name>.log` of the VM.
    pub fn add_service<S: Into<String>>(&self, name: &str, command: impl IntoIterator<Item = S>) -> Result<()> {
        let command = command.into_iter().map(Into::into).collect();
        self.add_service_spec(ServiceSpec { name: name.to_owned(), command, environment: BTreeMap::new() })
    }

    /// As [`Vm::add_service`], with an environment.
    pub fn add_service_spec(&self, spec: ServiceSpec) -> Result<()> {
        self.ask(&Request::Add(spec)).map(drop)
    }

    /// Starts a service that was stopped, or is about to be started again.
    pub fn start_service(&self, name: &str) -> Result<()> {
        self.ask(&Request::Start(name.to_owned())).map(drop)
    }

    /// Ends a service (SIGTERM, after 5 s SIGKILL) and returns when it has ended; it is not started again.
    pub fn stop_service(&self, name: &str) -> Result<()> {
        self.ask(&Request::Stop(name.to_owned())).map(drop)
    }

    /// Ends a service, if it runs, and starts it.
    pub fn restart_service(&self, name: &str) -> Result<()> {
        self.ask(&Request::Restart(name.to_owned())).map(drop)
    }

    /// Stops a service and forgets it.
    pub fn remove_service(&self, name: &str) -> Result<()> {
        self.ask(&Request::Remove(name.to_owned())).map(drop)
    }

    /// Sends a signal (such as 9) to the main process of a service.
    pub fn kill_service(&self, name: &str, signal: i32) -> Result<()> {
        self.ask(&Request::Kill { service: name.to_owned(), signal }).map(drop)
    }

    pub fn services(&self) -> Result<Vec<ServiceStatus>> {
        self.ask(&Request::Status)
    }

    /// What a service has logged since it was added.
    pub fn service_log(&self, name: &str) -> Result<String> {
        let log = self.read_file(&format!("/var/log/{name}.log"))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Kills every process but init, empties `/run` and `/tmp`, starts the services again. The network stays as it is.
    pub fn reboot(&self) -> Result<()> {
        self.ask(&Request::Reboot).map(drop)
    }

    /// Freezes the VM: no process runs, no packet comes or goes.
    pub fn suspend(&self) -> Result<()> {
        self.sandbox.update(|state| match std::mem::replace(&mut state.vm_mut(&self.name)?.suspended, true) {
            true => Err(Error::Conflict(format!("{} is suspended already", self.name))),
            false => Ok(()),
        })?;
        self.freezer().freeze(&self.init()?)
    }

    /// Lets a suspended VM go on, and returns its public address, if it has one.
    pub fn resume(&self, address: PublicAddress) -> Result<Option<Ipv4Addr>> {
        if !self.machine()?.suspended {
            return Err(Error::Conflict(format!("{} is not suspended", self.name)));
        }
        if address == PublicAddress::Change {
            self.readdress()?;
        }
        self.sandbox.update(|state| {
            state.vm_mut(&self.name)?.suspended = false;
            Ok(())
        })?;
        self.freezer().thaw(&self.init()?)?;
        Ok(self.machine()?.public_address())
    }

    /// Gives the VM another public address, which it never had before; flows under the old one end.
    pub fn readdress(&self) -> Result<Ipv4Addr> {
        let new = self.sandbox.update(|state| {
            let machine = state.vm(&self.name)?;
            if matches!(machine.place, Place::Internet { .. }) {
                let problem = "stands on the internet: its address is its interface's and does not change";
                return Err(Error::Conflict(format!("{} {problem}", self.name)));
            }
            let provider = provider_of(state, machine);
            let new = state.next_public_address(provider)?;
            match &mut state.vm_mut(&self.name)?.place {
                Place::Vpc { public_address: Some(address), .. } => *address = new,
                _ => return Err(self.lacks("public address")),
            }
            Ok(new)
        })?;
        self.forget_flows()?;
        Ok(new)
    }

    /// Changes how the VM reaches the internet; it keeps its public address if it has one and needs one.
    pub fn set_nat(&self, kind: NatKind) -> Result<()> {
        self.sandbox.update(|state| {
            let machine = state.vm(&self.name)?;
            let provider = provider_of(state, machine);
            let address = match (kind, machine.public_address()) {
                (NatKind::None, _) => None,
                (_, Some(address)) => Some(address),
                (_, None) => Some(state.next_public_address(provider)?),
            };
            match &mut state.vm_mut(&self.name)?.place {
                Place::Vpc { nat, public_address, .. } => (*nat, *public_address) = (kind, address),
                Place::Internet { .. } => return Err(Error::Conflict(format!("{} has no router", self.name))),
            }
            Ok(())
        })?;
        self.forget_flows()
    }

    /// Gives the VM a security group of its own, or with `None` its VPC's again. Flows that exist go on.
    pub fn set_security_group(&self, group: Option<SecurityGroup>) -> Result<()> {
        self.sandbox.update(|state| match &mut state.vm_mut(&self.name)?.place {
            Place::Vpc { security_group, .. } => {
                *security_group = group;
                Ok(())
            }
            Place::Internet { .. } => Err(Error::Conflict(format!("{} has no router to filter for it", self.name))),
        })
    }

    /// Runs a program inside the VM with the caller's streams; see [`enter`]. The caller must have a single thread.
    pub(crate) fn enter(&self, program: &enter::Program) -> Result<u8> {
        if self.machine()?.suspended {
            return Err(Error::Conflict(format!("{} is suspended", self.name)));
        }
        enter::run(&self.init()?, &self.freezer(), program)
    }

    fn forget_flows(&self) -> Result<()> {
        match self.machine()?.place {
            Place::Vpc { vpc, private_address, .. } => {
                namespace::forget_flows(&self.sandbox.router(&vpc)?, private_address)
            }
            Place::Internet { .. } => Ok(()),
        }
    }

    fn ask(&self, request: &Request) -> Result<Vec<ServiceStatus>> {
        if self.machine()?.suspended {
            return Err(Error::Conflict(format!("{} is suspended", self.name)));
        }
        ask_init(&self.sandbox.init_socket(&self.name), &self.name, request)
    }

    fn init(&self) -> Result<process::ProcessId> {
        self.sandbox.init(&self.name)
    }

    fn freezer(&self) -> Freezer {
        Freezer::of(self.sandbox.id(), &self.name)
    }

    fn lacks(&self, what: &str) -> Error {
        Error::Conflict(format!("{} has no {what}", self.name))
    }
}
