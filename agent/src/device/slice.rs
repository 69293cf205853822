//! How long a data thread keeps a core to itself once it has one. Not how much of it: that is what `nice` is for.
#![expect(unsafe_code, reason = "no safe wrapper knows sched_setattr")]

use std::io;
use std::mem;
use std::time::Duration;

use tracing::debug;

/// A slice of a data thread. In the kernel's own, some milliseconds, a thread that wakes up beside ours waits while we
/// hand it packets, until its socket's buffer (208 KB by default: 90 full packets, or 2 ms at 500 Mbit/s) is full and
/// we have carried them in vain; or packets wait for us that long at every turn. The least that the kernel grants;
/// it is still a full train opened and written.
const SLICE: Duration = Duration::from_micros(100);

/// Asks for short slices for the calling thread, in the policy and with the niceness that it has. Linux before 6.12 takes
/// the wish and does nothing.
pub(super) fn shorten() {
    if let Err(error) = ask(SLICE) {
        debug!(%error, "data threads have slices as others");
    }
}

fn ask(slice: Duration) -> io::Result<()> {
    let mut attributes = attributes()?;
    // Real-time policies have none, or mean something else by it.
    if attributes.sched_policy.cast_signed() != libc::SCHED_OTHER {
        return Ok(());
    }
    attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the structure outlives the call, and its first field says how long it is; 0 is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn attributes() -> io::Result<libc::sched_attr> {
    // SAFETY: a structure of numbers, of which zero is one.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let len = size_of_val(&attributes);
    // SAFETY: the kernel writes no more than `len` bytes into the structure; 0 is the calling thread.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, len, 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(attributes) }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_has_the_slice_it_asks_for_and_keeps_its_niceness() {
        thread::spawn(|| {
            let before = attributes().unwrap();
            shorten();
            let after = attributes().unwrap();
            assert_eq!((after.sched_policy, after.sched_nice), (before.sched_policy, before.sched_nice));
            match after.sched_runtime {
                0 => eprintln!("this kernel grants no slices"),
                granted => assert_eq!(u128::from(granted), SLICE.as_nanos()),
            }
        })
        .join()
        .unwrap();
    }
}
