//! The nftables ruleset of a VPC's router, as text for `nft -f -`. Pure: equal records give equal text.
//!
//! The text deletes and makes the tables in one transaction, so there is no moment without rules. Four tables:
//! `inet sandbox` filters what is forwarded (security groups), `ip sandbox_nat` translates, `netdev sandbox_port`
//! drops what a machine sends into a black hole, before bridging and translation. A suspended machine is cut off by the
//! latter and, the other way, by `bridge sandbox_port`.

pub(crate) mod tcp_faults;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use crate::metadata;
use crate::state::{BlockedPath, Machine, Place, State, provider_of};
use crate::topology::{MetadataService, NatKind, SecurityGroup};

/// The router's interface on the WAN.
pub(crate) const WAN: &str = "wan0";

/// The whole ruleset of a VPC's router.
pub(crate) fn ruleset(state: &State, vpc: &str) -> String {
    let mut text = String::new();
    for table in ["inet sandbox", "ip sandbox_nat", "netdev sandbox_port", "bridge sandbox_port"] {
        // Declaring it first makes the deletion succeed when there is none yet.
        line(&mut text, format_args!("table {table}\ndelete table {table}"));
    }
    filter_table(&mut text, state, vpc);
    nat_table(&mut text, state, vpc);
    port_table(&mut text, state, vpc);
    suspension_table(&mut text, state, vpc);
    text
}

fn filter_table(text: &mut String, state: &State, vpc: &str) {
    line(text, format_args!("table inet sandbox {{"));
    for (_, vm) in state.vms_of(vpc) {
        if let Some(group) = state.security_group(vm) {
            security_group_chain(text, &vm.port(), group);
        }
    }
    ingress_chain(text, state, vpc);
    forward_chain(text, state, vpc);
    line(text, format_args!("  chain input {{"));
    line(text, format_args!("    type filter hook input priority filter; policy accept;"));
    line(text, format_args!("    iifname \"{WAN}\" ct state established,related accept"));
    line(text, format_args!("    iifname \"{WAN}\" drop"));
    line(text, format_args!("  }}\n}}"));
}

/// Leads what comes from outside to the security group of the machine that it is for.
fn ingress_chain(text: &mut String, state: &State, vpc: &str) {
    let jumps = |select: fn(&Machine) -> Option<IpAddr>| -> Vec<String> {
        let vms = state.vms_of(vpc).filter_map(|(_, vm)| Some((select(vm)?, vm.port())));
        vms.map(|(address, port)| format!("{address} : jump {port}")).collect()
    };
    let v4 = jumps(|vm| vm.private_address().map(IpAddr::V4));
    let v6 = jumps(|vm| vm.ipv6_address.map(IpAddr::V6));
    line(text, format_args!("  chain ingress {{"));
    for (family, jumps) in [("ip", v4), ("ip6", v6)] {
        if !jumps.is_empty() {
            line(text, format_args!("    {family} daddr vmap {{ {} }}", jumps.join(", ")));
        }
    }
    line(text, format_args!("  }}"));
}

fn forward_chain(text: &mut String, state: &State, vpc: &str) {
    line(text, format_args!("  chain forward {{"));
    line(text, format_args!("    type filter hook forward priority filter; policy drop;"));
    line(text, format_args!("    ct state established,related accept"));
    line(text, format_args!("    ct state invalid drop"));
    // What was addressed to a public address of this VPC came from outside, even if its sender is inside.
    line(text, format_args!("    iifname \"sub*\" oifname \"sub*\" ct status & dnat == 0 accept"));
    line(text, format_args!("    iifname \"sub*\" oifname \"peer*\" accept"));
    egress(text, state, vpc);
    line(text, format_args!("    oifname \"sub*\" jump ingress"));
    line(text, format_args!("  }}"));
}

/// Only machines with a way out reach the WAN, and only with an address of their own.
fn egress(text: &mut String, state: &State, vpc: &str) {
    let v4: Vec<IpAddr> = with_public_address(state, vpc).map(|(private, _, _)| private).collect();
    let v6: Vec<IpAddr> = state.vms_of(vpc).filter_map(|(_, vm)| vm.ipv6_address.map(IpAddr::V6)).collect();
    for (family, sources) in [("ip", v4), ("ip6", v6)] {
        if !sources.is_empty() {
            line(text, format_args!("    oifname \"{WAN}\" iifname \"sub*\" {family} saddr {} accept", set(sources)));
        }
    }
}

fn security_group_chain(text: &mut String, port: &str, group: &SecurityGroup) {
    line(text, format_args!("  chain {port} {{"));
    for (protocol, ports) in [("tcp", &group.tcp), ("udp", &group.udp)] {
        if !ports.is_empty() {
            line(text, format_args!("    {protocol} dport {} accept", set(ports.iter().collect::<BTreeSet<_>>())));
        }
    }
    if group.icmp {
        line(text, format_args!("    meta l4proto {{ icmp, ipv6-icmp }} accept"));
    }
    line(text, format_args!("  }}"));
}

fn nat_table(text: &mut String, state: &State, vpc: &str) {
    let one_to_one = || with_public_address(state, vpc).filter(|(_, _, nat)| *nat == NatKind::OneToOne);
    let inbound: Vec<String> = one_to_one().map(|(private, public, _)| format!("{public} : {private}")).collect();
    let outbound: Vec<String> =
        with_public_address(state, vpc).map(|(private, public, _)| format!("{private} : {public}")).collect();
    line(text, format_args!("table ip sandbox_nat {{"));
    line(text, format_args!("  chain prerouting {{"));
    line(text, format_args!("    type nat hook prerouting priority dstnat;"));
    if !inbound.is_empty() {
        line(text, format_args!("    dnat to ip daddr map {{ {} }}", inbound.join(", ")));
    }
    line(text, format_args!("  }}"));
    line(text, format_args!("  chain postrouting {{"));
    line(text, format_args!("    type nat hook postrouting priority srcnat;"));
    if !outbound.is_empty() {
        let map = outbound.join(", ");
        line(text, format_args!("    oifname \"{WAN}\" snat to ip saddr map {{ {map} }}"));
        // Hair-pin: who talks to a public address of its own VPC is seen with its own public address.
        line(text, format_args!("    ct status & dnat == dnat snat to ip saddr map {{ {map} }}"));
    }
    line(text, format_args!("  }}\n}}"));
}

fn port_table(text: &mut String, state: &State, vpc: &str) {
    line(text, format_args!("table netdev sandbox_port {{"));
    for (name, vm) in state.vms_of(vpc) {
        let targets = dropped_destinations(state, name, vm);
        let port = vm.port();
        line(text, format_args!("  chain {port} {{"));
        let policy = if vm.suspended { "drop" } else { "accept" };
        line(text, format_args!("    type filter hook ingress device \"{port}\" priority 0; policy {policy};"));
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = targets.into_iter().partition(IpAddr::is_ipv4);
        for (family, targets) in [("ip", v4), ("ip6", v6)] {
            if !targets.is_empty() {
                line(text, format_args!("    {family} daddr {} drop", set(targets)));
            }
        }
        line(text, format_args!("  }}"));
    }
    line(text, format_args!("}}"));
}

fn suspension_table(text: &mut String, state: &State, vpc: &str) {
    let suspended: Vec<String> =
        state.vms_of(vpc).filter(|(_, vm)| vm.suspended).map(|(_, vm)| format!("\"{}\"", vm.port())).collect();
    line(text, format_args!("table bridge sandbox_port {{"));
    for hook in ["forward", "output"] {
        line(text, format_args!("  chain {hook} {{"));
        line(text, format_args!("    type filter hook {hook} priority filter; policy accept;"));
        if !suspended.is_empty() {
            line(text, format_args!("    oifname {} drop", set(&suspended)));
        }
        line(text, format_args!("  }}"));
    }
    line(text, format_args!("}}"));
}

/// The addresses that swallow what this machine sends to them.
fn dropped_destinations(state: &State, name: &str, vm: &Machine) -> BTreeSet<IpAddr> {
    let mut dropped = BTreeSet::new();
    for block in state.blocks.iter().filter(|block| block.from == name) {
        let Some(to) = state.vms.get(&block.to) else { continue };
        match block.path {
            BlockedPath::Private => dropped.extend(to.private_address().map(IpAddr::V4)),
            BlockedPath::Public => dropped.extend(to.public_addresses()),
        }
    }
    let answers = match vm.place {
        Place::Vpc { metadata: MetadataService::Provider, .. } => provider_of(state, vm).and_then(metadata::address),
        _ => None,
    };
    dropped.extend(metadata::ADDRESSES.into_iter().filter(|address| Some(*address) != answers).map(IpAddr::V4));
    dropped
}

/// Private address, public address and kind of every machine of a VPC that has NAT.
fn with_public_address<'a>(
    state: &'a State,
    vpc: &'a str,
) -> impl Iterator<Item = (IpAddr, IpAddr, NatKind)> + use<'a> {
    state.vms_of(vpc).filter_map(|(_, vm)| match &vm.place {
        Place::Vpc { private_address, public_address: Some(public), nat, .. } => {
            Some((IpAddr::V4(*private_address), IpAddr::V4(*public), *nat))
        }
        _ => None,
    })
}

fn set<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests;
