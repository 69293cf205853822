//! The system calls that no safe wrapper covers: `fork`, the TUN `ioctl`, `setpriority`.
#![expect(unsafe_code, reason = "system calls without a safe wrapper live here and nowhere else in this crate")]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::unistd::ForkResult;

nix::ioctl_write_int!(tunsetiff, b'T', 202);
nix::ioctl_write_int!(tunsetoffload, b'T', 208);

/// The knowledge that this process has one thread, which it keeps by not starting any.
#[derive(Clone, Copy)]
pub(crate) struct SingleThread(());

impl SingleThread {
    /// # Panics
    /// If there are other threads: a forked child would find their locks held forever.
    pub(crate) fn assert() -> Self {
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        assert_eq!(threads, 1, "only a process with a single thread may fork");
        Self(())
    }
}

/// Forks a process that has a single thread; both halves go on as ordinary Rust programs.
pub(crate) fn fork(_: SingleThread) -> nix::Result<ForkResult> {
    // SAFETY: there is no other thread (asserted), so no lock is held and no state is half-written in the child.
    unsafe { nix::unistd::fork() }
}

/// Bytes before every packet of a TUN: a `virtio_net_hdr`, which says how a super-packet is to be cut.
pub(crate) const TUN_HEADER: usize = 10;

/// How a TUN hands over what is larger than its MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segmentation {
    /// The kernel cuts it and completes the checksums: what is read is what would be on a wire.
    ByKernel,
    /// As one super-packet of up to 64 KiB, to be cut by whoever receives it.
    Deferred,
}

/// Opens a TUN device named `name` in the caller's network namespace; its packets come behind [`TUN_HEADER`] bytes.
pub(crate) fn open_tun(name: &str) -> std::io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an all-zero `ifreq` is a valid value of that plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "interface names of ours fit");
    for (target, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *target = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    unsafe { tunsetiff(device.as_raw_fd(), std::ptr::from_mut(&mut request) as libc::c_ulong) }?;
    Ok(device.into())
}

/// Chooses how a TUN hands over large packets; it takes super-packets either way.
pub(crate) fn set_segmentation(tun: BorrowedFd<'_>, segmentation: Segmentation) -> nix::Result<()> {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    let set = |flags: libc::c_uint| {
        // SAFETY: TUNSETOFFLOAD takes an integer.
        unsafe { tunsetoffload(tun.as_raw_fd(), libc::c_ulong::from(flags)) }.map(drop)
    };
    match segmentation {
        Segmentation::ByKernel => set(0),
        // Kernels before 6.2 know no segmentation of UDP.
        Segmentation::Deferred => set(tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6).or_else(|_| set(tcp)),
    }
}

/// Puts the calling thread before every ordinary one: delays are only as exact as its wake-ups.
///
/// The kernel keeps 5 % of the time for the others, so the machine stays usable whatever this thread does.
pub(crate) fn prefer_this_thread() -> std::io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 means the calling thread, and `parameters` outlives the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
