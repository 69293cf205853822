//! The host's one UDP socket: IPv4 and IPv6 where the host has both, shared by the data threads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

mod holder;

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
}

impl UdpSocket {
    /// Port 0 takes any free one.
    pub fn bind(port: u16) -> Result<Self, UdpError> {
        let (socket, dual_stack) = match open(Domain::IPV6, port) {
            Ok(socket) => (socket, true),
            Err(error) if is_family_missing(&error) => {
                (open(Domain::IPV4, port).map_err(|error| refused(port, error))?, false)
            }
            Err(error) => return Err(refused(port, error)),
        };
        Ok(Self { socket: socket.into(), dual_stack })
    }

    pub fn local_port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|address| address.port())
    }

    pub fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.socket.send_to(datagram, self.outward(to)).map(drop)
    }

    /// Waits for a datagram; what is longer than `buffer` is cut.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = self.socket.recv_from(buffer)?;
        Ok((len, inward(from)))
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
#[expect(unsafe_code, reason = "no safe wrapper knows IP_MTU_DISCOVER")]
fn allow_fragmentation(socket: &Socket, domain: Domain) {
    let set = |level, option, value: libc::c_int| {
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
    };
    set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT);
    if domain == Domain::IPV6 {
        set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT);
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_its_holder() {
        let first = UdpSocket::bind(0).unwrap();
        let port = first.local_port().unwrap();
        let message = UdpSocket::bind(port).unwrap_err().to_string();
        assert!(message.contains(&format!("UDP port {port} is in use by ")), "{message}");
        assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
    }

    #[test]
    fn both_families_reach_the_socket_under_their_own_addresses() {
        let socket = UdpSocket::bind(0).unwrap();
        let port = socket.local_port().unwrap();
        let mut buffer = [0; 16];
        for address in ["127.0.0.1", "::1"] {
            let Ok(client) = std::net::UdpSocket::bind((address, 0)) else { continue };
            client.send_to(b"hello", (address, port)).unwrap();
            let (len, from) = socket.receive(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (b"hello".as_slice(), client.local_addr().unwrap()));
            socket.send(from, b"back").unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        }
    }

    #[test]
    fn wake_ends_a_wait() {
        let socket = UdpSocket::bind(0).unwrap();
        socket.wake().unwrap();
        assert_eq!(socket.receive(&mut [0; 16]).unwrap().0, 0);
    }
}
