//! Two tunnels joined by a wire of our own: what may pass between them, and what must not.

#![expect(clippy::unwrap_used, reason = "helpers of tests may just fail")]

use cladnet_tunnel::Implementation;

mod clear;
mod configuration;
mod data;
mod handshake;
mod hostile;
mod mixed;
mod mtu;
mod pinned;
mod preshared;
mod probes;
mod sim;
mod threads;
mod timers;
mod volumes;
mod wire;

const IMPLEMENTATION: Implementation = Implementation::Own;
