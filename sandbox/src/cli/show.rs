//! What a sandbox looks like, for people and for programs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use cladnet_sandbox::{LinkQuality, NatKind, Place, Sandbox, ServiceState, ServiceStatus, State, WireCount};

use super::arguments::Output;

pub(super) fn show(sandbox: &Sandbox, output: Output) -> Result<()> {
    let state = sandbox.state()?;
    let servers = ssh_servers(sandbox, &state)?;
    match output {
        Output::Json => {
            let mut json = serde_json::to_value(&state)?;
            for (name, _, key) in &servers {
                json["vms"][name]["ssh"]["host_key"] = key.as_str().into();
            }
            println!("{}", serde_json::to_string_pretty(&json)?);
        }
        Output::Table => {
            machines(&state);
            println!();
            if !servers.is_empty() {
                let rows = servers.into_iter().map(|(name, user, key)| vec![name, user, key]);
                table(&["MACHINE", "SSH USER", "SSH HOST KEY"], rows);
                println!();
            }
            links(&state);
        }
    }
    Ok(())
}

/// Machine, user and public host key of every SSH server.
fn ssh_servers(sandbox: &Sandbox, state: &State) -> Result<Vec<(String, String, String)>> {
    let with_ssh = state.vms.iter().filter_map(|(name, vm)| Some((name, vm.ssh.as_ref()?)));
    with_ssh.map(|(name, ssh)| Ok((name.clone(), ssh.user.clone(), sandbox.vm(name)?.ssh_host_key()?))).collect()
}

pub(super) fn statistics(sandbox: &Sandbox) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(&sandbox.wan_statistics()?)?);
    Ok(())
}

pub(super) fn wire_counts(counts: &BTreeMap<IpAddr, WireCount>) {
    let rows =
        counts.iter().map(|(to, count)| vec![to.to_string(), count.packets.to_string(), count.bytes.to_string()]);
    table(&["DESTINATION", "PACKETS", "BYTES"], rows);
}

pub(super) fn services(services: &[ServiceStatus]) {
    let rows = services.iter().map(|service| {
        let state = match service.state {
            ServiceState::Running { pid } => format!("running (pid {pid})"),
            ServiceState::Restarting => "restarting".to_owned(),
            ServiceState::Stopping { pid } => format!("stopping (pid {pid})"),
            ServiceState::Stopped => "stopped".to_owned(),
        };
        let end = service.last_end.clone().unwrap_or_else(|| "-".to_owned());
        vec![service.name.clone(), state, service.restarts.to_string(), end, service.command.join(" ")]
    });
    table(&["SERVICE", "STATE", "RESTARTS", "LAST END", "COMMAND"], rows);
}

fn machines(state: &State) {
    let rows = state.vms.iter().map(|(name, vm)| {
        let (place, zone, private, nat) = match &vm.place {
            Place::Vpc { vpc, subnet, zone, private_address, nat, .. } => {
                let nat = match nat {
                    NatKind::OneToOne => "one-to-one",
                    NatKind::PortRestricted => "port-restricted",
                    NatKind::None => "none",
                };
                (format!("{vpc}/{subnet}"), zone.clone(), private_address.to_string(), nat)
            }
            Place::Internet { site, host_access, .. } => {
                let host = host_access.map(|network| format!("host link {network}"));
                (site.clone(), None, host.unwrap_or_else(|| "-".into()), "-")
            }
        };
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let public = text(vm.public_address().map(|address| address.to_string()));
        let v6 = text(vm.ipv6_address.map(|address| address.to_string()));
        let running = if vm.suspended { "suspended" } else { "running" };
        vec![name.clone(), running.into(), place, text(zone), private, public, nat.into(), v6]
    });
    table(&["MACHINE", "STATE", "PLACE", "ZONE", "PRIVATE", "PUBLIC", "NAT", "IPV6"], rows);
}

fn links(state: &State) {
    let sites: Vec<String> = state.sites();
    let pairs = sites.iter().enumerate().flat_map(|(index, a)| sites[index..].iter().map(move |b| (a, b)));
    let rows = pairs.map(|(a, b)| {
        let ways = [state.link(a, b), state.link(b, a)];
        let delay: f64 = ways.iter().map(|way| way.delay_ms).sum();
        let cell = |of: fn(&LinkQuality) -> String| match ways.each_ref().map(of) {
            [one, other] if one == other => one,
            [there, back] => format!("{there} there, {back} back"),
        };
        let jitter = cell(|way| format!("{:.2}", way.jitter_ms));
        let loss = cell(|way| if way.blackhole { "black hole".to_owned() } else { format!("{} %", way.loss_percent) });
        vec![a.clone(), b.clone(), format!("{delay:.2}"), jitter, loss]
    });
    table(&["SITE", "SITE", "ROUND TRIP MS", "JITTER MS", "LOSS"], rows);
}

/// Prints columns as wide as their widest cell.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let header = header.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let columns = rows[0].len();
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}
