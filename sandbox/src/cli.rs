//! The command line: its words, and which function of the library each calls.

mod arguments;
pub(crate) mod init;
mod show;

use std::ffi::OsString;

use anyhow::{Context as _, Result};
use cladnet_sandbox::internal::{self, Role};
use cladnet_sandbox::{BlockedPath, Direction, PublicAddress, Sandbox, SecurityGroup, ServiceSpec, Topology, VmSpec};

pub(crate) use arguments::Arguments;
use arguments::{
    Block, CaptureAction, Command, Create, DiskAction, Link, PathChoice, Process, ProcessRole, SecurityGroupChange,
    ServiceAction,
};

/// Does what was asked and returns the exit code.
pub(crate) fn run(arguments: Arguments) -> Result<u8> {
    match arguments.command {
        Command::Exec { id, vm, environment, command } => return enter(&id, &vm, environment, command),
        Command::Enter { id, vm } => {
            let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
            return enter(&id, &vm, Vec::new(), vec![shell]);
        }
        Command::Process(process) => become_process(process)?,
        Command::Create(create) => self::create(&create)?,
        Command::Destroy { id } => destroy(&id)?,
        Command::List => Sandbox::list()?.iter().for_each(|id| println!("{id}")),
        Command::Show { id, output } => show::show(&Sandbox::open(&id)?, output)?,
        Command::AddVm { id, vm, vpc, subnet } => {
            let sandbox = Sandbox::open(&id)?;
            println!("{}", sandbox.add_vm(&VmSpec::new(vm, vpc, subnet))?.public_address()?);
        }
        Command::RemoveVm { id, vm } => Sandbox::open(&id)?.remove_vm(&vm)?,
        Command::Suspend { id, vm } => Sandbox::open(&id)?.vm(&vm)?.suspend()?,
        Command::Resume { id, vm, new_public_ip } => {
            let address = if new_public_ip { PublicAddress::Change } else { PublicAddress::Keep };
            if let Some(address) = Sandbox::open(&id)?.vm(&vm)?.resume(address)? {
                println!("{address}");
            }
        }
        Command::Readdress { id, vm } => println!("{}", Sandbox::open(&id)?.vm(&vm)?.readdress()?),
        Command::Reboot { id, vm } => Sandbox::open(&id)?.vm(&vm)?.reboot()?,
        Command::Nat { id, vm, kind } => Sandbox::open(&id)?.vm(&vm)?.set_nat(kind.into())?,
        Command::Link(link) => self::link(&link)?,
        Command::Block(block) => self::block(&block, Sandbox::block)?,
        Command::Unblock(block) => self::block(&block, Sandbox::unblock)?,
        Command::Capture { id, action } => capture(&Sandbox::open(&id)?, action)?,
        Command::SecurityGroup(change) => security_group(change)?,
        Command::Service { id, vm, action } => service(&Sandbox::open(&id)?, &vm, action)?,
        Command::TcpFault { id, vm, port, fault } => {
            Sandbox::open(&id)?.vm(&vm)?.set_tcp_fault(port, fault.into())?;
        }
        Command::Disk { id, vm, action: DiskAction::Fill } => Sandbox::open(&id)?.vm(&vm)?.fill_disk()?,
        Command::Disk { id, vm, action: DiskAction::Free } => Sandbox::open(&id)?.vm(&vm)?.free_disk()?,
        Command::SshHostKey { id, vm, replace } => {
            let sandbox = Sandbox::open(&id)?;
            let vm = sandbox.vm(&vm)?;
            println!("{}", if replace { vm.replace_ssh_host_key()? } else { vm.ssh_host_key()? });
        }
        Command::CountWire { id, vm } => Sandbox::open(&id)?.vm(&vm)?.count_wire()?,
        Command::WireCounts { id, vm } => show::wire_counts(&Sandbox::open(&id)?.vm(&vm)?.wire_counts()?),
        Command::Statistics { id } => show::statistics(&Sandbox::open(&id)?)?,
    }
    Ok(0)
}

fn create(create: &Create) -> Result<()> {
    let topology = match &create.file {
        Some(path) => Topology::read(path).with_context(|| path.display().to_string())?,
        None if create.regions => Topology::regions(),
        None => Topology::demo(),
    };
    let sandbox = match &create.id {
        Some(id) => Sandbox::create_as(id, &topology)?,
        None => Sandbox::create(&topology)?,
    };
    println!("{}", sandbox.id());
    Ok(())
}

/// Destroying what is not there is no error, whether it was there once or not.
fn destroy(id: &str) -> Result<()> {
    match Sandbox::open(id) {
        Err(cladnet_sandbox::Error::NoSandbox(_)) => Ok(()),
        sandbox => Ok(sandbox?.destroy()?),
    }
}

fn enter(id: &str, vm: &str, environment: Vec<(String, String)>, command: Vec<OsString>) -> Result<u8> {
    Ok(internal::enter(&Sandbox::open(id)?.vm(vm)?, command, environment)?)
}

fn become_process(process: Process) -> Result<()> {
    let role = match process.role {
        ProcessRole::Wan => Role::Wan,
        ProcessRole::Router => Role::Router,
        ProcessRole::Metadata => Role::Metadata,
        ProcessRole::Vm => Role::Vm { name: process.vm.unwrap_or_default() },
    };
    Ok(internal::become_process(&process.id, &process.name, role)?)
}

fn link(link: &Link) -> Result<()> {
    let sandbox = Sandbox::open(&link.id)?;
    let mut quality = sandbox.link(&link.a, &link.b)?;
    quality.delay_ms = link.delay_ms.unwrap_or(quality.delay_ms);
    quality.jitter_ms = link.jitter_ms.unwrap_or(quality.jitter_ms);
    quality.loss_percent = link.loss_percent.unwrap_or(quality.loss_percent);
    quality.blackhole = link.blackhole;
    match link.one_way {
        true => Ok(sandbox.set_link_one_way(&link.a, &link.b, quality)?),
        false => Ok(sandbox.set_link(&link.a, &link.b, quality)?),
    }
}

type Change = fn(&Sandbox, &str, &str, BlockedPath, Direction) -> cladnet_sandbox::Result<()>;

fn block(block: &Block, change: Change) -> Result<()> {
    let sandbox = Sandbox::open(&block.id)?;
    let direction = if block.one_way { Direction::OneWay } else { Direction::BothWays };
    let change = |path| change(&sandbox, &block.from, &block.to, path, direction);
    match block.path {
        PathChoice::Private => change(BlockedPath::Private)?,
        PathChoice::Public => change(BlockedPath::Public)?,
        PathChoice::All => {
            change(BlockedPath::Public)?;
            // Most pairs have no private path, and then there is none to block.
            match change(BlockedPath::Private) {
                Err(cladnet_sandbox::Error::Conflict(_)) => {}
                changed => changed?,
            }
        }
    }
    Ok(())
}

fn capture(sandbox: &Sandbox, action: CaptureAction) -> Result<()> {
    match action {
        CaptureAction::Start { file } => sandbox.start_capture(&file)?,
        CaptureAction::Stop => sandbox.stop_capture()?,
    }
    Ok(())
}

fn security_group(change: SecurityGroupChange) -> Result<()> {
    let sandbox = Sandbox::open(&change.id)?;
    let SecurityGroupChange { name, tcp, udp, icmp, inherit, .. } = change;
    let group = SecurityGroup { tcp, udp, icmp };
    if sandbox.state()?.routers.contains_key(&name) {
        anyhow::ensure!(!inherit, "{name} is a VPC and has nothing to inherit from");
        return Ok(sandbox.set_security_group(&name, group)?);
    }
    Ok(sandbox.vm(&name)?.set_security_group((!inherit).then_some(group))?)
}

fn service(sandbox: &Sandbox, vm: &str, action: ServiceAction) -> Result<()> {
    let vm = sandbox.vm(vm)?;
    match action {
        ServiceAction::Add { name, environment, command } => {
            let environment = environment.into_iter().collect();
            vm.add_service_spec(ServiceSpec { name, command, environment })?;
        }
        ServiceAction::Start { name } => vm.start_service(&name)?,
        ServiceAction::Stop { name } => vm.stop_service(&name)?,
        ServiceAction::Restart { name } => vm.restart_service(&name)?,
        ServiceAction::Remove { name } => vm.remove_service(&name)?,
        ServiceAction::Kill { name, signal } => vm.kill_service(&name, signal)?,
        ServiceAction::Log { name } => print!("{}", vm.service_log(&name)?),
        ServiceAction::Status => show::services(&vm.services()?),
    }
    Ok(())
}
