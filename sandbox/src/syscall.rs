//! The system calls that no safe wrapper covers: `fork`, the TUN `ioctl`, `setpriority`.
#![expect(unsafe_code, reason = "system calls without a safe wrapper live here and nowhere else in this crate")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::unistd::ForkResult;

nix::ioctl_write_int!(tunsetiff, b'T', 202);

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

/// Opens a TUN device (plain packets, no header before them) named `name` in the caller's network namespace.
pub(crate) fn open_tun(name: &str) -> std::io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an all-zero `ifreq` is a valid value of that plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "interface names of ours fit");
    for (target, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *target = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    unsafe { tunsetiff(device.as_raw_fd(), std::ptr::from_mut(&mut request) as libc::c_ulong) }?;
    Ok(device.into())
}

/// Asks the scheduler for precedence of this process; delays are only as exact as its wake-ups.
pub(crate) fn prefer_this_process() -> std::io::Result<()> {
    const NICE: libc::c_int = -15;
    // SAFETY: takes integers only.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
