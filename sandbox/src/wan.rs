//! The internet of a sandbox: one process that holds a TUN in every router and every machine on the internet, and carries
//! packets between them with delay, jitter and loss.
//!
//! It is told what to be, whole, in one [`Configuration`] that follows from the record alone ([`Configuration::of`]); it
//! keeps the TUNs that stay. Two threads: one carries packets ([`fabric`]), one answers the socket ([`control`]).

mod capture;
mod control;
mod fabric;
mod packet;
mod pipe;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use nix::sched::CloneFlags;
use serde::{Deserialize, Serialize};

pub use fabric::Statistics;

use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::guest::protocol::ask;
use crate::process;
use crate::router::VM_INTERFACE;
use crate::rules::WAN;
use crate::state::{Place, State};
use crate::topology::LinkQuality;

/// The name under which the process is recorded.
pub(crate) const PROCESS_NAME: &str = "wan";

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Everything the WAN is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Configuration {
    attachments: Vec<Attachment>,
    /// Quality from every site to every site, itself included.
    links: Vec<(String, String, LinkQuality)>,
    /// Source and destination of packets that disappear.
    blocks: Vec<(IpAddr, IpAddr)>,
    capture: Option<PathBuf>,
}

/// A router or a machine on the WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Attachment {
    name: String,
    /// A process in its network namespace.
    pid: i32,
    interface: String,
    site: String,
    /// What is behind it: it may send from these only, and gets what is sent to these.
    prefixes: Vec<IpNet>,
    /// Suspended: nothing comes or goes.
    silent: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Configure(Configuration),
    Statistics,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Response {
    Statistics(Statistics),
    Error(String),
}

impl Configuration {
    /// What the WAN must be for a record; `processes` names a process in the namespace of each router and machine.
    pub(crate) fn of(state: &State, processes: &BTreeMap<String, i32>) -> Self {
        let sites = state.topology.sites();
        let pairs = sites.iter().flat_map(|from| sites.iter().map(move |to| (from, to)));
        Self {
            attachments: routers(state, processes).chain(machines(state, processes)).collect(),
            links: pairs.map(|(from, to)| (from.clone(), to.clone(), state.link(from, to))).collect(),
            blocks: blocks(state),
            capture: state.capture.as_ref().map(PathBuf::from),
        }
    }
}

/// The name of a router among the sandbox's processes.
pub(crate) fn router_process(vpc: &str) -> String {
    format!("router-{vpc}")
}

fn routers(state: &State, processes: &BTreeMap<String, i32>) -> impl Iterator<Item = Attachment> {
    state.topology.vpcs.iter().filter_map(|vpc| {
        let name = router_process(&vpc.name);
        let vms = state.vms_of(&vpc.name).filter_map(|(_, vm)| vm.public_address());
        let addresses = vms.chain([state.routers[&vpc.name].public_address]).map(|address| IpAddr::V4(address).into());
        let prefixes = addresses.chain(vpc.ipv6.map(IpNet::V6)).collect();
        let pid = *processes.get(&name)?;
        Some(Attachment { name, pid, interface: WAN.into(), site: vpc.site(), prefixes, silent: false })
    })
}

fn machines(state: &State, processes: &BTreeMap<String, i32>) -> impl Iterator<Item = Attachment> {
    state.vms.iter().filter_map(|(name, vm)| {
        let Place::Internet { site, .. } = &vm.place else { return None };
        let name = crate::guest::process_name(name);
        let prefixes = vm.public_addresses().into_iter().map(IpNet::from).collect();
        let pid = *processes.get(&name)?;
        let (interface, site) = (VM_INTERFACE.to_owned(), site.clone());
        Some(Attachment { name, pid, interface, site, prefixes, silent: vm.suspended })
    })
}

/// Black holes for machines that have no router to make them.
fn blocks(state: &State) -> Vec<(IpAddr, IpAddr)> {
    let pairs = state.blocks.iter().filter_map(|block| Some((state.vms.get(&block.from)?, state.vms.get(&block.to)?)));
    let pairs = pairs.filter(|(from, _)| matches!(from.place, Place::Internet { .. }));
    pairs
        .flat_map(|(from, to)| {
            let to = to.public_addresses();
            from.public_addresses().into_iter().flat_map(move |source| to.clone().into_iter().map(move |d| (source, d)))
        })
        .collect()
}

/// Makes a running WAN be what a configuration says.
pub(crate) fn configure(directory: &Directory, configuration: Configuration) -> Result<()> {
    request(directory, &Request::Configure(configuration)).map(drop)
}

/// What the WAN has carried and dropped.
pub(crate) fn statistics(directory: &Directory) -> Result<Statistics> {
    request(directory, &Request::Statistics)
}

fn request(directory: &Directory, request: &Request) -> Result<Statistics> {
    match ask(&directory.wan_socket(), request, ANSWER_WITHIN)? {
        Response::Statistics(statistics) => Ok(statistics),
        Response::Error(message) => Err(Error::Process { process: PROCESS_NAME.into(), message }),
    }
}

/// Becomes the WAN's process. Returns only when it cannot go on.
pub(crate) fn run(directory: &Directory, name: &str) -> Result<()> {
    let readiness = process::detach(directory, name, CloneFlags::empty())?;
    match control::listen(directory) {
        Ok(fabric) => {
            // Without the precedence it works, less exactly.
            let _ = crate::syscall::prefer_this_thread();
            readiness.ready()?;
            fabric.run()
        }
        Err(error) => {
            readiness.failed(&error);
            Err(error)
        }
    }
}
