//! What a VM puts on its wire, counted by destination at the far end of the wire, which is a port of its VPC's router: private and
//! public paths alike, and also what a black hole swallows then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use super::Vm;
use crate::error::{Doing, Error, Result};
use crate::namespace;
use crate::router::VM_INTERFACE;
use crate::state::Place;

/// What was sent to one address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WireCount {
    pub packets: u64,
    /// Of IP packets, their headers included and Ethernet's not: what clouds bill.
    pub bytes: u64,
}

impl Vm<'_> {
    /// Counts what the VM sends from now on, from zero. Its super-packets are cut before the wire from now on, as every network
    /// card does.
    pub fn count_wire(&self) -> Result<()> {
        let (router, port) = self.wire()?;
        namespace::configure(&self.init()?.namespace("net")?, async |links| {
            links.cut_super_packets(VM_INTERFACE).await
        })?;
        namespace::apply_rules(&router, &ruleset(&port))
    }

    /// What the VM has sent since [`Vm::count_wire`], by destination.
    pub fn wire_counts(&self) -> Result<BTreeMap<IpAddr, WireCount>> {
        let (router, port) = self.wire()?;
        namespace::inside(&router, || {
            let mut nft = Command::new("nft");
            nft.args(["--json", "list", "table", "netdev", &table(&port)]);
            let output = nft.output().doing(|| "start nft (install nftables)".into())?;
            if !output.status.success() {
                return Err(Error::Conflict(format!("what {} sends is not counted", self.name())));
            }
            let listed: Value = serde_json::from_slice(&output.stdout)
                .map_err(|error| Error::Program { program: "nft", message: error.to_string() })?;
            Ok(counts(&listed))
        })
    }

    fn wire(&self) -> Result<(std::fs::File, String)> {
        let machine = self.machine()?;
        match &machine.place {
            Place::Vpc { vpc, .. } => Ok((self.sandbox.router(vpc)?, machine.port())),
            Place::Internet { .. } => Err(Error::Conflict(format!("{} has no router to count for it", self.name()))),
        }
    }
}

/// A table of each VM's own, so that it outlives the changes of all others.
fn table(port: &str) -> String {
    format!("sandbox_wire_{port}")
}

fn ruleset(port: &str) -> String {
    let table = table(port);
    format!(
        "table netdev {table}
delete table netdev {table}
table netdev {table} {{
  set v4 {{ type ipv4_addr; size 65535; flags dynamic; counter; }}
  set v6 {{ type ipv6_addr; size 65535; flags dynamic; counter; }}
  chain out {{
    type filter hook ingress device \"{port}\" priority -10; policy accept;
    update @v4 {{ ip daddr counter }}
    update @v6 {{ ip6 daddr counter }}
  }}
}}
"
    )
}

/// The elements of all sets, as `nft --json` lists them.
fn counts(listed: &Value) -> BTreeMap<IpAddr, WireCount> {
    let objects = listed["nftables"].as_array().into_iter().flatten();
    let elements = objects.filter_map(|object| object["set"]["elem"].as_array()).flatten();
    let counted = elements.filter_map(|element| {
        let element = &element["elem"];
        let number = |name: &str| element["counter"][name].as_u64();
        let count = WireCount { packets: number("packets")?, bytes: number("bytes")? };
        Some((element["val"].as_str()?.parse().ok()?, count))
    });
    counted.collect()
}
