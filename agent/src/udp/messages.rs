//! `sendmmsg` and `recvmmsg`, each message with the length of its segments beside it (udp(7), `UDP_SEGMENT` and
//! `UDP_GRO`). Of the wrappers there are, none can give every message its own.
#![expect(unsafe_code, reason = "system calls on arrays of pointers")]

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::{SockAddr, SockAddrStorage};

use super::trains::Train;

/// Messages of one call: more than one are there when trains are short.
pub(super) const BATCH: usize = 8;
/// The longest datagram, and the longest train that the kernel gathers.
pub(super) const MESSAGE_LEN: usize = 1 << 16;

/// A control message that holds one number: the only kind that is sent.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    data: [u8; 8],
}

/// Room for all that comes beside a message: when it came, and the length of its segments.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Beside([u8; 64]);

/// What one message was: bytes of a buffer of [`MESSAGE_LEN`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) len: usize,
    pub(super) from: Option<SocketAddr>,
    /// Length of every datagram in it but the last, if there are several.
    pub(super) segment: Option<usize>,
    /// When it came, if the socket was asked to tell.
    pub(super) at: Option<SystemTime>,
}

/// Sends the first [`BATCH`] of these; an error is about the first of them, and none was sent. Addresses are in the
/// family of the socket.
pub(super) fn send(socket: &impl AsFd, trains: &[Train<'_>]) -> io::Result<usize> {
    let count = trains.len().min(BATCH);
    let mut controls: [Control; BATCH] = zeroed();
    let mut vectors: [libc::iovec; BATCH] = zeroed();
    let mut messages: [libc::mmsghdr; BATCH] = zeroed();
    let addresses: [Option<SockAddr>; BATCH] =
        std::array::from_fn(|index| trains.get(index).map(|train| train.to.into()));
    for (index, (train, address)) in trains.iter().zip(addresses.iter().flatten()).enumerate() {
        vectors[index] = libc::iovec { iov_base: train.bytes.as_ptr().cast_mut().cast(), iov_len: train.bytes.len() };
        let message = &mut messages[index].msg_hdr;
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        message.msg_iov = &raw mut vectors[index];
        message.msg_iovlen = 1;
        if !train.is_single() {
            controls[index] = Control::segment(train.segment as u16);
            message.msg_control = (&raw mut controls[index]).cast();
            message.msg_controllen = Control::space(2);
        }
    }
    // SAFETY: the descriptor is open; every pointer of the first `count` messages is to an array above or to bytes that
    // `trains` borrows, with the length that is there, and the kernel writes only into `messages`.
    let sent = unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), messages.as_mut_ptr(), count as _, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

/// Takes as many messages as are there and `received` holds, up to [`BATCH`], or fails with `WouldBlock`. `bytes` holds as
/// many of [`MESSAGE_LEN`].
pub(super) fn receive(socket: &impl AsFd, bytes: &mut [u8], received: &mut [Received]) -> io::Result<usize> {
    let mut controls: [Beside; BATCH] = zeroed();
    let mut addresses: [SockAddrStorage; BATCH] = std::array::from_fn(|_| SockAddrStorage::zeroed());
    let mut vectors: [libc::iovec; BATCH] = zeroed();
    let mut messages: [libc::mmsghdr; BATCH] = zeroed();
    let buffers = bytes.chunks_exact_mut(MESSAGE_LEN).take(received.len().min(BATCH));
    let count = buffers.len();
    for (index, buffer) in buffers.enumerate() {
        vectors[index] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let message = &mut messages[index].msg_hdr;
        message.msg_name = (&raw mut addresses[index]).cast();
        message.msg_namelen = addresses[index].size_of();
        message.msg_iov = &raw mut vectors[index];
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut controls[index]).cast();
        message.msg_controllen = size_of::<Beside>() as _;
    }
    // SAFETY: the descriptor is open; every pointer of the first `count` messages is to an array above or to a part of
    // `bytes`, each its own, with the length that is there.
    let taken = unsafe {
        libc::recvmmsg(
            socket.as_fd().as_raw_fd(),
            messages.as_mut_ptr(),
            count as _,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    };
    if taken < 0 {
        return Err(io::Error::last_os_error());
    }
    for ((message, storage), received) in messages.iter().zip(addresses).zip(received.iter_mut()).take(taken as usize) {
        // SAFETY: the kernel has written an address of this length, or none.
        let from = unsafe { SockAddr::new(storage, message.msg_hdr.msg_namelen) };
        *received = Received { len: message.msg_len as usize, from: from.as_socket(), ..Received::default() };
        received.note(&message.msg_hdr);
    }
    Ok(taken as usize)
}

impl Received {
    /// Takes what the kernel wrote beside the message.
    fn note(&mut self, message: &libc::msghdr) {
        // SAFETY: the header points to what the kernel has filled, as far as it says; so does every next one.
        let mut control = unsafe { libc::CMSG_FIRSTHDR(message) };
        while !control.is_null() {
            // SAFETY: as above, and the data of these two kinds are of these types, at any alignment.
            unsafe {
                let data = libc::CMSG_DATA(control);
                match ((*control).cmsg_level, (*control).cmsg_type) {
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        self.segment = usize::try_from(data.cast::<libc::c_int>().read_unaligned()).ok();
                    }
                    (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                        let at = data.cast::<libc::timespec>().read_unaligned();
                        self.at = u64::try_from(at.tv_sec)
                            .ok()
                            .map(|seconds| UNIX_EPOCH + Duration::new(seconds, at.tv_nsec as u32));
                    }
                    _ => {}
                }
                control = libc::CMSG_NXTHDR(message, control);
            }
        }
    }
}

impl Control {
    fn segment(len: u16) -> Self {
        let mut control: [Self; 1] = zeroed();
        control[0].header.cmsg_level = libc::SOL_UDP;
        control[0].header.cmsg_type = libc::UDP_SEGMENT;
        control[0].header.cmsg_len = Self::len(2);
        control[0].data[..2].copy_from_slice(&len.to_ne_bytes());
        control[0]
    }

    fn len(data: u32) -> usize {
        // SAFETY: only computes.
        (unsafe { libc::CMSG_LEN(data) }) as usize
    }

    fn space(data: u32) -> usize {
        // SAFETY: only computes.
        (unsafe { libc::CMSG_SPACE(data) }) as usize
    }
}

/// Arrays of the kernel's structures, empty.
trait Plain: Copy {}
impl Plain for Control {}
impl Plain for Beside {}
impl Plain for libc::iovec {}
impl Plain for libc::mmsghdr {}

fn zeroed<T: Plain, const N: usize>() -> [T; N] {
    // SAFETY: of these structures all bytes zero is a valid value: numbers, and pointers to nothing.
    unsafe { mem::zeroed() }
}
