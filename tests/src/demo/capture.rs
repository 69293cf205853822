//! Plants two plaintexts and looks for both on the WAN: one sent in clear, to prove that the capture sees; one sent over the overlay.

use std::{fs, net::Ipv4Addr};

use anyhow::Result;

use crate::world::{CONTROL, World};

/// Sixteen bytes each, as many as ping repeats.
const IN_CLEAR: &[u8; 16] = b"cladnet-in-clear";
const IN_OVERLAY: &[u8; 16] = b"cladnet-secrecy!";

/// How often each plaintext was on the WAN.
pub(super) struct Found {
    pub(super) in_clear: usize,
    pub(super) in_overlay: usize,
}

pub(super) fn planted_plaintexts(world: &World, from: &str, overlay: Ipv4Addr) -> Result<Found> {
    let work = tempfile::tempdir()?;
    let file = work.path().join("wan.pcap");
    world.sandbox().start_capture(&file)?;
    send(world, from, world.vm(CONTROL)?.public_address()?, IN_CLEAR)?;
    send(world, from, overlay, IN_OVERLAY)?;
    world.sandbox().stop_capture()?;
    let captured = fs::read(&file)?;
    let count = |needle: &[u8; 16]| captured.windows(needle.len()).filter(|window| window == needle).count();
    Ok(Found { in_clear: count(IN_CLEAR), in_overlay: count(IN_OVERLAY) })
}

/// Pings with `text` as the payload, over and over.
fn send(world: &World, from: &str, to: Ipv4Addr, text: &[u8; 16]) -> Result<()> {
    let pattern: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
    world.vm(from)?.run(["ping", "-n", "-c3", "-i0.2", "-s400", "-p", &pattern, &to.to_string()])?;
    Ok(())
}
