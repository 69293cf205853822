//! Carries packets between TUNs: one thread, one epoll, no allocation per packet.
//!
//! Super-packets pass whole, header and all, from TUN to TUN, which is most of the speed. Where it would show, the kernel
//! cuts them first: while there is a capture, and at the senders of a link that loses packets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};

use super::Attachment;
use super::capture::Capture;
use super::packet;
use super::pipe::{Buffers, Entry, Pipe};
use crate::error::{Doing, Result};
use crate::syscall::{self, Segmentation, TUN_HEADER};
use crate::topology::LinkQuality;

/// Packets taken from one TUN before the others get their turn.
const BATCH: usize = 64;

const LARGEST_FRAME: usize = TUN_HEADER + 65_535;

/// Keys of events that are not a TUN's.
const COMMANDS: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// What the WAN has done with packets since it started; a super-packet that was never cut counts as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    pub carried: u64,
    /// Taken by loss, a black hole between sites, or a block between machines.
    pub lost: u64,
    /// Dropped because too many were on their way.
    pub overflowed: u64,
    /// Addressed to nobody.
    pub unroutable: u64,
    /// Sent from an address that does not belong to the sender.
    pub foreign_source: u64,
    /// Not taken by the receiver.
    pub refused: u64,
}

/// A request to the thread that carries packets; it answers when the change is in force.
pub(super) struct Command {
    pub(super) change: Option<Change>,
    pub(super) answer: SyncSender<Statistics>,
}

/// Everything that is different from now on.
pub(super) struct Change {
    pub(super) attachments: Vec<Attachment>,
    /// TUNs of attachments that are new, or new under their name.
    pub(super) opened: BTreeMap<String, OwnedFd>,
    pub(super) links: Vec<(String, String, LinkQuality)>,
    pub(super) blocks: Vec<(IpAddr, IpAddr)>,
    pub(super) started: Option<Capture>,
    pub(super) stop_capture: bool,
}

/// Wakes the thread that carries packets.
#[derive(Clone)]
pub(super) struct Waker(Arc<EventFd>);

impl Waker {
    pub(super) fn wake(&self) {
        // Fails only when it has been woken 2^64 times and not looked.
        let _ = self.0.write(1);
    }
}

struct Port {
    name: String,
    tun: OwnedFd,
    site: usize,
    silent: bool,
    segmentation: Segmentation,
}

pub(super) struct Fabric {
    commands: Receiver<Command>,
    waker: Waker,
    epoll: Epoll,
    timer: TimerFd,
    /// By slot; packets on their way name their destination by it, so a slot is never given to another attachment.
    ports: Vec<Option<Port>>,
    sites: Vec<String>,
    /// From each site to each site, row by row.
    pipes: Vec<Pipe>,
    /// When to look at which pipe; a pipe that is not empty has one entry.
    agenda: BinaryHeap<Reverse<(Instant, usize)>>,
    routes_v4: HashMap<Ipv4Addr, usize>,
    routes_v6: Vec<(Ipv6Net, usize)>,
    blocks: HashSet<(IpAddr, IpAddr)>,
    capture: Option<Capture>,
    buffers: Buffers,
    statistics: Statistics,
}

impl Fabric {
    pub(super) fn new() -> Result<(Self, Sender<Command>, Waker)> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).doing(|| "make an epoll".into())?;
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        let waker = Waker(Arc::new(event.doing(|| "make an eventfd".into())?));
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).doing(|| "make a timer".into())?;
        let readable = |key| EpollEvent::new(EpollFlags::EPOLLIN, key);
        epoll.add(&*waker.0, readable(COMMANDS)).doing(|| "watch for commands".into())?;
        epoll.add(&timer, readable(TIMER)).doing(|| "watch the timer".into())?;
        let (sender, commands) = channel();
        let fabric = Self {
            commands,
            waker: waker.clone(),
            epoll,
            timer,
            ports: Vec::new(),
            sites: Vec::new(),
            pipes: Vec::new(),
            agenda: BinaryHeap::new(),
            routes_v4: HashMap::new(),
            routes_v6: Vec::new(),
            blocks: HashSet::new(),
            capture: None,
            buffers: Buffers::default(),
            statistics: Statistics::default(),
        };
        Ok((fabric, sender, waker))
    }

    /// Carries packets for as long as the sandbox exists.
    pub(super) fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let mut scratch = vec![0; LARGEST_FRAME];
        loop {
            let timeout = self.plan_wake_up();
            let ready = match self.epoll.wait(&mut events, timeout) {
                Err(nix::Error::EINTR) => 0,
                ready => ready.doing(|| "wait for packets".into())?,
            };
            for event in &events[..ready] {
                match event.data() {
                    COMMANDS => self.obey(),
                    TIMER => drop(self.timer.wait()),
                    slot => self.drain(slot as usize, &mut scratch),
                }
            }
            self.deliver_due();
            self.flush_capture();
        }
    }

    /// Sets the timer for the next packet to leave; zero if one is due already.
    fn plan_wake_up(&mut self) -> EpollTimeout {
        let Some(Reverse((next, _))) = self.agenda.peek() else { return EpollTimeout::NONE };
        let left = next.saturating_duration_since(Instant::now());
        if left < Duration::from_micros(1) {
            return EpollTimeout::ZERO;
        }
        match self.timer.set(Expiration::OneShot(left.into()), TimerSetTimeFlags::empty()) {
            Ok(()) => EpollTimeout::NONE,
            Err(_) => EpollTimeout::ZERO,
        }
    }

    fn drain(&mut self, slot: usize, scratch: &mut [u8]) {
        for _ in 0..BATCH {
            let Some(Some(port)) = self.ports.get(slot) else { return };
            let Ok(length @ 1..) = nix::unistd::read(&port.tun, scratch) else { return };
            self.carry(slot, &scratch[..length]);
        }
    }

    fn carry(&mut self, from: usize, frame: &[u8]) {
        let Some(packet) = frame.get(TUN_HEADER..) else { return };
        let Some((source, destination)) = packet::addresses(packet) else { return };
        if let Some(capture) = &mut self.capture
            && let Err(error) = capture.write(packet)
        {
            eprintln!("capture to {} ended: {error}", capture.path().display());
            self.capture = None;
        }
        if destination.is_multicast() {
            // The announcements of every interface; no internet carries them.
            self.statistics.unroutable += 1;
            return;
        }
        if self.route(source) != Some(from) {
            self.statistics.foreign_source += 1;
            return;
        }
        let target = self.route(destination).filter(|to| *to != from);
        let Some(to) = target else {
            self.statistics.unroutable += 1;
            return;
        };
        let (Some(Some(sender)), Some(Some(receiver))) = (self.ports.get(from), self.ports.get(to)) else { return };
        if sender.silent || receiver.silent || self.blocks.contains(&(source, destination)) {
            self.statistics.lost += 1;
            return;
        }
        let pipe = sender.site * self.sites.len() + receiver.site;
        let dice = (rand::random(), rand::random());
        match self.pipes[pipe].enter(Instant::now(), dice, to, frame, &mut self.buffers) {
            Entry::Queued { release, first: true } => self.agenda.push(Reverse((release, pipe))),
            Entry::Queued { .. } => {}
            Entry::Lost => self.statistics.lost += 1,
            Entry::Overflow => self.statistics.overflowed += 1,
        }
    }

    fn route(&self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(address) => self.routes_v4.get(&address).copied(),
            IpAddr::V6(address) => {
                self.routes_v6.iter().find(|(prefix, _)| prefix.contains(&address)).map(|(_, slot)| *slot)
            }
        }
    }

    fn deliver_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((due, pipe))) = self.agenda.peek().copied() {
            if due > now {
                return;
            }
            self.agenda.pop();
            while let Some(frame) = self.pipes[pipe].leave(now) {
                if let Some(Some(port)) = self.ports.get(frame.destination) {
                    match nix::unistd::write(&port.tun, &frame.bytes) {
                        Ok(_) => self.statistics.carried += 1,
                        Err(_) => self.statistics.refused += 1,
                    }
                }
                self.buffers.give_back(frame.bytes);
            }
            self.agenda.extend(self.pipes[pipe].next_release().map(|next| Reverse((next, pipe))));
        }
    }

    fn flush_capture(&mut self) {
        if let Some(capture) = &mut self.capture
            && let Err(error) = capture.flush()
        {
            eprintln!("capture to {} ended: {error}", capture.path().display());
            self.capture = None;
        }
    }

    fn obey(&mut self) {
        let _ = self.waker.0.read();
        while let Ok(Command { change, answer }) = self.commands.try_recv() {
            if let Some(change) = change {
                self.apply(change);
            }
            // Who asked may have left.
            let _ = answer.send(self.statistics);
        }
    }

    fn apply(&mut self, mut change: Change) {
        self.resize(&change.links);
        for port in &mut self.ports {
            let keeps = |port: &Port| {
                let stays = change.attachments.iter().any(|attachment| attachment.name == port.name);
                stays && !change.opened.contains_key(&port.name)
            };
            if let Some(gone) = port.take_if(|port| !keeps(port)) {
                let _ = self.epoll.delete(gone.tun.as_fd());
            }
        }
        self.routes_v4.clear();
        self.routes_v6.clear();
        for attachment in &change.attachments {
            let tun = change.opened.remove(&attachment.name);
            let Some(slot) = self.place(attachment, tun) else { continue };
            for prefix in &attachment.prefixes {
                match prefix {
                    IpNet::V4(prefix) => drop(self.routes_v4.insert(prefix.addr(), slot)),
                    IpNet::V6(prefix) => self.routes_v6.push((*prefix, slot)),
                }
            }
        }
        self.routes_v6.sort_by_key(|(prefix, _)| Reverse(prefix.prefix_len()));
        self.blocks = change.blocks.into_iter().collect();
        if change.started.is_some() || change.stop_capture {
            self.flush_capture();
            self.capture = change.started;
        }
        self.choose_segmentation(&change.links);
    }

    fn choose_segmentation(&mut self, links: &[(String, String, LinkQuality)]) {
        for port in self.ports.iter_mut().flatten() {
            let site = &self.sites[port.site];
            let loses = links.iter().any(|(from, _, quality)| quality.loss_percent > 0.0 && from == site);
            let wanted = if loses || self.capture.is_some() { Segmentation::ByKernel } else { Segmentation::Deferred };
            if port.segmentation != wanted && syscall::set_segmentation(port.tun.as_fd(), wanted).is_ok() {
                port.segmentation = wanted;
            }
        }
    }

    /// Brings an attachment up to date and returns its slot.
    fn place(&mut self, attachment: &Attachment, tun: Option<OwnedFd>) -> Option<usize> {
        let site = self.sites.iter().position(|site| *site == attachment.site)?;
        let silent = attachment.silent;
        if let Some(tun) = tun {
            let slot = self.ports.len();
            if let Err(errno) = self.epoll.add(&tun, EpollEvent::new(EpollFlags::EPOLLIN, slot as u64)) {
                eprintln!("{} cannot be watched: {errno}", attachment.name);
                return None;
            }
            let (name, segmentation) = (attachment.name.clone(), Segmentation::ByKernel);
            self.ports.push(Some(Port { name, tun, site, silent, segmentation }));
            return Some(slot);
        }
        let slot = self.ports.iter().position(|port| port.as_ref().is_some_and(|port| port.name == attachment.name))?;
        if let Some(port) = &mut self.ports[slot] {
            port.site = site;
            port.silent = silent;
        }
        Some(slot)
    }

    /// Makes a pipe for every pair of sites; those that stay keep what is on its way.
    fn resize(&mut self, links: &[(String, String, LinkQuality)]) {
        let mut sites: Vec<String> = links.iter().flat_map(|(from, to, _)| [from.clone(), to.clone()]).collect();
        sites.sort();
        sites.dedup();
        if sites != self.sites {
            self.pipes = (0..sites.len() * sites.len()).map(|_| Pipe::default()).collect();
            self.agenda.clear();
            self.sites = sites;
        }
        let index = |name: &str| self.sites.iter().position(|site| site == name);
        for (from, to, quality) in links {
            let (Some(from), Some(to)) = (index(from), index(to)) else { continue };
            self.pipes[from * self.sites.len() + to].set_quality(quality);
        }
    }
}
