//! The TUN device: how inner packets enter and leave the kernel, many at once where it can, through queues that fill and
//! overflow each for itself. Addresses and routes are `netlink`'s business.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::iter;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Instant;

use cladnet_tunnel::offload::{MAX_SEGMENTS, Mergeable, SuperPacket, VirtioNetHeader};
use nix::sys::uio::{readv, writev};

use crate::offload::{OffloadPolicy, TunOffloads};
use crate::readiness::Readiness;

mod merging;
mod queue;
mod steering;

use merging::Merging;
use steering::Steering;

/// How many queues a device has. The kernel puts a flow into one of them by its hash, and what one does not hold is lost:
/// so a flood harms one flow in this many. More would make it fewer, for a descriptor each; a host in sixteen networks
/// stays below the usual 1024. Each holds `txqueuelen` packets, of which the kernel's 500 are 2 ms at 3 Gbit/s, as a
/// thread may have to wait for a core: 0.7 MB, or 32 MB where a flood is of super-packets.
pub const QUEUES: usize = 16;

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
#[derive(Debug)]
pub struct Tun {
    /// At least one.
    queues: Vec<OwnedFd>,
    /// None: packets go without a virtio header.
    offloads: Option<TunOffloads>,
    merging: Merging,
    steering: Steering,
}

impl Tun {
    /// An interface that is there already, made by others to be kept, is taken as it is: with one queue.
    pub fn open(name: &str, policy: OffloadPolicy) -> Result<Self, TunError> {
        let with_header = policy == OffloadPolicy::WherePossible;
        let opened = match queue::create(name, with_header) {
            Ok(first) => iter::once(Ok(first))
                .chain((1..QUEUES).map(|_| queue::attach(name, with_header)))
                .collect::<io::Result<Vec<_>>>(),
            Err(error) if queue::is_taken(&error) => existing(name, with_header).map(|device| vec![device]),
            Err(error) => Err(error),
        };
        let queues = opened.map_err(|error| refused(name, error))?;
        let offloads = with_header.then(|| offload(&queues));
        let merging = Merging::new(offloads.unwrap_or_default());
        let steering = Steering::new(Instant::now(), queues.len());
        Ok(Self { queues, offloads, merging, steering })
    }

    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    pub fn offloads(&self) -> TunOffloads {
        self.offloads.unwrap_or_default()
    }

    /// What packets written to it may be merged into.
    pub fn mergeable(&self) -> Mergeable {
        self.merging.mergeable()
    }

    /// For waiting until there is a packet to receive in one of these queues, or the device is gone.
    pub(crate) fn readiness(&self, queues: &[usize]) -> io::Result<Readiness> {
        Ok(Readiness::of(queues.iter().map(|queue| self.queues[*queue].as_fd()))?)
    }

    /// A packet that the kernel routes into the interface, by this queue, or `WouldBlock`.
    pub fn receive(
        &self,
        queue: usize,
        header: &mut [u8; VirtioNetHeader::LEN],
        packet: &mut [u8],
    ) -> io::Result<usize> {
        let queue = &self.queues[queue];
        if self.offloads.is_none() {
            *header = Default::default();
            return Ok(readv(queue, &mut [IoSliceMut::new(packet)])?);
        }
        let len = readv(queue, &mut [IoSliceMut::new(header), IoSliceMut::new(packet)])?;
        Ok(len.saturating_sub(VirtioNetHeader::LEN))
    }

    /// Notes how many packets a turn took from a queue, and whether it left some.
    pub(crate) fn note_turn(&self, now: Instant, queue: usize, packets: usize, is_flooded: bool) {
        self.steering.note_turn(now, queue, packets, is_flooded);
    }

    /// Hands packets to the kernel as if they had arrived on the interface. `refused` hears of every one that it did not
    /// take.
    pub fn send(&self, packet: &mut SuperPacket<'_>, refused: impl FnMut(&io::Error)) {
        let queue = &self.queues[self.steering.queue(Instant::now(), packet.first())];
        let skipped = if self.offloads.is_some() { 0 } else { VirtioNetHeader::LEN };
        self.merging.send(packet, |packet| write(queue, skipped, packet), refused);
    }
}

fn write(queue: &OwnedFd, skipped: usize, packet: &mut SuperPacket<'_>) -> io::Result<()> {
    let (headers, mut payloads) = packet.parts();
    let count = 1 + payloads.len();
    let slices: [IoSlice<'_>; 1 + MAX_SEGMENTS] = array::from_fn(|index| match index {
        0 => IoSlice::new(&headers[skipped..]),
        _ => IoSlice::new(payloads.next().unwrap_or_default()),
    });
    Ok(writev(queue, &slices[..count]).map(drop)?)
}

/// The queue by which a device that is new would take a packet: for the fuzzer.
#[doc(hidden)]
pub fn queue_of(packet: &[u8]) -> usize {
    let now = Instant::now();
    Steering::new(now, QUEUES).queue(now, packet)
}

/// Whether the device behind a descriptor was deleted.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::EFAULT | libc::ENODEV))
}

fn existing(name: &str, with_header: bool) -> io::Result<OwnedFd> {
    let mut config = tun::Configuration::default();
    config.tun_name(name);
    // Leaves every setting of the interface to netlink.
    config.platform_config(|platform| {
        platform.ensure_root_privileges(false).vnet_hdr(with_header);
    });
    let device = tun::create(&config)?;
    device.set_nonblock()?;
    Ok(owned(device))
}

/// The library's device knows nothing of headers apart; all that is needed of it is the descriptor.
#[expect(unsafe_code, reason = "the library gives its descriptor as a number")]
fn owned(device: tun::Device) -> OwnedFd {
    // SAFETY: the descriptor is open, and nobody else's any more.
    unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) }
}

/// Agrees with the kernel on as much as it has; what is agreed on through one queue holds for the device.
fn offload(queues: &[OwnedFd]) -> TunOffloads {
    let checksum = TunOffloads { checksum: true, ..TunOffloads::default() };
    let tcp = TunOffloads { tso4: true, tso6: true, ..checksum };
    let udp = TunOffloads { uso: true, ..tcp };
    [udp, tcp, checksum]
        .into_iter()
        .find(|wanted| queues.iter().all(|queue| set_offload(queue, *wanted)))
        .unwrap_or_default()
}

#[expect(unsafe_code, reason = "no safe wrapper knows TUNSETOFFLOAD")]
fn set_offload(queue: &OwnedFd, wanted: TunOffloads) -> bool {
    nix::ioctl_write_int!(tunsetoffload, b'T', 208);
    let flags = [
        (wanted.checksum, libc::TUN_F_CSUM),
        (wanted.tso4, libc::TUN_F_TSO4 | libc::TUN_F_TSO_ECN),
        (wanted.tso6, libc::TUN_F_TSO6),
        (wanted.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6),
    ];
    let flags = flags.into_iter().filter(|(wanted, _)| *wanted).fold(0, |flags, (_, flag)| flags | flag);
    // SAFETY: the descriptor is open, and the argument is flags by value.
    unsafe { tunsetoffload(queue.as_raw_fd(), flags.into()) }.is_ok()
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
