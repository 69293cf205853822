//! An interface, ours or `wireguard-go`'s, and what `wg` and the control socket say of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use cladnet_tunnel::PrivateKey;

use crate::lab::{Lab, Process, Side, eventually};

const STARTUP: Duration = Duration::from_secs(10);
pub(super) const PORT: u16 = 51_820;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Ours,
    WireguardGo,
}

/// An interface that runs in the foreground.
pub(super) struct Interface<'a> {
    pub(super) lab: &'a Lab,
    pub(super) side: Side,
    pub(super) name: String,
    pub(super) key: PrivateKey,
    pub(super) process: Process,
}

impl<'a> Interface<'a> {
    /// Made, with nothing set.
    pub(super) fn start(lab: &'a Lab, side: Side, program: Program) -> Self {
        let name = format!("p{}{side:?}", lab.id).to_lowercase();
        let process = match program {
            Program::Ours => {
                lab.start(side, env!("CARGO_BIN_EXE_cladnet-agent"), &["wireguard", "--foreground", &name])
            }
            Program::WireguardGo => lab.start(side, "wireguard-go", &["-f", &name]),
        };
        let interface = Self { lab, side, name, key: PrivateKey::generate(&mut rand::rng()), process };
        // Not with `wg`, which takes away the socket of a `wireguard-go` that does not listen yet.
        eventually("the control socket answers", STARTUP, || UnixStream::connect(interface.socket()).is_ok());
        interface
    }

    /// Both ends under `wg setconf`, up, with addresses of both families.
    pub(super) fn pair(lab: &'a Lab, programs: [Program; 2]) -> [Self; 2] {
        let [a, b] =
            [(Side::A, programs[0]), (Side::B, programs[1])].map(|(side, program)| Self::start(lab, side, program));
        for (it, other) in [(&a, &b), (&b, &a)] {
            it.set_file("setconf", &it.file(&[it.peer_section(other)]));
            it.raise();
        }
        [a, b]
    }

    pub(super) fn raise(&self) {
        let n = self.side.number();
        self.ip(&["address", "add", &format!("10.77.0.{n}/24"), "dev", &self.name]);
        self.ip(&["address", "add", &format!("fd77::{n}/64"), "dev", &self.name]);
        self.ip(&["link", "set", &self.name, "up"]);
    }

    pub(super) fn file(&self, peers: &[String]) -> String {
        format!("[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n{}", *self.key.reveal(), peers.concat())
    }

    pub(super) fn peer_section(&self, other: &Self) -> String {
        let n = other.side.number();
        format!(
            "[Peer]\nPublicKey = {}\nAllowedIPs = 10.77.0.{n}/32, fd77::{n}/128\nEndpoint = 192.0.2.{n}:{PORT}\n",
            other.public_key()
        )
    }

    pub(super) fn public_key(&self) -> String {
        self.key.public_key().to_string()
    }

    pub(super) fn set_file(&self, command: &str, text: &str) {
        let path = self.lab.path(&format!("{}.conf", self.name));
        fs::write(&path, text).unwrap();
        self.wg(&[command, &self.name, path.to_str().unwrap()]);
    }

    pub(super) fn wg(&self, arguments: &[&str]) -> String {
        let output = self.lab.run(self.side, "wg", arguments);
        assert!(output.status.success(), "wg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(super) fn set(&self, arguments: &[&str]) {
        self.wg(&[&["set", &self.name], arguments].concat());
    }

    pub(super) fn ip(&self, arguments: &[&str]) {
        let output = self.lab.run(self.side, "ip", arguments);
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The columns of the only peer in `wg show dump`: key, preshared key, endpoint, allowed IPs, handshake, received,
    /// sent, keepalive.
    pub(super) fn peer(&self) -> Vec<String> {
        self.rows().swap_remove(1)
    }

    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let dump = self.wg(&["show", &self.name, "dump"]);
        dump.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    pub(super) fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/run/wireguard/{}.sock", self.name))
    }

    pub(super) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(STARTUP)).unwrap();
        stream
    }

    /// What one request is answered with.
    pub(super) fn ask(&self, request: &str) -> String {
        answer(&mut self.connect(), request)
    }

    pub(super) fn pings(&self, address: &str) -> bool {
        self.lab.run(self.side, "ping", &["-c", "1", "-W", "2", address]).status.success()
    }

    pub(super) fn exists(&self) -> bool {
        self.lab.run(self.side, "ip", &["link", "show", &self.name]).status.success()
    }
}

impl Drop for Interface<'_> {
    fn drop(&mut self) {
        // Killed, it leaves its socket behind.
        let _ = fs::remove_file(self.socket());
    }
}

/// The socket of an interface in the background, which ends with it.
pub(super) struct Background(PathBuf);

impl Background {
    pub(super) fn of(name: &str) -> Self {
        Self(PathBuf::from(format!("/run/wireguard/{name}.sock")))
    }

    pub(super) fn is_over(&self) -> bool {
        !self.0.exists()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn answer(stream: &mut UnixStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\n\n") && stream.read_exact(&mut byte).is_ok() {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}
