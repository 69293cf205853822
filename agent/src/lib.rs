//! The daemon on a VM.

pub mod device;
pub mod netlink;
pub mod static_tunnel;
pub mod tun;
pub mod udp;
