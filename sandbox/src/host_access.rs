//! The link between the host and a machine on the internet: a cable with a /30 that nothing else on the host uses.
//!
//! The host gets one interface with one address, and so one connected route; nothing else of its network is touched.

use std::fs::File;

use ipnet::{IpNet, Ipv4Net};
use nix::net::if_::if_nametoindex;

use crate::directory::Directory;
use crate::error::{Doing, Result};
use crate::namespace;
use crate::netlink::CableEnd;
use crate::router::HOST_INTERFACE;
use crate::state::{Place, State, host_access_candidates};

/// Chooses the /30s of a new sandbox and records them, so that another one chooses others.
pub(crate) fn choose(directory: &Directory, state: &mut State) -> Result<()> {
    let _turn = Directory::lock_root()?;
    let mut taken = namespace::configure(&own_namespace()?, async |links| links.prefixes_in_use().await)?;
    for id in Directory::all()? {
        if let Ok(other) = Directory::of(&id).load() {
            taken.extend(networks(&other).map(IpNet::V4));
        }
    }
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    state.choose_host_access(|network| !taken.iter().any(|prefix| overlaps(prefix, &IpNet::V4(*network))))?;
    directory.save(state)
}

/// Lays the cable to one machine.
pub(crate) fn connect(network: Ipv4Net, machine: &File) -> Result<()> {
    let (name, host) = (interface(network), own_namespace()?);
    let end = CableEnd { name: HOST_INTERFACE, namespace: machine, mac_address: None };
    let [host_address, machine_address] = addresses(network);
    // Nobody else is on the cable. An address that is probed first is another one a moment later, and a browser on the
    // machine drops its connections then.
    namespace::set_sysctls(machine, &[("ipv6/conf/default/accept_dad", "0")])?;
    namespace::configure(&host, async |links| {
        links.add_cable(&name, &end).await?;
        links.set_up(&name).await?;
        links.add_address(&name, host_address.into(), 30).await
    })?;
    namespace::configure(machine, async |links| {
        links.set_up(HOST_INTERFACE).await?;
        links.add_address(HOST_INTERFACE, machine_address.into(), 30).await
    })
}

/// Removes the host's interfaces of a sandbox, those that exist.
pub(crate) fn disconnect(state: &State) -> Result<()> {
    for network in networks(state) {
        let name = interface(network);
        if is_here(&name) {
            let deleted = namespace::configure(&own_namespace()?, async |links| links.delete(&name).await);
            // The kernel removes it by itself once the other end's namespace is gone, perhaps just now.
            if is_here(&name) {
                deleted?;
            }
        }
    }
    Ok(())
}

/// Asks the kernel, not `/sys`, which may show another namespace than the caller's.
fn is_here(interface: &str) -> bool {
    if_nametoindex(interface).is_ok()
}

/// The host's and the machine's address.
pub(crate) fn addresses(network: Ipv4Net) -> [std::net::Ipv4Addr; 2] {
    let base = u32::from(network.network());
    [(base + 1).into(), (base + 2).into()]
}

fn networks(state: &State) -> impl Iterator<Item = Ipv4Net> {
    state.vms.values().filter_map(|vm| match vm.place {
        Place::Internet { host_access, .. } => host_access,
        Place::Vpc { .. } => None,
    })
}

/// As unique on the host as the /30 that it is named by.
fn interface(network: Ipv4Net) -> String {
    let index = host_access_candidates().position(|candidate| candidate == network).unwrap_or_default();
    format!("cladnet-sb{index}")
}

fn own_namespace() -> Result<File> {
    File::open("/proc/thread-self/ns/net").doing(|| "open the host's network namespace".into())
}
