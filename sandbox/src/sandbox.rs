//! A sandbox as a whole: made, found, changed, destroyed.

mod machines;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::freezer::Freezer;
use crate::guest;
use crate::process::{self, ProcessId};
use crate::state::{Block, BlockedPath, Place, State};
use crate::topology::{LinkQuality, SecurityGroup, Topology, check_id};
use crate::vm::Vm;
use crate::wan::{self, Statistics, router_process};
use crate::{host_access, namespace, router, rules};

/// How long killed processes may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A handle to a sandbox. Dropping it changes nothing: a sandbox lives until it is destroyed, whoever made it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    id: String,
    directory: Directory,
}

/// A sandbox that is destroyed when this is dropped; for tests.
#[derive(Debug)]
pub struct TemporarySandbox(Sandbox);

/// One way or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    OneWay,
    BothWays,
}

impl Sandbox {
    /// Makes a sandbox with an id of its own.
    pub fn create(topology: &Topology) -> Result<Self> {
        Self::create_as(&format!("{:08x}", rand::random::<u32>()), topology)
    }

    /// Makes a sandbox with the given id (`[a-z0-9-]`, at most 24 characters); if that fails, nothing of it stays.
    pub fn create_as(id: &str, topology: &Topology) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        check_id(id)?;
        topology.validate()?;
        guest::ssh::check_programs(topology.ssh_servers())?;
        let directory = Directory::of(id);
        directory.create()?;
        let sandbox = Self { id: id.to_owned(), directory };
        match sandbox.build(topology) {
            Ok(()) => Ok(sandbox),
            Err(error) => {
                // What went wrong first is what the caller must hear.
                let _ = sandbox.destroy();
                Err(error)
            }
        }
    }

    /// Finds a sandbox that was made before.
    pub fn open(id: &str) -> Result<Self> {
        check_id(id)?;
        let sandbox = Self { id: id.to_owned(), directory: Directory::of(id) };
        match sandbox.directory.exists() {
            true => Ok(sandbox),
            false => Err(Error::NoSandbox(id.to_owned())),
        }
    }

    /// The ids of all sandboxes on this machine, those included whose making or destroying was cut short.
    pub fn list() -> Result<Vec<String>> {
        Directory::all()
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Destroys the sandbox when the returned value is dropped.
    pub fn destroy_on_drop(self) -> TemporarySandbox {
        TemporarySandbox(self)
    }

    /// What is known of the sandbox now.
    pub fn state(&self) -> Result<State> {
        self.directory.load()
    }

    /// The directory with its logs (`log/`); for people who look for a cause.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A VM or a machine on the internet.
    pub fn vm(&self, name: &str) -> Result<Vm<'_>> {
        self.state()?.vm(name)?;
        Ok(Vm::new(self, name))
    }

    /// All VMs and machines on the internet, by name.
    pub fn vms(&self) -> Result<Vec<Vm<'_>>> {
        Ok(self.state()?.vms.keys().map(|name| Vm::new(self, name)).collect())
    }

    /// Changes how two sites (`provider/region`) are joined, both ways alike.
    pub fn set_link(&self, a: &str, b: &str, quality: LinkQuality) -> Result<()> {
        self.set_links(&[(a, b), (b, a)], quality)
    }

    /// Changes how one site's packets reach another; the way back stays as it is.
    pub fn set_link_one_way(&self, from: &str, to: &str, quality: LinkQuality) -> Result<()> {
        self.set_links(&[(from, to)], quality)
    }

    fn set_links(&self, links: &[(&str, &str)], quality: LinkQuality) -> Result<()> {
        quality.validate("link")?;
        self.update(|state| {
            let sites = state.topology.sites();
            for site in links.iter().flat_map(|(from, to)| [*from, *to]) {
                if !sites.iter().any(|known| known == site) {
                    let (sandbox, known) = (state.id.clone(), sites.join(", "));
                    return Err(Error::NotFound { sandbox, kind: "site", name: site.into(), known });
                }
            }
            for (from, to) in links {
                state.set_link(from, to, quality);
            }
            Ok(())
        })
    }

    /// How one site's packets reach another now.
    pub fn link(&self, from: &str, to: &str) -> Result<LinkQuality> {
        Ok(self.state()?.link(from, to))
    }

    /// Makes what one machine sends to another's private or public addresses disappear.
    pub fn block(&self, from: &str, to: &str, path: BlockedPath, direction: Direction) -> Result<()> {
        self.update(|state| {
            for block in blocks(from, to, path, direction) {
                state.check_block(&block)?;
                state.blocks.insert(block);
            }
            Ok(())
        })
    }

    /// Ends what [`Sandbox::block`] began.
    pub fn unblock(&self, from: &str, to: &str, path: BlockedPath, direction: Direction) -> Result<()> {
        self.update(|state| {
            for block in blocks(from, to, path, direction) {
                state.blocks.remove(&block);
            }
            Ok(())
        })
    }

    /// Replaces the security group of a VPC, which holds for its VMs without a group of their own.
    pub fn set_security_group(&self, vpc: &str, group: SecurityGroup) -> Result<()> {
        self.update(|state| {
            let (sandbox, known) = (state.id.clone(), state.routers.keys().cloned().collect::<Vec<_>>().join(", "));
            let missing = Error::NotFound { sandbox, kind: "VPC", name: vpc.into(), known };
            state.routers.get_mut(vpc).ok_or(missing)?.security_group = group;
            Ok(())
        })
    }

    /// Writes everything that enters the WAN from now on to a pcap file, replacing it.
    pub fn start_capture(&self, file: &Path) -> Result<()> {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        self.update(|state| {
            if let Some(running) = &state.capture {
                return Err(Error::Conflict(format!("a capture to {running} is running; stop it first")));
            }
            state.capture = Some(file.display().to_string());
            Ok(())
        })
    }

    /// Ends the capture; its file is complete when this returns.
    pub fn stop_capture(&self) -> Result<()> {
        self.update(|state| {
            state.capture = None;
            Ok(())
        })
    }

    /// What the WAN has carried and dropped since the sandbox was made.
    pub fn wan_statistics(&self) -> Result<Statistics> {
        wan::statistics(&self.directory)
    }

    /// Ends and removes everything of the sandbox; also of one that was never finished. Doing it twice is no error.
    ///
    /// Afterwards the machine is as it was before, process table included where its init collects orphans in time.
    pub fn destroy(&self) -> Result<()> {
        process::await_collection(&self.end()?);
        Ok(())
    }

    /// Ends and removes everything, and returns the processes that were ended.
    fn end(&self) -> Result<Vec<ProcessId>> {
        let _turn = match self.directory.lock() {
            Err(Error::NoSandbox(_)) => return Ok(Vec::new()),
            turn => turn?,
        };
        let state = self.directory.load().ok();
        if let Some(state) = &state {
            host_access::disconnect(state)?;
        }
        let deadline = Instant::now() + END_WITHIN;
        let mut ended = Vec::new();
        loop {
            let processes = self.directory.processes();
            for process in &processes {
                process.signal(nix::sys::signal::Signal::SIGKILL);
            }
            for name in state.iter().flat_map(|state| state.vms.keys()) {
                Freezer::of(&self.id, name).remove(self.init(name).ok().as_ref())?;
            }
            process::end(&processes, END_WITHIN)?;
            ended.extend(processes);
            match self.directory.remove() {
                // What a maker had started just before it was killed may still have been writing.
                Err(Error::Io { source, .. })
                    if source.kind() == io::ErrorKind::DirectoryNotEmpty && Instant::now() < deadline => {}
                removed => return removed.map(|()| ended),
            }
        }
    }

    fn build(&self, topology: &Topology) -> Result<()> {
        let _turn = self.directory.lock()?;
        let mut state = State::plan(&self.id, topology, random_machine_id)?;
        host_access::choose(&self.directory, &mut state)?;
        process::start(&self.directory, "wan", wan::PROCESS_NAME, &[])?;
        for vpc in state.routers.keys() {
            process::start(&self.directory, "router", &router_process(vpc), &[])?;
        }
        for name in state.vms.keys() {
            self.start_vm(name)?;
        }
        self.configure_wan(&state)?;
        self.wire(&state)?;
        for vpc in state.routers.keys() {
            namespace::apply_rules(&self.router(vpc)?, &rules::ruleset(&state, vpc))?;
        }
        process::start(&self.directory, "metadata", crate::metadata::PROCESS_NAME, &[])?;
        state.vms.iter().try_for_each(|(name, vm)| self.await_ssh(name, vm))
    }

    fn wire(&self, state: &State) -> Result<()> {
        for vpc in &state.topology.vpcs {
            router::build(&self.router(&vpc.name)?, vpc, &state.routers[&vpc.name])?;
        }
        for (index, peering) in state.topology.peerings.iter().enumerate() {
            let vpc = |name: &str| state.topology.vpc(name).expect("the topology is valid");
            let (a, b) = (self.router(&peering.0)?, self.router(&peering.1)?);
            router::peer(index, [(vpc(&peering.0), &a), (vpc(&peering.1), &b)])?;
        }
        state.vms.keys().try_for_each(|name| self.wire_vm(state, name))
    }

    /// Changes the record, then makes routers and WAN follow it.
    pub(crate) fn update<T>(&self, edit: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let _turn = self.directory.lock()?;
        let before = self.directory.load()?;
        let mut state = before.clone();
        let result = edit(&mut state)?;
        self.apply(&before, &state)?;
        Ok(result)
    }

    /// Makes the record, the routers and the WAN follow a change.
    fn apply(&self, before: &State, after: &State) -> Result<()> {
        self.directory.save(after)?;
        for vpc in after.routers.keys() {
            let ruleset = rules::ruleset(after, vpc);
            if ruleset != rules::ruleset(before, vpc) {
                namespace::apply_rules(&self.router(vpc)?, &ruleset)?;
            }
        }
        for (name, vm) in &after.vms {
            let faults = rules::tcp_faults::ruleset(vm);
            if before.vms.get(name).is_some_and(|vm| rules::tcp_faults::ruleset(vm) != faults) {
                namespace::apply_rules(&self.init(name)?.namespace("net")?, &faults)?;
            }
        }
        if let Err(error) = self.configure_wan(after) {
            self.directory.save(before)?;
            return Err(error);
        }
        Ok(())
    }

    fn configure_wan(&self, state: &State) -> Result<()> {
        let vms = state.vms.keys().map(|name| guest::process_name(name));
        let names = vms.chain(state.routers.keys().map(|vpc| router_process(vpc)));
        let processes: BTreeMap<String, i32> = names
            .map(|name| self.directory.process(&name).map(|process| (name, process.pid)))
            .collect::<Result<_>>()?;
        wan::configure(&self.directory, wan::Configuration::of(state, &processes))
    }

    pub(crate) fn router(&self, vpc: &str) -> Result<File> {
        self.directory.process(&router_process(vpc))?.namespace("net")
    }

    pub(crate) fn init(&self, vm: &str) -> Result<ProcessId> {
        self.directory.process(&guest::process_name(vm))
    }

    pub(crate) fn init_socket(&self, vm: &str) -> std::path::PathBuf {
        self.directory.init_socket(vm)
    }
}

impl State {
    fn check_block(&self, block: &Block) -> Result<()> {
        let (from, to) = (self.vm(&block.from)?, self.vm(&block.to)?);
        if block.from == block.to {
            return Err(Error::Conflict(format!("{} cannot be cut off from itself", block.from)));
        }
        let peered = match (&from.place, &to.place) {
            (Place::Vpc { vpc: a, .. }, Place::Vpc { vpc: b, .. }) => {
                a == b || self.peerings_of(a).any(|(_, _, other)| other.name == *b)
            }
            _ => false,
        };
        match block.path {
            BlockedPath::Private if !peered => {
                Err(Error::Conflict(format!("there is no private path from {} to {}", block.from, block.to)))
            }
            BlockedPath::Private | BlockedPath::Public => Ok(()),
        }
    }
}

fn random_machine_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn blocks(from: &str, to: &str, path: BlockedPath, direction: Direction) -> Vec<Block> {
    let block = |from: &str, to: &str| Block { from: from.to_owned(), to: to.to_owned(), path };
    match direction {
        Direction::OneWay => vec![block(from, to)],
        Direction::BothWays => vec![block(from, to), block(to, from)],
    }
}

impl Deref for TemporarySandbox {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

impl Drop for TemporarySandbox {
    fn drop(&mut self) {
        if let Err(error) = self.0.end() {
            eprintln!("sandbox {} was not destroyed: {}", self.0.id, process::describe(&error));
        }
    }
}
