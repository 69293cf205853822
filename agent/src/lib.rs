//! The daemon on a VM: it joins the machine to networks, keeps their interfaces up and carries their packets.
//!
//! [`daemon`] holds what should be and makes it so on the [`device`]; [`sync`] keeps it in agreement with the service;
//! [`facts`] knows the host; [`state`] remembers across restarts; [`control`] lets root steer it through [`cli`]. The
//! data plane ([`device`], [`tun`], [`udp`]) has threads of its own and waits for none of them. [`wireguard`] is the
//! same data plane without the daemon, for `wg`.

mod access;
mod backoff;
pub mod cli;
mod config;
mod configuration;
mod control;
mod daemon;
pub mod device;
mod enrol;
mod facts;
mod failure;
mod forwarding;
mod netcheck;
pub mod netlink;
pub mod offload;
mod paths;
mod ping;
mod probing;
mod readiness;
mod state;
pub mod static_tunnel;
mod subnets;
mod sync;
pub mod tun;
pub mod udp;
mod usage;
pub mod wireguard;

#[cfg(feature = "simulation")]
pub use probing::simulation;
