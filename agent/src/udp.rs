//! The host's one UDP socket: IPv4 and IPv6 where the host has both, shared by the data threads. Many datagrams go
//! through one system call, and where the kernel can, through its stack as one.

use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use cladnet_tunnel::ReceivedTrain;
use nix::sys::socket::sockopt::{Mark, RcvBufForce, SndBufForce, UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{getsockopt, setsockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::offload::{OffloadPolicy, UdpOffloads};

mod holder;
mod messages;
mod trains;

use messages::{BATCH, MESSAGE_LEN, Received};
use trains::Train;
pub(crate) use trains::{Trains, train_len};

/// Holds what arrives while the reader waits for a core: 10 ms at 5 Gbit/s, and as much again for the kernel's
/// overhead.
const BUFFER_BYTES: usize = 8 << 20;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    #[error("UDP port {port} is in use{}: stop that program or choose another port", by(.holder.as_deref()))]
    PortInUse { port: u16, holder: Option<String> },
    #[error("cannot open UDP port {port}")]
    Open { port: u16, source: io::Error },
}

fn by(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// An unconnected socket. Addresses are given and taken in their own family, also where IPv4 travels through the IPv6
/// socket.
#[derive(Debug)]
pub struct UdpSocket {
    socket: std::net::UdpSocket,
    dual_stack: bool,
    /// Switched off when the kernel turns out to be unable.
    segment: AtomicBool,
    gro: bool,
}

/// Where a thread receives datagrams; nothing is allocated after it was made.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    received: [Received; BATCH],
    count: usize,
}

impl UdpSocket {
    /// Port 0 takes any free one.
    pub fn bind(port: u16, policy: OffloadPolicy) -> Result<Self, UdpError> {
        let (socket, dual_stack) = match open(Domain::IPV6, port) {
            Ok(socket) => (socket, true),
            Err(error) if is_family_missing(&error) => {
                (open(Domain::IPV4, port).map_err(|error| refused(port, error))?, false)
            }
            Err(error) => return Err(refused(port, error)),
        };
        let wanted = policy == OffloadPolicy::WherePossible;
        let segment = wanted && getsockopt(&socket, UdpGsoSegment).is_ok();
        let gro = wanted && setsockopt(&socket, UdpGroSegment, &true).is_ok();
        Ok(Self { socket: socket.into(), dual_stack, segment: segment.into(), gro })
    }

    pub fn offloads(&self) -> UdpOffloads {
        UdpOffloads { segment: self.segment.load(Ordering::Relaxed), gro: self.gro }
    }

    pub fn local_port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|address| address.port())
    }

    /// Moves to another port beneath all who use the socket; 0 takes any free one. What waits on the old port to be
    /// received is lost. On an error nothing has changed.
    pub fn rebind(&self, port: u16) -> Result<(), UdpError> {
        let domain = if self.dual_stack { Domain::IPV6 } else { Domain::IPV4 };
        let fresh = open(domain, port).map_err(|error| refused(port, error))?;
        self.take_place(&fresh).map_err(|source| UdpError::Open { port, source })
    }

    /// What the kernel's rules know our datagrams by; 0 is none.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        Ok(setsockopt(&self.socket, Mark, &mark)?)
    }

    /// Puts `fresh` behind our descriptor, with the settings of what was there.
    fn take_place(&self, fresh: &Socket) -> io::Result<()> {
        if self.gro {
            setsockopt(fresh, UdpGroSegment, &true)?;
        }
        setsockopt(fresh, Mark, &getsockopt(&self.socket, Mark)?)?;
        let old = self.socket.try_clone()?;
        replace(&self.socket, fresh)?;
        // Says that it is not connected, and ends every wait for a datagram all the same.
        let _ = SockRef::from(&old).shutdown(Shutdown::Read);
        Ok(())
    }

    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, self.outward(to)).map(drop)
    }

    /// Sends a datagram that no link on the way may cut; false if our own would have to. What other threads send in the
    /// meantime may not be cut either: so this is for the few datagrams that find out what a path carries.
    pub(crate) fn send_whole(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<bool> {
        let is_v4 = to.ip().to_canonical().is_ipv4();
        // Sets the flag, whatever the kernel has heard of the path.
        discover_mtu(&self.socket, is_v4, Discovery::Probe);
        let sent = self.send(to, datagram);
        discover_mtu(&self.socket, is_v4, Discovery::Off);
        match sent {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Ok(false),
            sent => sent.map(|()| true),
        }
    }

    /// Sends what was gathered. `refused` hears of every datagram that was not sent; the others go on.
    pub(crate) fn send_trains(&self, trains: &mut Trains, mut refused: impl FnMut(SocketAddr, &io::Error)) {
        self.send_each(trains.iter(), &mut refused);
        trains.clear();
    }

    /// The same for one train that lies where it was made.
    pub(crate) fn send_train(
        &self,
        to: SocketAddr,
        datagrams: &[u8],
        segment: usize,
        mut refused: impl FnMut(SocketAddr, &io::Error),
    ) {
        self.send_each(iter::once(Train { to, bytes: datagrams, segment }), &mut refused);
    }

    /// Waits for datagrams.
    pub(crate) fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.count = 0;
        inbox.count = messages::receive(&self.socket, &mut inbox.bytes, &mut inbox.received)?;
        Ok(())
    }

    fn send_each<'a>(&self, trains: impl Iterator<Item = Train<'a>>, refused: &mut impl FnMut(SocketAddr, &io::Error)) {
        let outward = trains.map(|train| Train { to: self.outward(train.to), ..train });
        if self.segment.load(Ordering::Relaxed) {
            self.send_all(outward, &mut |train, error| self.send_apart(train, error, refused));
        } else {
            self.send_all(outward.flat_map(Train::datagrams), &mut |train, error| refused(inward(train.to), error));
        }
    }

    fn send_all<'a>(
        &self,
        mut trains: impl Iterator<Item = Train<'a>>,
        refused: &mut impl FnMut(Train<'a>, &io::Error),
    ) {
        while let Some(first) = trains.next() {
            let mut batch = [first; BATCH];
            let mut count = 1;
            for (place, train) in batch[1..].iter_mut().zip(&mut trains) {
                *place = train;
                count += 1;
            }
            let mut rest = &batch[..count];
            while let Some(first) = rest.first() {
                match messages::send(&self.socket, rest) {
                    Ok(sent) => rest = &rest[sent..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        refused(*first, &error);
                        rest = &rest[1..];
                    }
                }
            }
        }
    }

    /// A train that the kernel does not cut goes datagram by datagram. EINVAL and EMSGSIZE are about this path, whose
    /// MTU is less than the datagrams' length: then they are to be fragmented, which is not done to trains. EIO is
    /// about what carries it, which cannot compute checksums (kernels before 6.11), and will be the same next time.
    fn send_apart(&self, train: Train<'_>, error: &io::Error, refused: &mut impl FnMut(SocketAddr, &io::Error)) {
        let is_for_trains = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE));
        if train.is_single() || !is_for_trains {
            return train.datagrams().for_each(|datagram| refused(inward(datagram.to), error));
        }
        if error.raw_os_error() == Some(libc::EIO) {
            self.segment.store(false, Ordering::Relaxed);
        }
        self.send_all(train.datagrams(), &mut |datagram, error| refused(inward(datagram.to), error));
    }

    /// Makes one pending [`UdpSocket::receive`] return: an empty datagram to ourselves.
    pub fn wake(&self) -> io::Result<()> {
        self.send(SocketAddr::from((Ipv4Addr::LOCALHOST, self.local_port()?)), &[])
    }

    fn outward(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(address) if self.dual_stack => SocketAddr::from((address.to_ipv6_mapped(), to.port())),
            _ => to,
        }
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; BATCH * MESSAGE_LEN], received: [Received::default(); BATCH], count: 0 }
    }

    /// What the last [`UdpSocket::receive`] took, in order, each with where it lies in [`Inbox::bytes`].
    pub(crate) fn trains(&mut self) -> impl Iterator<Item = (usize, ReceivedTrain<'_>)> {
        let received = self.received[..self.count].iter().zip(self.bytes.chunks_exact_mut(MESSAGE_LEN)).enumerate();
        received.filter_map(|(index, (message, bytes))| {
            let segment_size = message.segment.unwrap_or(message.len).max(1);
            let from = inward(message.from?);
            Some((index * MESSAGE_LEN, ReceivedTrain { from, datagrams: &mut bytes[..message.len], segment_size }))
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Keeps the scope of a link-local address.
fn inward(from: SocketAddr) -> SocketAddr {
    match from.ip().to_canonical() {
        IpAddr::V4(address) => SocketAddr::from((address, from.port())),
        IpAddr::V6(_) => from,
    }
}

fn open(domain: Domain, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    let any: IpAddr = if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    socket.bind(&SocketAddr::new(any, port).into())?;
    enlarge_buffers(&socket);
    allow_fragmentation(&socket, domain);
    Ok(socket)
}

/// Beyond the system's limit if we may, else up to it.
fn enlarge_buffers(socket: &Socket) {
    if setsockopt(socket, RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = SockRef::from(socket).set_recv_buffer_size(BUFFER_BYTES);
    }
    if setsockopt(socket, SndBufForce, &BUFFER_BYTES).is_err() {
        let _ = SockRef::from(socket).set_send_buffer_size(BUFFER_BYTES);
    }
}

/// As the kernel's WireGuard: a path narrower than we assume carries our datagrams in fragments instead of not at all.
fn allow_fragmentation(socket: &Socket, domain: Domain) {
    discover_mtu(socket, true, Discovery::Off);
    if domain == Domain::IPV6 {
        discover_mtu(socket, false, Discovery::Off);
    }
}

/// The descriptor of `place` becomes one of `socket`, in one step for all threads.
#[expect(unsafe_code, reason = "the safe wrapper wants a descriptor that nobody else uses")]
fn replace(place: &std::net::UdpSocket, socket: &Socket) -> io::Result<()> {
    // SAFETY: both descriptors are open, and that of `place` stays one of a UDP socket, its owner's to close.
    let replaced = unsafe { libc::dup3(socket.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) };
    if replaced < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What the kernel does about the MTU of paths.
#[derive(Debug, Clone, Copy)]
enum Discovery {
    /// Datagrams may be cut, here and on the way.
    Off,
    /// None may be, and what the kernel has heard of a path does not count.
    Probe,
}

#[expect(unsafe_code, reason = "no safe wrapper knows IP_MTU_DISCOVER")]
fn discover_mtu(socket: &impl AsRawFd, is_v4: bool, discovery: Discovery) {
    let (level, option, value) = match (is_v4, discovery) {
        (true, Discovery::Off) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
        (true, Discovery::Probe) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        (false, Discovery::Off) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        (false, Discovery::Probe) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    // SAFETY: the descriptor is open, and the value is an int that outlives the call, as both options ask for.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

fn refused(port: u16, source: io::Error) -> UdpError {
    match source.kind() {
        io::ErrorKind::AddrInUse => UdpError::PortInUse { port, holder: holder::of(port) },
        _ => UdpError::Open { port, source },
    }
}

#[cfg(test)]
mod tests;
