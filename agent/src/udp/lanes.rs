//! Several sockets on one port: data goes to one of two of its lane, all else to the first. Each has a receive queue of
//! its own, so that what floods one is lost there, and neither other peers' data nor what strangers send waits with it.
//! What may overtake waits apart from the other data of its lane.

use std::io;
use std::net::{IpAddr, SocketAddr};

use cladnet_tunnel::{LANE_AT, LANES, QUEUES};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::debug;

/// One for each queue of data, behind the one for all else.
pub(super) const SOCKETS: usize = 1 + QUEUES;

/// Which sockets are to be read by one thread: both of a lane, so that nothing is overtaken by what was sent after it and
/// is no faster.
pub(super) fn group(socket: usize) -> usize {
    socket % LANES
}

/// Whether what waits there is read by turns, one socket after the other; the rest is read before.
pub(super) fn is_heavy(socket: usize) -> bool {
    socket <= LANES
}

/// Binds them; the port is shared among them and with nobody who was there before.
pub(super) fn bind(domain: Domain, address: IpAddr, port: u16) -> io::Result<Vec<Socket>> {
    let first = new(domain)?;
    first.bind(&SocketAddr::new(address, port).into())?;
    // Only now: before, it would have joined others that share the port.
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..SOCKETS {
        let next = new(domain)?;
        next.set_reuse_port(true)?;
        next.bind(&bound)?;
        sockets.push(next);
    }
    if let Err(error) = sort(&sockets[0]) {
        // The kernel goes on by a hash of the addresses: a peer still has one socket, if not one for its lane.
        debug!(%error, "datagrams not sorted by lanes");
    }
    Ok(sockets)
}

fn new(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Has the kernel sort as [`cladnet_tunnel::queue`] would.
fn sort(member: &Socket) -> io::Result<()> {
    let mut program = program();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(member, AttachReusePortCbpf, &program)?)
}

/// Run on what UDP carries; the result is the position of a socket. A byte that is not there gives 0.
fn program() -> [libc::sock_filter; 10] {
    let step = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let otherwise_skip = |code, k, jf| libc::sock_filter { jf, ..step(code, k) };
    let skip = |count| step(libc::BPF_JMP | libc::BPF_JA, count);
    let load_byte = |at: usize| step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, at as u32);
    // The three bytes behind a type are 0.
    let is_type = |of: u8, jf| otherwise_skip(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, u32::from(of) << 24, jf);
    let [(data, data_at), (clear, clear_at)] = LANE_AT;
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        is_type(data, 2),
        load_byte(data_at),
        skip(2),
        is_type(clear, 4),
        load_byte(clear_at),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, QUEUES as u32 - 1),
        step(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 1),
        step(libc::BPF_RET | libc::BPF_A, 0),
        step(libc::BPF_RET | libc::BPF_K, 0),
    ]
}
