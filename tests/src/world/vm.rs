//! What stories do on VMs: start agents, join, ping, and look at what the agent says.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{AGENT, World, servers::install};
use crate::wait::eventually;

/// How long a mesh may take to stand; a figure for failing, not a target.
const MESH: Duration = Duration::from_secs(30);
/// How long one packet and its answer may be on their way, when there is one; a figure for failing.
const LONGEST_WAY: Duration = Duration::from_secs(10);
/// After which a ping is sent again, where one may be lost.
const AGAIN: Duration = Duration::from_secs(1);

impl World {
    /// Installs the agent on a VM and starts it as a service; it waits there for a `join`.
    pub fn start_agent(&self, vm: &str) -> Result<()> {
        self.install(vm, "cladnet-agent")?;
        self.vm(vm)?.add_service(AGENT, ["/usr/local/bin/cladnet-agent", "run"])?;
        self.wait_agent(vm)
    }

    /// Copies a binary of this project into a VM.
    pub fn install(&self, vm: &str, binary: &str) -> Result<()> {
        install(&self.vm(vm)?, binary)
    }

    /// Waits until the agent of a VM answers.
    pub fn wait_agent(&self, vm: &str) -> Result<()> {
        let vm = self.vm(vm)?;
        eventually("the agent's daemon", MESH, || Ok(vm.run(["cladnet-agent", "status"])?)).map(drop)
    }

    /// Waits until the agent of a VM has a stream to the service, and the service takes it for online.
    pub fn wait_online(&self, network: &str, vm: &str) -> Result<()> {
        eventually("the agent to be online", MESH, || {
            let service = &self.agent(vm, ["status"])?["service"];
            ensure!(service["state"] == "connected", "{vm} says {service}");
            let peers = self.admin().json(["peer", "list", network])?;
            let peer = peers["peers"].as_array().into_iter().flatten().find(|peer| peer["hostName"] == vm);
            ensure!(peer.is_some_and(|peer| peer["online"] == true), "the service says {peers}");
            Ok(())
        })
    }

    /// A fresh one-time token of a network.
    pub fn token(&self, network: &str) -> Result<String> {
        let answer = self.admin().json(["token", "create", network])?;
        Ok(answer["secret"].as_str().context("the answer holds no secret")?.to_owned())
    }

    /// Joins a VM whose agent runs, through the first replica, and returns how long the command took.
    pub fn join(&self, vm: &str, network: &str) -> Result<Duration> {
        self.join_at(vm, network, 0)
    }

    /// Joins a VM through a certain replica.
    pub fn join_at(&self, vm: &str, network: &str, replica: u16) -> Result<Duration> {
        let token = self.token(network)?;
        let url = self.service_url(replica)?;
        let begin = Instant::now();
        self.vm(vm)?.run(["cladnet-agent", "join", &url, &token]).with_context(|| format!("{vm} could not join"))?;
        Ok(begin.elapsed())
    }

    /// Starts agents on VMs and joins them to a network.
    pub fn join_all(&self, vms: &[&str], network: &str) -> Result<()> {
        for vm in vms {
            self.start_agent(vm)?;
            self.join(vm, network)?;
        }
        Ok(())
    }

    /// Overlay addresses of a network by host name, as the admin sees them.
    pub fn addresses(&self, network: &str) -> Result<BTreeMap<String, Ipv4Addr>> {
        let answer = self.admin().json(["peer", "list", network])?;
        let peers = answer["peers"].as_array().cloned().unwrap_or_default();
        let named = peers.iter().filter_map(|peer| {
            let address = peer["ipv4Address"].as_str()?.parse().ok()?;
            Some((peer["hostName"].as_str()?.to_owned(), address))
        });
        Ok(named.collect())
    }

    /// The overlay address of one peer; an error while it has none.
    pub fn address(&self, network: &str, name: &str) -> Result<Ipv4Addr> {
        self.addresses(network)?.remove(name).with_context(|| format!("{name} has no address in {network}"))
    }

    /// One ping, which must be answered, however busy the machine is; the round trip in milliseconds.
    pub fn ping(&self, from: &str, to: Ipv4Addr) -> Result<f64> {
        self.ping_within(from, to, LONGEST_WAY)
    }

    fn ping_within(&self, from: &str, to: Ipv4Addr, patience: Duration) -> Result<f64> {
        let seconds = format!("-W{}", patience.as_secs());
        let printed = self.vm(from)?.run(["ping", "-n", "-c1", &seconds, &to.to_string()]);
        let printed = printed.with_context(|| format!("{from} gets no reply from {to}"))?;
        let time = printed.split("time=").nth(1).and_then(|rest| rest.split(' ').next());
        time.and_then(|time| time.parse().ok()).with_context(|| format!("ping printed no time: {printed}"))
    }

    /// Pings twenty times a second until the first reply, and returns how long that took.
    pub fn first_reply(&self, from: &str, to: Ipv4Addr, deadline: Duration) -> Result<Duration> {
        let seconds = deadline.as_secs().to_string();
        let begin = Instant::now();
        // With both -c and -w, ping goes on until so many replies have come, or the time is over.
        let printed = self.vm(from)?.run(["ping", "-n", "-i0.05", "-c1", "-w", &seconds, &to.to_string()]);
        printed.with_context(|| format!("{from} got no reply from {to} within {deadline:?}"))?;
        Ok(begin.elapsed())
    }

    /// Pings until a reply comes.
    pub fn ping_soon(&self, from: &str, to: Ipv4Addr) -> Result<f64> {
        eventually(&format!("{from} to reach {to}"), MESH, || self.ping_within(from, to, AGAIN))
    }

    /// Waits until every one of the named peers pings every other.
    pub fn wait_mesh(&self, network: &str, vms: &[&str]) -> Result<()> {
        let addresses = eventually("an address for every peer", MESH, || {
            let addresses = self.addresses(network)?;
            ensure!(vms.iter().all(|vm| addresses.contains_key(*vm)), "only {:?} have one", addresses.keys());
            Ok(addresses)
        })?;
        for from in vms {
            for to in vms.iter().filter(|to| *to != from) {
                self.ping_soon(from, addresses[*to])?;
            }
        }
        Ok(())
    }

    /// Waits until a restart of these agents needs no service to know the others.
    pub fn wait_saved(&self, network: &str, vms: &[&str]) -> Result<()> {
        for vm in vms {
            eventually(&format!("{vm} to have saved its {} peers", vms.len() - 1), MESH, || {
                let status = self.agent(vm, ["status"])?;
                let mut memberships = status["networks"].as_array().into_iter().flatten();
                let is_saved = |m: &Value| m["network"] == network && m["peers"] == vms.len() - 1 && m["saved"] == true;
                ensure!(memberships.any(is_saved), "its status is {status}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until *explain* puts first, for every pair of a network of agents, the very path that the agent uses.
    pub fn explain_agrees(&self, network: &str) -> Result<()> {
        let names: Vec<String> = self.addresses(network)?.into_keys().collect();
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                let what = format!("explain to agree with {from} on the path to {to}");
                eventually(&what, MESH, || self.explained_as_used(network, from, to))?;
            }
        }
        Ok(())
    }

    /// The same for all networks, and those of their agents that are up; a service that a story has stopped explains nothing.
    pub(super) fn explain_agrees_everywhere(&self) -> Result<()> {
        if self.is_service_stopped()? {
            return Ok(());
        }
        let networks = eventually("the networks", MESH, || self.admin().json(["network", "list"]))?;
        let networks = networks["networks"].as_array().into_iter().flatten();
        for network in networks.filter_map(|network| network["networkId"].as_str()) {
            let agents = eventually("the agents", MESH, || self.agents_up(network))?;
            for from in &agents {
                for to in agents.iter().filter(|to| *to != from) {
                    let what = format!("explain to agree with {from} on the path to {to} in {network}");
                    eventually(&what, MESH, || {
                        let up = self.agents_up(network)?;
                        if up.contains(from) && up.contains(to) {
                            self.explained_as_used(network, from, to)?;
                        }
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Machines whose agents are linked to the service and members that forward.
    fn agents_up(&self, network: &str) -> Result<Vec<String>> {
        let machines = self.vm_names()?;
        let answer = self.admin().json(["peer", "list", network])?;
        let is_up = |peer: &&Value| peer["online"] == true && peer["plain"] != true && peer["state"] == "tunneling";
        let up = answer["peers"].as_array().into_iter().flatten().filter(is_up);
        let names = up.filter_map(|peer| peer["hostName"].as_str().map(str::to_owned));
        Ok(names.filter(|name| machines.contains(name)).collect())
    }

    fn explained_as_used(&self, network: &str, from: &str, to: &str) -> Result<()> {
        let peers = self.agent(from, ["peers"])?;
        let is_meant = |peer: &&Value| peer["network"] == network && peer["name"] == to;
        let peer = peers.as_array().into_iter().flatten().find(is_meant);
        let used = &peer.with_context(|| format!("{from} knows no {to}"))?["endpoint"];
        let explained = self.admin().json(["path", "explain", network, from, to])?;
        let first = explained["candidates"].as_array().into_iter().flatten().find(|candidate| candidate["rank"] == 1);
        let first = first.map_or(&Value::Null, |candidate| &candidate["endpoint"]);
        ensure!(first == used, "{from} uses {used}, but {first} ranks first: {explained}");
        Ok(())
    }

    /// Holds if no ping gets through for as long as three take.
    pub fn never_reaches(&self, from: &str, to: Ipv4Addr) -> Result<()> {
        let output = self.vm(from)?.exec(["ping", "-n", "-c3", "-i0.3", "-W1", &to.to_string()])?;
        if output.status.success() { bail!("{from} reaches {to}, which it must not") } else { Ok(()) }
    }

    /// What the agent of a VM answers, as JSON.
    pub fn agent<const N: usize>(&self, vm: &str, arguments: [&str; N]) -> Result<Value> {
        let command = ["cladnet-agent", "--output", "json"].into_iter().chain(arguments);
        let printed = self.vm(vm)?.run(command)?;
        serde_json::from_str(&printed).with_context(|| format!("the agent printed no JSON: {printed}"))
    }
}
