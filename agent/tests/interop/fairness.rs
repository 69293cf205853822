//! A flood costs nobody but its flow: neither others in the same tunnel nor other peers; and what keeps flows apart
//! reorders none.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cladnet_tunnel::{LANES, MAX_TRAIN, PrivateKey, QUEUES};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use socket2::{Domain, SockRef, Socket, Type};

use crate::lab::{Lab, Process, Side, eventually};

const STARTUP: Duration = Duration::from_secs(20);
/// Nobody listens there.
const FLOODED_PORT: u16 = 9;
/// A handshake initiation's.
const STRANGE_LEN: usize = 148;
const STREAM_PORT: u16 = 5001;
const STREAM: usize = 256 << 20;
const IN_FLIGHT: usize = 100_000;
/// Ten on a machine that is busy beyond measure; several hundred if a stream's packets go now before, now behind others.
const MOST_LATE: usize = 60;

/// An end of tunnels between agents, whose quiet flows overtake: 10.77.0.N on an interface of its own, on a port of its own
/// at the address of its side.
struct End {
    side: Side,
    number: u8,
    key: PrivateKey,
}

impl End {
    fn new(side: Side, number: u8) -> Self {
        Self { side, number, key: PrivateKey::generate(&mut rand::rng()) }
    }

    fn interface(&self) -> String {
        format!("cbnet{}", self.number)
    }

    fn overlay(&self) -> String {
        format!("10.77.0.{}", self.number)
    }

    fn port(&self) -> u16 {
        8050 + u16::from(self.number)
    }

    fn start(&self, lab: &Lab, peers: &[&End]) -> Process {
        let Self { side, number, key } = self;
        std::fs::write(lab.path(&format!("{number}.key")), &*key.reveal()).unwrap();
        let mut text = format!(
            "interface = '{}'\nprivate_key_file = '{number}.key'\naddress = '{}/32'\nlisten_port = {}\n",
            self.interface(),
            self.overlay(),
            self.port()
        );
        for peer in peers {
            text += &format!(
                "[[peers]]\npublic_key = '{}'\nallowed_ips = ['{}/32']\nendpoint = '192.0.2.{}:{}'\nprobes = true\n",
                peer.key.public_key(),
                peer.overlay(),
                peer.side.number(),
                peer.port()
            );
        }
        let file = lab.path(&format!("{number}.toml"));
        std::fs::write(&file, text).unwrap();
        let process = lab.start(*side, env!("CARGO_BIN_EXE_cladnet-agent"), &["static", file.to_str().unwrap()]);
        let interface = self.interface();
        eventually("the interface is up", STARTUP, || {
            lab.run(*side, "ip", &["-4", "address", "show", "dev", &interface, "up"]).stdout.ends_with(b"forever\n")
        });
        for peer in peers {
            let route = [&peer.overlay(), "dev", &interface, "src", &self.overlay(), "metric", &number.to_string()];
            let added = lab.run(*side, "ip", &[&["route", "add"], route.as_slice()].concat());
            assert!(added.status.success(), "ip route add {route:?}");
        }
        process
    }

    /// How many of `count` echoes are answered.
    fn pings(&self, lab: &Lab, to: &End, count: usize) -> usize {
        let (count, interface) = (count.to_string(), self.interface());
        let arguments = ["-q", "-n", "-i", "0.05", "-W", "5", "-c", &count, "-I", &interface, &to.overlay()];
        let output = lab.run(self.side, "ping", &arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        let received = text.split(", ").find_map(|part| part.strip_suffix(" received"));
        received.unwrap_or_else(|| panic!("ping says {text}")).parse().unwrap()
    }

    /// Datagrams as fast as they can be sent, until it is dropped.
    fn floods(&self, lab: &Lab, to: &End) -> Flood {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, interface) = (stop.clone(), self.interface());
        let to: SocketAddr = format!("{}:{FLOODED_PORT}", to.overlay()).parse().unwrap();
        let thread = lab.inside(self.side, move || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            socket.bind_device(Some(interface.as_bytes()))?;
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                sent += usize::from(socket.send_to(&[0; 1372], &to.into()).is_ok());
            }
            Ok(sent)
        });
        Flood { stop, thread: Some(thread) }
    }
}

/// Datagrams that only look like WireGuard's, from one who knows no key: handshakes, and data in the lanes of others than
/// the first peer. Many at once, so that reading them takes longer than sending them.
fn strangers_flood(lab: &Lab, from: Side, to: &End) -> Flood {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let to = SocketAddr::from(([192, 0, 2, to.side.number()], to.port()));
    let messages: Vec<Vec<u8>> = (0..QUEUES as u8)
        .filter(|queue| *queue != LANES as u8)
        .map(|queue| if queue == 0 { vec![1, 0, 0, 0] } else { vec![4, 0, 0, 0, 9, queue] })
        .map(|head| [head.as_slice(), &vec![9; STRANGE_LEN - head.len()]].concat().repeat(MAX_TRAIN))
        .collect();
    let thread = lab.inside(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        setsockopt(&socket, UdpGsoSegment, &(STRANGE_LEN as i32))?;
        let mut sent = 0;
        while !stopped.load(Ordering::Relaxed) {
            for message in &messages {
                sent += usize::from(socket.send_to(message, to).is_ok()) * MAX_TRAIN;
            }
        }
        Ok(sent)
    });
    Flood { stop, thread: Some(thread) }
}

struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<usize>>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.thread.take().map(thread::JoinHandle::join);
        println!("the flood was of {sent:?} datagrams");
    }
}

#[test]
fn a_flood_in_a_tunnel_leaves_its_other_flows_alone() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (End::new(Side::A, 1), End::new(Side::B, 2));
    let _running = [a.start(&lab, &[&b]), b.start(&lab, &[&a])];
    eventually("a tunnel", STARTUP, || a.pings(&lab, &b, 1) == 1);
    let _flood = a.floods(&lab, &b);
    // A flow that begins beside the flood gets away from it with its first answer.
    eventually("an answer beside the flood", STARTUP, || a.pings(&lab, &b, 1) == 1);
    let answered = a.pings(&lab, &b, 40);
    assert!(answered >= 39, "{answered} of 40 answered");
}

#[test]
fn a_flood_of_one_peer_leaves_other_peers_alone() {
    let Some(lab) = Lab::new() else { return };
    let (a, b, flooder) = (End::new(Side::A, 1), End::new(Side::B, 2), End::new(Side::A, 3));
    let _running = [a.start(&lab, &[&b]), b.start(&lab, &[&a, &flooder]), flooder.start(&lab, &[&b])];
    eventually("a tunnel", STARTUP, || a.pings(&lab, &b, 1) == 1);
    eventually("the flooder's tunnel", STARTUP, || flooder.pings(&lab, &b, 1) == 1);
    let _flood = flooder.floods(&lab, &b);
    let answered = a.pings(&lab, &b, 40);
    assert!(answered >= 39, "{answered} of 40 answered");
}

#[test]
fn a_flood_of_strangers_leaves_peers_alone() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (End::new(Side::A, 1), End::new(Side::B, 2));
    let _running = [a.start(&lab, &[&b]), b.start(&lab, &[&a])];
    eventually("a tunnel", STARTUP, || a.pings(&lab, &b, 1) == 1);
    let _flood = strangers_flood(&lab, Side::A, &b);
    let answered = a.pings(&lab, &b, 40);
    assert!(answered >= 39, "{answered} of 40 answered");
}

#[test]
fn one_stream_stays_in_order() {
    let Some(lab) = Lab::new() else { return };
    let (a, b) = (End::new(Side::A, 1), End::new(Side::B, 2));
    let _running = [a.start(&lab, &[&b]), b.start(&lab, &[&a])];
    eventually("a tunnel", STARTUP, || a.pings(&lab, &b, 1) == 1);
    let to: SocketAddr = format!("{}:{STREAM_PORT}", b.overlay()).parse().unwrap();
    let listener = lab.inside(Side::B, move || TcpListener::bind(to)).join().unwrap();
    let receiver = lab.inside(Side::B, move || received(&listener));
    lab.inside(Side::A, move || sent(to)).join().unwrap();
    assert_eq!(receiver.join().unwrap(), STREAM);
    // As the sender knows: what came late was not lost, as it came without being sent again, or was sent again for nothing.
    let late = ["TCPSACKReorder", "TCPTSReorder", "TCPDSACKRecv"].map(|name| extended_counter(&lab, Side::A, name));
    assert!(late.iter().sum::<usize>() < MOST_LATE, "{late:?} times out of order");
}

/// No more at once than the receiver's queue holds.
fn sent(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    SockRef::from(&stream).set_send_buffer_size(IN_FLIGHT)?;
    stream.write_all(&vec![7; STREAM])
}

fn received(listener: &TcpListener) -> io::Result<usize> {
    let (mut stream, _) = listener.accept()?;
    let (mut chunk, mut total) = (vec![0; 1 << 16], 0);
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(total),
            len => total += len,
        }
    }
}

/// Of TCP, as `/proc/net/netstat` has it: a line of names, and one of values.
fn extended_counter(lab: &Lab, side: Side, name: &str) -> usize {
    let output = lab.run(side, "cat", &["/proc/net/netstat"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_ascii_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let value = names.zip(values).find_map(|(found, value)| (found == name).then_some(value));
    value.unwrap().parse().unwrap()
}
