//! One WireGuard interface from a file: a tunnel without a service, for trying things and for interop.

use std::path::Path;

use cladnet_tunnel::Implementation;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::device::{Device, DeviceError};
use crate::netlink::{Monitor, NetlinkError};
use crate::offload::OffloadPolicy;

mod file;

pub use file::FileError;

#[derive(Debug, thiserror::Error)]
pub enum StaticTunnelError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("cannot watch for signals")]
    Signal(#[source] std::io::Error),
}

/// Brings the interface up that the file at `path` describes and keeps it until SIGTERM or SIGINT.
pub async fn run(path: &Path, implementation: Implementation, policy: OffloadPolicy) -> Result<(), StaticTunnelError> {
    let tunnel = file::read(path)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StaticTunnelError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StaticTunnelError::Signal)?;
    let mut monitor = Monitor::open()?;
    let device = Device::open(tunnel.listen_port, implementation, policy)?;
    let name = tunnel.interface.name.clone();
    device.add_interface(tunnel.interface).await?;
    info!(interface = name, "static tunnel is up");
    loop {
        tokio::select! {
            // An address of ours may have moved: peers learn it from the next packet, so there is one.
            alive = monitor.settled() => if alive { device.kick_all() } else { break },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    device.close().await;
    Ok(())
}
