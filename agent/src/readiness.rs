//! Waiting for several descriptors at once, so that a thread can serve its queues by turns and none waits behind another.
//! The kernel keeps what is waited for, so that a wait costs what is ready, not what is not.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// What stands behind the descriptors of a thread; nothing is allocated after it was made.
#[derive(Debug)]
pub(crate) struct Readiness {
    epoll: Epoll,
    /// As many as there are descriptors, so that one wait tells of all that are ready.
    events: Vec<EpollEvent>,
    /// How many of them the last wait has told of.
    count: usize,
    /// The heavy one that had its turn last.
    last: usize,
}

impl Readiness {
    pub(crate) fn of<'a>(descriptors: impl IntoIterator<Item = BorrowedFd<'a>>) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut events = Vec::new();
        for (position, descriptor) in descriptors.into_iter().enumerate() {
            epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, position as u64))?;
            events.push(EpollEvent::empty());
        }
        Ok(Self { epoll, events, count: 0, last: 0 })
    }

    /// Waits until one can be read, or tells of an error by being read; then they are [`Readiness::ready`]. None are if a
    /// signal came.
    pub(crate) fn wait(&mut self) -> nix::Result<()> {
        self.count = match self.epoll.wait(&mut self.events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            waited => waited?,
        };
        Ok(())
    }

    /// The positions of those that the last wait found.
    pub(crate) fn ready(&self) -> impl Iterator<Item = usize> {
        self.events[..self.count].iter().map(|event| event.data() as usize)
    }

    /// Whose turn it is of those that the last wait found: all that are not heavy, and then one that is, each after the
    /// other. So what is light waits for one turn of what is heavy at most.
    pub(crate) fn turns<'s>(&'s mut self, is_heavy: &dyn Fn(usize) -> bool) -> impl Iterator<Item = usize> + use<'s> {
        let (last, all) = (self.last, self.events.len());
        let ready = &mut self.events[..self.count];
        // Light ones first, and of the others first whose turn is next.
        let rank = |position| if is_heavy(position) { 1 + (position + all - last - 1) % all } else { 0 };
        ready.sort_unstable_by_key(|event| rank(event.data() as usize));
        let light = ready.partition_point(|event| !is_heavy(event.data() as usize));
        if let Some(next) = ready.get(light) {
            self.last = next.data() as usize;
        }
        ready.iter().take(light + 1).map(|event| event.data() as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::eventfd::EventFd;

    use super::*;

    #[test]
    fn light_ones_have_every_turn_and_heavy_ones_one_after_the_other() {
        let files: Vec<_> = (0..5).map(|_| EventFd::new().unwrap()).collect();
        let mut readiness = Readiness::of(files.iter().map(AsFd::as_fd)).unwrap();
        let mut turns = || {
            readiness.wait().unwrap();
            readiness.turns(&|position| position < 3).collect::<Vec<_>>()
        };
        for ready in [0, 1, 2, 4] {
            files[ready].write(1).unwrap();
        }
        assert_eq!([turns(), turns(), turns(), turns()], [[4, 1], [4, 2], [4, 0], [4, 1]]);
        files[2].read().unwrap();
        files[4].read().unwrap();
        assert_eq!([turns(), turns(), turns()], [[0], [1], [0]]);
    }
}
