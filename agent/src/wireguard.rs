//! A plain WireGuard interface on our data plane, for `wg`, `wg-quick` and whatever else speaks the cross-platform
//! control protocol (<https://www.wireguard.com/xplatform/>). It knows of no network and no service; networks' own
//! interfaces are the daemon's.

use std::error::Error;
use std::io;
use std::sync::Arc;

use cladnet_tunnel::Implementation;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::device::{DEFAULT_MTU, DeviceError, PlainDevice, segments_of};
use crate::netlink::{Link, Monitor, Netlink, NetlinkError};
use crate::offload::OffloadPolicy;

mod background;
mod interface;
mod settings;
mod socket;
mod uapi;

pub use background::Background;
use interface::Interface;
use socket::{ControlSocket, SocketError};

/// Whether a request on the control socket can be read: for the fuzzer.
#[doc(hidden)]
pub fn is_request(text: &str) -> bool {
    uapi::parse(text).is_ok()
}

/// Under this name the binary is one that `wg-quick` can be pointed at.
pub const PROGRAM: &str = "cladnet-wireguard";

#[derive(Debug, thiserror::Error)]
pub enum WireguardError {
    #[error(
        "interface {0} exists already and is not ours: a network of cladnet-agent, the kernel or another program has it"
    )]
    InterfaceExists(String),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot watch for signals")]
    Signal(#[source] io::Error),
    #[error("cannot watch the control socket")]
    Watch(#[source] io::Error),
    #[error("cannot go to the background")]
    Background(#[source] io::Error),
}

/// Makes the interface `name`, without address and down, and carries its packets until it is deleted, its socket is
/// removed, or SIGTERM or SIGINT comes. `ready` is called when the socket answers.
pub async fn run(
    name: &str,
    implementation: Implementation,
    policy: OffloadPolicy,
    ready: impl FnOnce() -> io::Result<()>,
) -> Result<(), WireguardError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(WireguardError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(WireguardError::Signal)?;
    let netlink = Netlink::connect()?;
    if netlink.link(name).await?.is_some() {
        return Err(WireguardError::InterfaceExists(name.to_owned()));
    }
    let mut monitor = Monitor::of_links()?;
    let (device, mut deletion) = PlainDevice::open(name, DEFAULT_MTU, implementation, policy)?;
    let link = netlink.link(name).await?.ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))?;
    netlink.forgo_queueing(name).await?;
    netlink.prepare(link.index, DEFAULT_MTU).await?;
    netlink.limit_segments(name, segments_of(DEFAULT_MTU)).await?;
    let interface = Arc::new(Mutex::new(Interface::new(device, DEFAULT_MTU)));
    let mut socket = ControlSocket::bind(name)?;
    socket.serve(&interface);
    info!(interface = name, "interface waits for its configuration");
    ready().map_err(WireguardError::Background)?;
    loop {
        tokio::select! {
            true = monitor.changed() => follow(&netlink, link.index, &interface).await,
            () = deletion.wait() => break,
            removed = socket.removed() => {
                removed.map_err(WireguardError::Watch)?;
                break;
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    info!(interface = name, "interface ends");
    Ok(())
}

/// Takes on what was done to the interface with `ip` and the like. Its name may have changed since it was made.
async fn follow(netlink: &Netlink, index: u32, interface: &Mutex<Interface>) {
    let found: Result<Option<Link>, NetlinkError> = netlink.link_at(index).await;
    match found {
        Ok(Some(link)) => {
            let mut interface = interface.lock().await;
            let mtu = interface.mtu();
            if let Err(error) = interface.follow(&link) {
                warn!(error = &error as &dyn Error, "cannot follow a change of the interface");
            }
            if mtu != interface.mtu()
                && let Err(error) = netlink.limit_segments(&link.name, segments_of(interface.mtu())).await
            {
                warn!(error = &error as &dyn Error, "super-packets not bounded");
            }
        }
        // Deleted: its reader tells.
        Ok(None) => {}
        Err(error) => warn!(error = &error as &dyn Error, "cannot look at the interface"),
    }
}
