//! The queues of a TUN device: descriptors of one interface, each with a ring of its own. The crate `tun` opens devices
//! of one queue only.

use std::ffi::c_char;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// The first queue of a new interface.
pub(super) fn create(name: &str, with_header: bool) -> io::Result<OwnedFd> {
    // The name of another program's is not to be shared, which having several queues would allow.
    open(name, with_header, libc::IFF_TUN_EXCL)
}

/// One more of an interface that we created.
pub(super) fn attach(name: &str, with_header: bool) -> io::Result<OwnedFd> {
    open(name, with_header, 0)
}

/// Whether [`create`] found an interface of this name.
pub(super) fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL))
}

fn open(name: &str, with_header: bool, flags: libc::c_int) -> io::Result<OwnedFd> {
    let header = if with_header { libc::IFF_VNET_HDR } else { 0 };
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | header | flags) as libc::c_short,
        },
    };
    // The last byte stays 0.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as c_char;
    }
    let queue = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(CLONE_DEVICE)?;
    set_interface(&queue, &request)?;
    Ok(queue.into())
}

#[expect(unsafe_code, reason = "no safe wrapper knows TUNSETIFF")]
fn set_interface(queue: &impl AsRawFd, request: &libc::ifreq) -> io::Result<()> {
    nix::ioctl_write_ptr_bad!(tunsetiff, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), libc::ifreq);
    // SAFETY: the descriptor is open, and the request is what the call reads, whole.
    unsafe { tunsetiff(queue.as_raw_fd(), request) }?;
    Ok(())
}
