//! Waiting for several descriptors at once, so that a thread can serve its queues by turns and none waits behind another.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The descriptors of a thread; nothing is allocated after it was made.
#[derive(Debug)]
pub(crate) struct Readiness<'a> {
    descriptors: Vec<PollFd<'a>>,
}

impl<'a> Readiness<'a> {
    pub(crate) fn of(descriptors: impl IntoIterator<Item = BorrowedFd<'a>>) -> Self {
        let polled = descriptors.into_iter().map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        Self { descriptors: polled.collect() }
    }

    /// Waits until one can be read, or tells of an error by being read. The positions of those that can, in order; none
    /// if a signal came.
    pub(crate) fn wait(&mut self) -> nix::Result<impl Iterator<Item = usize>> {
        match poll(&mut self.descriptors, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        let ready = |(position, descriptor): (usize, &PollFd<'a>)| descriptor.any().unwrap_or(true).then_some(position);
        Ok(self.descriptors.iter().enumerate().filter_map(ready))
    }
}
