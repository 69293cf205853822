//! The tests of `pair`, on `boringtun`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may just fail")]

use cladnet_tunnel::Implementation;

#[path = "../pair/clear.rs"]
mod clear;
#[path = "../pair/configuration.rs"]
mod configuration;
#[path = "../pair/data.rs"]
mod data;
#[path = "../pair/handshake.rs"]
mod handshake;
#[path = "../pair/hostile.rs"]
mod hostile;
#[path = "../pair/mtu.rs"]
mod mtu;
mod preshared;
#[path = "../pair/probes.rs"]
mod probes;
#[path = "../pair/sim.rs"]
mod sim;
#[path = "../pair/threads.rs"]
mod threads;
#[path = "../pair/volumes.rs"]
mod volumes;

const IMPLEMENTATION: Implementation = Implementation::Boringtun;
