//! Two network namespaces joined by a veth pair, gone when dropped, whatever happened in between.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

/// Between two looks of [`eventually`].
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Port-restricted: a mapping is made from within, and serves the address and port that were called.
const NAT: &str = "
    add table ip nat
    add chain ip nat post { type nat hook postrouting priority 100 ; }
    add rule ip nat post oifname wan masquerade
    add table ip filter
    add chain ip filter in { type filter hook input priority 0 ; policy drop ; }
    add chain ip filter forward { type filter hook forward priority 0 ; policy drop ; }
    add rule ip filter forward iifname lan accept
    add rule ip filter forward ct state established accept
";

/// Says nothing when it drops what is too long.
const SILENT: &str = "
    add table ip filter
    add chain ip filter out { type filter hook output priority 0 ; }
    add rule ip filter out icmp type destination-unreachable drop
";
/// As many firewalls do; before anything could put them together.
const NO_FRAGMENTS: &str = "
    add table netdev filter
    add chain netdev filter in { type filter hook ingress device wire priority 0 ; }
    add rule netdev filter in ip frag-off & 0x3fff != 0 drop
";

/// What a router does with datagrams that are too long for its next link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooLong {
    /// What may be cut is, and senders of the rest are told.
    AsItShould,
    /// Nothing of it arrives, and nobody is told.
    BlackHole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    A,
    B,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    pub(crate) fn overlay(self) -> IpAddr {
        IpAddr::from([10, 77, 0, self.number()])
    }
}

pub(crate) struct Lab {
    /// What to take away in the end.
    namespaces: Vec<String>,
    /// Unique on this machine, and short enough to be part of an interface's name.
    pub(crate) id: String,
    pub(crate) directory: TempDir,
}

impl Lab {
    /// Both sides on one wire. None where this cannot be done, which is said, and is a failure under `CI`.
    pub(crate) fn new() -> Option<Self> {
        let mut lab = Self::empty()?;
        let (a, b) = (lab.add_namespace("a"), lab.add_namespace("b"));
        ip(&["link", "add", "wire", "netns", &a, "type", "veth", "peer", "name", "wire", "netns", &b]);
        for side in [Side::A, Side::B] {
            lab.add_address(side, &format!("192.0.2.{}/24", side.number()));
            lab.add_address(side, &format!("fd00:2::{}/64", side.number()));
            ip(&["-n", &lab.namespace(side), "link", "set", "wire", "up"]);
        }
        Some(lab)
    }

    /// Each side in a private network, behind a router whose NAT lets nobody in who was not called from within. The
    /// routers have the addresses that the sides have in [`Lab::new`].
    pub(crate) fn behind_nats() -> Option<Self> {
        let mut lab = Self::empty()?;
        let routers = [("a", Side::A), ("b", Side::B)].map(|(name, side)| {
            let (inside, router) = (lab.add_namespace(name), lab.add_namespace(&format!("{name}-router")));
            ip(&["link", "add", "wire", "netns", &inside, "type", "veth", "peer", "name", "lan", "netns", &router]);
            let subnet = format!("10.{}.0", side.number());
            lab.add_address(side, &format!("{subnet}.2/24"));
            ip(&["-n", &inside, "link", "set", "wire", "up"]);
            ip(&["-n", &router, "address", "add", &format!("{subnet}.1/24"), "dev", "lan"]);
            ip(&["-n", &router, "link", "set", "lan", "up"]);
            ip(&["-n", &inside, "route", "add", "default", "via", &format!("{subnet}.1")]);
            router
        });
        let [a, b] = &routers;
        ip(&["link", "add", "wan", "netns", a, "type", "veth", "peer", "name", "wan", "netns", b]);
        for (router, side) in routers.iter().zip([Side::A, Side::B]) {
            ip(&["-n", router, "address", "add", &format!("192.0.2.{}/24", side.number()), "dev", "wan"]);
            ip(&["-n", router, "link", "set", "wan", "up"]);
            run("ip", &["netns", "exec", router, "sysctl", "-q", "net.ipv4.ip_forward=1"]);
            run("ip", &["netns", "exec", router, "nft", NAT]);
        }
        Some(lab)
    }

    /// Each side in a subnet of its own, 10.1.0.2 and 10.2.0.2, with a router between them whose link to B is narrow.
    pub(crate) fn behind_router(mtu: u16, too_long: TooLong) -> Option<Self> {
        let mut lab = Self::empty()?;
        let router = lab.add_namespace("router");
        for (side, name) in [(Side::A, "a"), (Side::B, "b")] {
            let (inside, subnet) = (lab.add_namespace(name), format!("10.{}.0", side.number()));
            let name = format!("to-{name}");
            ip(&["link", "add", "wire", "netns", &inside, "type", "veth", "peer", "name", &name, "netns", &router]);
            lab.add_address(side, &format!("{subnet}.2/24"));
            ip(&["-n", &inside, "link", "set", "wire", "up"]);
            ip(&["-n", &router, "address", "add", &format!("{subnet}.1/24"), "dev", &name]);
            ip(&["-n", &router, "link", "set", "dev", &name, "up"]);
            ip(&["-n", &inside, "route", "add", "default", "via", &format!("{subnet}.1")]);
        }
        ip(&["-n", &router, "link", "set", "to-b", "mtu", &mtu.to_string()]);
        run("ip", &["netns", "exec", &router, "sysctl", "-q", "net.ipv4.ip_forward=1"]);
        if too_long == TooLong::BlackHole {
            run("ip", &["netns", "exec", &router, "nft", SILENT]);
            run("ip", &["netns", "exec", &lab.namespace(Side::B), "nft", NO_FRAGMENTS]);
        }
        Some(lab)
    }

    /// A host that reaches the rest of the world through A, as 10.3.0.2. The result is its namespace.
    pub(crate) fn add_host_behind_a(&mut self) -> String {
        let (a, host) = (self.namespace(Side::A), self.add_namespace("behind"));
        ip(&["link", "add", "wire", "netns", &host, "type", "veth", "peer", "name", "lan", "netns", &a]);
        ip(&["-n", &host, "address", "add", "10.3.0.2/24", "dev", "wire"]);
        ip(&["-n", &host, "link", "set", "wire", "up"]);
        ip(&["-n", &a, "address", "add", "10.3.0.1/24", "dev", "lan"]);
        ip(&["-n", &a, "link", "set", "lan", "up"]);
        ip(&["-n", &host, "route", "add", "default", "via", "10.3.0.1"]);
        run("ip", &["netns", "exec", &a, "sysctl", "-q", "net.ipv4.ip_forward=1"]);
        host
    }

    fn empty() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "interop tests need root");
            eprintln!("NOT RUN: interop tests need root");
            return None;
        }
        let id = format!("{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Some(Self { namespaces: Vec::new(), id, directory: tempfile::tempdir().unwrap() })
    }

    fn add_namespace(&mut self, name: &str) -> String {
        let namespace = format!("cladnet-{}-{name}", self.id);
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        self.namespaces.push(namespace.clone());
        namespace
    }

    pub(crate) fn namespace(&self, side: Side) -> String {
        format!("cladnet-{}-{side:?}", self.id).to_lowercase()
    }

    /// Of [`Lab::behind_router`].
    pub(crate) fn router(&self) -> String {
        format!("cladnet-{}-router", self.id)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn add_address(&self, side: Side, address: &str) {
        let mut command = vec!["-n".to_owned(), self.namespace(side)];
        command.extend(["address", "add", address, "dev", "wire"].map(str::to_owned));
        if address.contains(':') {
            command.push("nodad".to_owned());
        }
        ip(&command.iter().map(String::as_str).collect::<Vec<_>>());
    }

    pub(crate) fn move_address(&self, side: Side, from: &str, to: &str) {
        ip(&["-n", &self.namespace(side), "address", "del", from, "dev", "wire"]);
        self.add_address(side, to);
    }

    /// A command that will run inside; it becomes the program itself, so that its pid can be killed.
    pub(crate) fn command(&self, side: Side, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(side), program]);
        command
    }

    pub(crate) fn run(&self, side: Side, program: &str, arguments: &[&str]) -> Output {
        self.command(side, program).args(arguments).output().unwrap()
    }

    pub(crate) fn start(&self, side: Side, program: &str, arguments: &[&str]) -> Process {
        let log = self.path(&format!("{side:?}.log"));
        let log = File::options().append(true).create(true).open(log).unwrap();
        let mut command = self.command(side, program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Process(command.spawn().unwrap())
    }

    /// One echo over the tunnel, answered within two seconds.
    pub(crate) fn pings(&self, from: Side) -> bool {
        let to = from.other().overlay().to_string();
        self.run(from, "ping", &["-c", "1", "-W", "2", &to]).status.success()
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        side: Side,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(side))).unwrap();
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work().unwrap()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [Side::A, Side::B] {
            if thread::panicking() {
                let log = std::fs::read_to_string(self.path(&format!("{side:?}.log"))).unwrap_or_default();
                eprintln!("--- log of {side:?}\n{log}");
            }
        }
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// A program that ends with the test.
pub(crate) struct Process(Child);

impl Process {
    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it ended by itself.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until `holds`, or fails saying what it waited for. Returns how long it took.
pub(crate) fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        thread::sleep(POLL_INTERVAL);
    }
    start.elapsed()
}

pub(crate) fn ip(arguments: &[&str]) {
    run("ip", arguments);
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
