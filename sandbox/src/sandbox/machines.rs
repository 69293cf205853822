//! The machines of a sandbox: started, wired, and, those in VPCs, added and removed while it runs.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::{END_WITHIN, Sandbox, random_machine_id};
use crate::error::{Doing, Result};
use crate::freezer::Freezer;
use crate::state::{Machine, Place, State};
use crate::topology::VmSpec;
use crate::vm::Vm;
use crate::{guest, host_access, namespace, process, router};

/// How long an SSH server may take to listen.
const LISTEN_WITHIN: Duration = Duration::from_secs(20);

impl Sandbox {
    /// Adds a VM to a VPC of the sandbox; if that fails, nothing of it stays.
    pub fn add_vm(&self, spec: &VmSpec) -> Result<Vm<'_>> {
        let _turn = self.directory.lock()?;
        let before = self.directory.load()?;
        let mut after = before.clone();
        after.topology.vms.push(spec.clone());
        after.topology.validate()?;
        guest::ssh::check_programs(after.topology.ssh_servers())?;
        after.plan_vm(spec, random_machine_id())?;
        self.directory.save(&after)?;
        let made = self
            .start_vm(&spec.name)
            .and_then(|()| self.wire_vm(&after, &spec.name))
            .and_then(|()| self.apply(&before, &after))
            .and_then(|()| self.await_ssh(&spec.name, &after.vms[&spec.name]));
        if let Err(error) = made {
            // What went wrong first is what the caller must hear.
            let _ = self.directory.save(&before);
            let _ = self.end_vm(&spec.name, &after.vms[&spec.name]);
            return Err(error);
        }
        Ok(Vm::new(self, &spec.name))
    }

    /// Ends a VM of a VPC and forgets it, its disk included.
    pub fn remove_vm(&self, name: &str) -> Result<()> {
        let _turn = self.directory.lock()?;
        let before = self.directory.load()?;
        let mut after = before.clone();
        after.remove_vm(name)?;
        self.apply(&before, &after)?;
        self.end_vm(name, &before.vms[name])
    }

    pub(super) fn start_vm(&self, name: &str) -> Result<()> {
        let disk = self.directory.vm(name).join("disk");
        fs::create_dir_all(&disk).doing(|| format!("make {}", disk.display()))?;
        let init = process::start(&self.directory, "vm", &guest::process_name(name), &[name])?;
        Freezer::create(&self.id, name, &init);
        Ok(())
    }

    pub(super) fn wire_vm(&self, state: &State, name: &str) -> Result<()> {
        let vm = state.vm(name)?;
        let vm_namespace = self.init(name)?.namespace("net")?;
        match &vm.place {
            Place::Vpc { vpc, .. } => router::attach(state, &self.router(vpc)?, vm, &vm_namespace),
            Place::Internet { public_address, host_access, .. } => {
                namespace::configure(&vm_namespace, async |links| {
                    links.set_up("lo").await?;
                    router::join_wan(links, router::VM_INTERFACE, *public_address).await?;
                    if let Some(address) = vm.ipv6_address {
                        links.add_address(router::VM_INTERFACE, address.into(), 128).await?;
                        links.add_route(router::EVERYTHING_V6, router::VM_INTERFACE, None).await?;
                    }
                    Ok(())
                })?;
                match host_access {
                    Some(network) => host_access::connect(*network, &vm_namespace),
                    None => Ok(()),
                }
            }
        }
    }

    /// Waits until the SSH server listens, on a machine that has one.
    pub(crate) fn await_ssh(&self, name: &str, vm: &Machine) -> Result<()> {
        if vm.ssh.is_none() {
            return Ok(());
        }
        let what = format!("the SSH server of {name}; see /var/log/{}.log in it: it", guest::ssh::SERVICE);
        namespace::inside(&self.init(name)?.namespace("net")?, || {
            process::wait_until(&what, LISTEN_WITHIN, || TcpStream::connect((Ipv4Addr::LOCALHOST, 22)).is_ok())
        })
    }

    /// Ends the processes of a VM that is no longer in the record, or never got there, and removes what it had.
    fn end_vm(&self, name: &str, vm: &Machine) -> Result<()> {
        let init = self.init(name).ok();
        if let Some(init) = &init {
            init.signal(nix::sys::signal::Signal::SIGKILL);
        }
        Freezer::of(&self.id, name).remove(init.as_ref())?;
        process::end(init.as_slice(), END_WITHIN)?;
        if let Place::Vpc { vpc, private_address, .. } = &vm.place {
            let router = self.router(vpc)?;
            // The cable goes with the VM's namespace too, but only some time later.
            let _ = namespace::configure(&router, async |links| links.delete(&vm.port()).await);
            namespace::forget_flows(&router, *private_address)?;
        }
        self.directory.forget_process(&guest::process_name(name))?;
        let directory = self.directory.vm(name);
        fs::remove_dir_all(&directory).doing(|| format!("remove {}", directory.display()))
    }
}
