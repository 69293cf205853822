//! The daemon on a VM.

pub mod device;
pub mod netlink;
pub mod tun;
pub mod udp;
