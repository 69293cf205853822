//! The underlay of a VM, raw: what agents put on it, and datagrams that nobody there has sent.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    net::{Ipv4Addr, SocketAddrV4},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use cladnet_sandbox::Vm;
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

/// Where agents listen.
const PORT: u16 = 8055;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Does something on a thread inside the network of a VM; sockets that it makes stay there.
pub(crate) fn inside<T: Send>(vm: &Vm<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(format!("/proc/{}/ns/net", vm.init_pid()?)).context("the VM does not run")?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("its network cannot be entered")?;
            work()
        });
        thread.join().map_err(|_| anyhow!("the work inside panicked"))?
    })
}

/// Hears what a VM sends and receives.
pub(super) struct Tap(Socket);

impl Tap {
    pub(super) fn open(vm: &Vm<'_>) -> Result<Self> {
        inside(vm, || {
            let all = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(all)).context("no packet socket")?;
            socket.set_nonblocking(true)?;
            // What it cannot hold is lost, and only missed where plaintext is looked for, of which there is plenty.
            let _ = socket.set_recv_buffer_size(8 << 20);
            Ok(Self(socket))
        })
    }

    /// The payload of every UDP datagram between agents since the last call; trains of the kernel as they are.
    pub(super) fn datagrams(&mut self) -> Result<Vec<Vec<u8>>> {
        let (mut found, mut packet) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            match self.0.read(&mut packet) {
                Ok(len) => found.extend(agents_payload(&packet[..len]).map(<[u8]>::to_vec)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
                Err(error) => return Err(error).context("cannot read the packet socket"),
            }
        }
    }
}

/// Packets of the overlay are heard as well, but those between the tests' programs are no UDP to this port.
fn agents_payload(packet: &[u8]) -> Option<&[u8]> {
    let is_udp = packet.first() == Some(&0x45) && packet.get(9) == Some(&17);
    let port = packet.get(IP_HEADER + 2..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    if is_udp && port == Some(PORT) { packet.get(IP_HEADER + UDP_HEADER..) } else { None }
}

/// Sends a datagram from one agent's port to another's, under any source address.
pub(super) fn forge(vm: &Vm<'_>, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Result<()> {
    let udp_len = u16::try_from(UDP_HEADER + payload.len())?;
    let mut packet = vec![0; IP_HEADER + UDP_HEADER];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(IP_HEADER as u16 + udp_len).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet[20..22].copy_from_slice(&PORT.to_be_bytes());
    packet[22..24].copy_from_slice(&PORT.to_be_bytes());
    packet[24..26].copy_from_slice(&udp_len.to_be_bytes());
    packet.extend_from_slice(payload);
    inside(vm, || {
        // The kernel makes the header's checksum; that of UDP may be absent.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        let sent = socket.send_to(&packet, &SocketAddrV4::new(destination, 0).into()).context("cannot forge")?;
        ensure!(sent == packet.len(), "only {sent} bytes were sent");
        Ok(())
    })
}
