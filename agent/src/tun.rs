//! The TUN device: how inner packets enter and leave the kernel. Addresses and routes are `netlink`'s business.

use std::io;

/// Why a TUN device cannot be had, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    #[error("/dev/net/tun is missing: load the kernel module `tun`, or give this container the device")]
    NoDevice,
    #[error("no privilege to open the interface {name}: run as root or with CAP_NET_ADMIN")]
    NoPrivilege { name: String },
    #[error("interface {name} is in use by another program: stop it, or delete the interface")]
    Busy { name: String },
    #[error("cannot open the interface {name}")]
    Open { name: String, source: io::Error },
}

/// An open TUN device. It disappears from the host when this is dropped; if somebody deletes it first, every call fails
/// with an error that [`is_gone`] knows.
pub struct Tun(tun::Device);

impl Tun {
    pub fn open(name: &str) -> Result<Self, TunError> {
        let mut config = tun::Configuration::default();
        config.tun_name(name);
        // Leaves every setting of the interface to netlink.
        config.platform_config(|platform| {
            platform.ensure_root_privileges(false);
        });
        tun::create(&config).map(Self).map_err(|error| refused(name, error.into()))
    }

    /// Waits for a packet that the kernel routes into the interface.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }

    /// Hands a packet to the kernel as if it had arrived on the interface.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet).map(drop)
    }
}

/// Whether the device behind a descriptor was deleted.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EFAULT | libc::ENODEV))
}

fn refused(name: &str, source: io::Error) -> TunError {
    let name = name.to_owned();
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::NoDevice,
        Some(libc::EPERM | libc::EACCES) => TunError::NoPrivilege { name },
        // EINVAL: an interface of this name exists and is no TUN device.
        Some(libc::EBUSY | libc::EINVAL) => TunError::Busy { name },
        _ => TunError::Open { name, source },
    }
}
