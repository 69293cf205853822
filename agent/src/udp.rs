//! The host's one UDP port: IPv4 and IPv6 where the host has both, shared by the data threads. Many datagrams go through
//! one system call, and where the kernel can, through its stack as one.

use std::io;
use std::iter;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use cladnet_tunnel::ReceivedTrain;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::sockopt::{Mark, RcvBufForce, ReceiveTimestampns, SndBufForce, UdpGroSegment, UdpGsoSegment};
use nix::sys::socket::{getsockopt, setsockopt};
use socket2::{Domain, SockRef, Socket};
use tracing::debug;

use crate::offload::{OffloadPolicy, UdpOffloads};
use crate::readiness::Readiness;

mod holder;
mod lanes;
mod messages;
mod trains;

use messages::{BATCH, MESSAGE_LEN, Received};
use trains::Train;
pub(crate) use trains::{Trains, train_len};

/// What a peer's packets wait in, all flows of it one behind the other: it holds what comes in a burst, or while the reader
/// waits for a core. 3 ms at 5 Gbit/s, as the kernel adds as much again for its own overhead, which trains hardly have;
/// 16 ms at the 1 Gbit/s of a long way, whose TCP takes seconds to recover from a loss. More would make every packet of
/// the peer wait while TCP begins, before [`cladnet_tunnel::CoDel`] bounds what waits there for good. Of each socket; all
/// together no more than the system has for UDP (`net.ipv4.udp_mem`).
const RECEIVE_BUFFER: usize = 2_000_000;
/// What the first socket has instead, as what waits there is short and takes long: 10,000 handshakes, about a second's. So
/// none of a thousand peers' is lost that greet a host at once.
const GREETINGS_BUFFER: usize = 4_000_000;
/// How many long messages one turn takes: to open two full trains takes 0.1 ms, for which what may overtake waits. So many
/// handshakes, too, which take as long each.
const LONG_MESSAGES: usize = 2;
/// What counts as long, in bytes; of shorter ones a turn takes [`BATCH`].
const LONG_MESSAGE: usize = 16_000;
/// Holds what waits for the network interface: 1 ms at 10 Gbit/s. More would only make packets wait longer there, behind
/// those of others; while it is full, packets wait in the queues of the TUN, which are fair.
const SEND_BUFFER: usize = 1_250_000;

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

/// Unconnected sockets on one port: data waits in one of its lane, all else in the first. Addresses are given and taken in
/// their own family, also where IPv4 travels through IPv6 sockets.
#[derive(Debug)]
pub struct UdpSocket {
    /// As many as [`UdpSocket::queue_count`].
    sockets: Vec<Socket>,
    dual_stack: bool,
    /// Switched off when the kernel turns out to be unable.
    segment: AtomicBool,
    gro: bool,
    /// One for each socket; who waits also waits for that of its first.
    wakers: Vec<EventFd>,
}

/// A thread's wait for datagrams in its share of the queues.
#[derive(Debug)]
pub(crate) struct Waiting {
    queues: Vec<usize>,
    readiness: Readiness,
}

/// Where a thread receives datagrams; nothing is allocated after it was made.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    received: [Received; BATCH],
    count: usize,
    /// Of every queue, whether its last turn left some, or may have.
    is_crowded: [bool; lanes::SOCKETS],
    /// That of the last turn's.
    has_more: bool,
    /// How many the next turn of each queue takes.
    limits: [usize; lanes::SOCKETS],
    /// When they were taken, by the clock that the kernel stamps them by.
    taken_at: SystemTime,
}

/// Datagrams that came together.
pub(crate) struct Arrival<'a> {
    /// Where they lie in [`Inbox::bytes`].
    pub(crate) start: usize,
    /// How long they were in a queue that one turn does not empty. Nothing in one that it does, which waits for its reader
    /// alone, and where the kernel does not tell, as of that of handshakes.
    pub(crate) waited: Duration,
    pub(crate) train: ReceivedTrain<'a>,
}

impl Arrival<'_> {
    /// Takes the first datagram out, so that TCP hears of its loss by those behind it.
    pub(crate) fn drop_first(&mut self) {
        let datagrams = mem::take(&mut self.train.datagrams);
        let first = self.train.segment_size.min(datagrams.len());
        self.start += first;
        self.train.datagrams = &mut datagrams[first..];
    }
}

impl UdpSocket {
    /// Port 0 takes any free one.
    pub fn bind(port: u16, policy: OffloadPolicy) -> Result<Self, UdpError> {
        let (sockets, dual_stack) = match open(Domain::IPV6, port) {
            Ok(sockets) => (sockets, true),
            Err(error) if is_family_missing(&error) => {
                (open(Domain::IPV4, port).map_err(|error| refused(port, error))?, false)
            }
            Err(error) => return Err(refused(port, error)),
        };
        let wanted = policy == OffloadPolicy::WherePossible;
        let segment = wanted && getsockopt(&sockets[0], UdpGsoSegment).is_ok();
        let gro = wanted && sockets.iter().all(|socket| setsockopt(socket, UdpGroSegment, &true).is_ok());
        let waker = |_| EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wakers = sockets.iter().map(waker).collect::<nix::Result<_>>();
        let wakers = wakers.map_err(|error| UdpError::Open { port, source: error.into() })?;
        Ok(Self { sockets, dual_stack, segment: segment.into(), gro, wakers })
    }

    /// How many receive queues the port has.
    pub(crate) fn queue_count(&self) -> usize {
        self.sockets.len()
    }

    /// Queues of equal number are one thread's.
    pub(crate) fn group(queue: usize) -> usize {
        lanes::group(queue)
    }

    pub fn offloads(&self) -> UdpOffloads {
        UdpOffloads { segment: self.segment.load(Ordering::Relaxed), gro: self.gro }
    }

    pub fn local_port(&self) -> io::Result<u16> {
        let address = self.sockets[0].local_addr()?;
        Ok(address.as_socket().map_or(0, |address| address.port()))
    }

    /// Moves to another port beneath all who use the sockets; 0 takes any free one. What waits on the old port to be
    /// received is lost. On an error nothing has changed.
    pub fn rebind(&self, port: u16) -> Result<(), UdpError> {
        let domain = if self.dual_stack { Domain::IPV6 } else { Domain::IPV4 };
        let fresh = open(domain, port).map_err(|error| refused(port, error))?;
        self.take_place(&fresh).map_err(|source| UdpError::Open { port, source })
    }

    /// What the kernel's rules know our datagrams by; 0 is none.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        Ok(self.sockets.iter().try_for_each(|socket| setsockopt(socket, Mark, &mark))?)
    }

    /// Puts `fresh` behind our descriptors, with the settings of what was there.
    fn take_place(&self, fresh: &[Socket]) -> io::Result<()> {
        let mark = getsockopt(&self.sockets[0], Mark)?;
        for socket in fresh {
            if self.gro {
                setsockopt(socket, UdpGroSegment, &true)?;
            }
            setsockopt(socket, Mark, &mark)?;
        }
        self.sockets.iter().zip(fresh).try_for_each(|(place, fresh)| replace(place, fresh))?;
        // Whoever waits does so for what was there before.
        self.wake()
    }

    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.sockets[0].send_to(datagram, &self.outward(to).into()).map(drop)
    }

    /// Sends a datagram that no link on the way may cut; false if our own would have to. By a socket that nothing else is
    /// sent by, so that the packets of peers may go on being cut.
    pub(crate) fn send_whole(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<bool> {
        let (socket, is_v4) = (&self.sockets[1], to.ip().to_canonical().is_ipv4());
        // Sets the flag, whatever the kernel has heard of the path. A datagram that could be cut would tell a lie.
        discover_mtu(socket, is_v4, Discovery::Probe)?;
        match socket.send_to(datagram, &self.outward(to).into()) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => Ok(false),
            sent => sent.map(|_| true),
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

    /// For a thread that has this share of the queues, which are some; no other has any of them.
    pub(crate) fn waiting(&self, queues: Vec<usize>) -> io::Result<Waiting> {
        let readiness = self.readiness(&queues)?;
        Ok(Waiting { queues, readiness })
    }

    /// Of these queues in order, and then of what wakes their thread.
    fn readiness(&self, queues: &[usize]) -> nix::Result<Readiness> {
        let sockets = queues.iter().map(|queue| self.sockets[*queue].as_fd());
        Readiness::of(sockets.chain([self.wakers[queues[0]].as_fd()]))
    }

    /// Takes the datagrams of one turn from a queue, none if none are there.
    pub(crate) fn receive(&self, queue: usize, inbox: &mut Inbox) -> io::Result<()> {
        inbox.count = 0;
        let limit = inbox.limits[queue];
        match messages::receive(&self.sockets[queue], &mut inbox.bytes, &mut inbox.received[..limit]) {
            Ok(count) => {
                inbox.count = count;
                inbox.has_more = count == limit;
                inbox.is_crowded[queue] = count == limit;
                inbox.taken_at = SystemTime::now();
                inbox.foresee(queue);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn send_each<'a>(&self, trains: impl Iterator<Item = Train<'a>>, refused: &mut impl FnMut(SocketAddr, &io::Error)) {
        self.send_each_by(&|trains| messages::send(&self.sockets[0], trains), trains, refused);
    }

    /// `send` takes as many trains as it says, from the first on, or fails for the first.
    fn send_each_by<'a>(
        &self,
        send: &impl Fn(&[Train<'_>]) -> io::Result<usize>,
        trains: impl Iterator<Item = Train<'a>>,
        refused: &mut impl FnMut(SocketAddr, &io::Error),
    ) {
        let outward = trains.map(|train| Train { to: self.outward(train.to), ..train });
        if self.segment.load(Ordering::Relaxed) {
            send_all(send, outward, &mut |train, error| self.send_apart(send, train, error, refused));
        } else {
            send_all(send, outward.flat_map(Train::datagrams), &mut |train, error| refused(inward(train.to), error));
        }
    }

    /// A train that the kernel does not cut goes datagram by datagram. EINVAL and EMSGSIZE are about this path, whose
    /// MTU is less than the datagrams' length: then they are to be fragmented, which is not done to trains. EIO is
    /// about what carries it, which cannot compute checksums (kernels before 6.11), and will be the same next time.
    fn send_apart(
        &self,
        send: &impl Fn(&[Train<'_>]) -> io::Result<usize>,
        train: Train<'_>,
        error: &io::Error,
        refused: &mut impl FnMut(SocketAddr, &io::Error),
    ) {
        let is_for_trains = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE));
        if train.is_single() || !is_for_trains {
            return train.datagrams().for_each(|datagram| refused(inward(datagram.to), error));
        }
        if error.raw_os_error() == Some(libc::EIO) {
            self.segment.store(false, Ordering::Relaxed);
        }
        send_all(send, train.datagrams(), &mut |datagram, error| refused(inward(datagram.to), error));
    }

    /// Ends the waits of all threads, or their next ones.
    pub fn wake(&self) -> io::Result<()> {
        Ok(self.wakers.iter().try_for_each(|waker| waker.write(1).map(drop))?)
    }

    fn outward(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(address) if self.dual_stack => SocketAddr::from((address.to_ipv6_mapped(), to.port())),
            _ => to,
        }
    }
}

impl Waiting {
    /// The queues whose turn it is of those that hold datagrams, which are taken into `inbox`; none if it was woken.
    pub(crate) fn wait<'s>(
        &'s mut self,
        socket: &UdpSocket,
        inbox: &Inbox,
    ) -> io::Result<impl Iterator<Item = usize> + use<'s>> {
        let Self { queues, readiness } = self;
        readiness.wait()?;
        let waker = queues.len();
        if readiness.ready().any(|position| position == waker) {
            // There may be other sockets behind the descriptors, and the kernel waits for sockets. Should it fail, the waker
            // is not read, so the next wait ends at once and tries again.
            *readiness = socket.readiness(queues)?;
            // Fails if it was read already.
            let _ = socket.wakers[queues[0]].read();
        }
        // A queue that a flood fills has no turn before others.
        let is_heavy = |position: usize| {
            queues.get(position).is_some_and(|queue| lanes::is_heavy(*queue) || inbox.is_crowded[*queue])
        };
        Ok(readiness.turns(&is_heavy).filter_map(|position| queues.get(position).copied()))
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let (bytes, received) = (vec![0; BATCH * MESSAGE_LEN], [Received::default(); BATCH]);
        let mut limits = [BATCH; lanes::SOCKETS];
        limits[0] = LONG_MESSAGES;
        Self {
            bytes,
            received,
            count: 0,
            is_crowded: [false; lanes::SOCKETS],
            has_more: false,
            limits,
            taken_at: SystemTime::UNIX_EPOCH,
        }
    }

    /// The next turn of a queue is to be no longer than others: its messages will be as those that it held now.
    fn foresee(&mut self, queue: usize) {
        let bytes: usize = self.received[..self.count].iter().map(|message| message.len).sum();
        if queue > 0 {
            self.limits[queue] = if bytes > self.count * LONG_MESSAGE { LONG_MESSAGES } else { BATCH };
        }
    }

    /// What the last [`UdpSocket::receive`] took, in order.
    pub(crate) fn arrivals(&mut self) -> impl Iterator<Item = Arrival<'_>> {
        let (taken_at, has_more) = (self.taken_at, self.has_more);
        let received = self.received[..self.count].iter().zip(self.bytes.chunks_exact_mut(MESSAGE_LEN)).enumerate();
        received.filter_map(move |(index, (message, bytes))| {
            let segment_size = message.segment.unwrap_or(message.len).max(1);
            let from = inward(message.from?);
            // If the clock was set back in between, they have not waited.
            let at = message.at.filter(|_| has_more);
            let waited = at.and_then(|at| taken_at.duration_since(at).ok()).unwrap_or_default();
            let train = ReceivedTrain { from, datagrams: &mut bytes[..message.len], segment_size };
            Some(Arrival { start: index * MESSAGE_LEN, waited, train })
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn send_all<'a>(
    send: &impl Fn(&[Train<'_>]) -> io::Result<usize>,
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
            match send(rest) {
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

/// Keeps the scope of a link-local address.
fn inward(from: SocketAddr) -> SocketAddr {
    match from.ip().to_canonical() {
        IpAddr::V4(address) => SocketAddr::from((address, from.port())),
        IpAddr::V6(_) => from,
    }
}

fn open(domain: Domain, port: u16) -> io::Result<Vec<Socket>> {
    let any: IpAddr = if domain == Domain::IPV6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let sockets = lanes::bind(domain, any, port)?;
    let receive_buffers = iter::once(GREETINGS_BUFFER).chain(iter::repeat(RECEIVE_BUFFER));
    for (socket, receive_buffer) in sockets.iter().zip(receive_buffers) {
        set_buffers(socket, receive_buffer);
        allow_fragmentation(socket, domain);
    }
    for lane in &sockets[1..] {
        if let Err(error) = setsockopt(lane, ReceiveTimestampns, &true) {
            debug!(%error, "it is not known how long datagrams wait to be read, so their queues may stand");
        }
    }
    Ok(sockets)
}

/// Beyond the system's limit if we may, else up to it.
fn set_buffers(socket: &Socket, receive: usize) {
    if setsockopt(socket, RcvBufForce, &receive).is_err() {
        let _ = SockRef::from(socket).set_recv_buffer_size(receive);
    }
    if setsockopt(socket, SndBufForce, &SEND_BUFFER).is_err() {
        let _ = SockRef::from(socket).set_send_buffer_size(SEND_BUFFER);
    }
}

/// As the kernel's WireGuard: a path narrower than we assume carries our datagrams in fragments instead of not at all.
fn allow_fragmentation(socket: &Socket, domain: Domain) {
    let _ = discover_mtu(socket, true, Discovery::Off);
    if domain == Domain::IPV6 {
        let _ = discover_mtu(socket, false, Discovery::Off);
    }
}

/// The descriptor of `place` becomes one of `socket`, in one step for all threads.
#[expect(unsafe_code, reason = "the safe wrapper wants a descriptor that nobody else uses")]
fn replace(place: &Socket, socket: &Socket) -> io::Result<()> {
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
fn discover_mtu(socket: &impl AsRawFd, is_v4: bool, discovery: Discovery) -> io::Result<()> {
    let (level, option, value) = match (is_v4, discovery) {
        (true, Discovery::Off) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
        (true, Discovery::Probe) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        (false, Discovery::Off) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        (false, Discovery::Probe) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    };
    // SAFETY: the descriptor is open, and the value is an int that outlives the call, as both options ask for.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
