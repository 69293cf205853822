//! The two ends of a tunnel: our static tunnel, or `wireguard-go` set up with `wg`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cladnet_tunnel::{PrivateKey, PublicKey};

use crate::lab::{Lab, Process, Side, eventually};

const STARTUP: Duration = Duration::from_secs(10);

/// What one end knows of the other.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    /// None waits to be called.
    pub(crate) endpoint: Option<String>,
    pub(crate) preshared_key: Option<String>,
    /// It is one of ours that answers probes.
    pub(crate) probes: bool,
    /// What can be reached through it beside itself.
    pub(crate) behind: Option<String>,
}

/// The keys of both ends, and what each knows unless a test says otherwise.
pub(crate) struct Pair {
    a: PrivateKey,
    b: PrivateKey,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let mut rng = rand::rng();
        Self { a: PrivateKey::generate(&mut rng), b: PrivateKey::generate(&mut rng) }
    }

    fn private_key(&self, side: Side) -> &PrivateKey {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// What the other side knows of `side`.
    pub(crate) fn peer(&self, side: Side) -> Peer {
        Peer {
            public_key: self.private_key(side).public_key(),
            endpoint: Some(format!("192.0.2.{}:8055", side.number())),
            preshared_key: None,
            probes: false,
            behind: None,
        }
    }

    /// Starts `cladnet-agent static` at `side`. Traffic may not pass yet.
    pub(crate) fn start_ours(&self, lab: &Lab, side: Side, peer: &Peer) -> Process {
        self.start_ours_with(lab, side, peer, &[])
    }

    /// The same with flags.
    pub(crate) fn start_ours_with(&self, lab: &Lab, side: Side, peer: &Peer, flags: &[&str]) -> Process {
        let file = self.write_file(lab, side, peer);
        let arguments = [flags, &["static", &file]].concat();
        let process = lab.start(side, env!("CARGO_BIN_EXE_cladnet-agent"), &arguments);
        eventually("cbnet0 is up", STARTUP, || {
            lab.run(side, "ip", &["-4", "address", "show", "dev", "cbnet0", "up"]).stdout.ends_with(b"forever\n")
        });
        process
    }

    /// Writes what `start_ours` reads, and returns its path.
    pub(crate) fn write_file(&self, lab: &Lab, side: Side, peer: &Peer) -> String {
        let name = format!("{side:?}").to_lowercase();
        fs::write(lab.path(&format!("{name}.key")), &*self.private_key(side).reveal()).unwrap();
        let mut text = format!(
            "private_key_file = '{name}.key'\naddress = '{}/24'\n\
             [[peers]]\npublic_key = '{}'\nallowed_ips = ['{}/32'{}]\nprobes = {}\n",
            side.overlay(),
            peer.public_key,
            side.other().overlay(),
            peer.behind.iter().map(|prefix| format!(", '{prefix}'")).collect::<String>(),
            peer.probes,
        );
        if let Some(endpoint) = &peer.endpoint {
            text += &format!("endpoint = '{endpoint}'\n");
        }
        if let Some(key) = &peer.preshared_key {
            fs::write(lab.path(&format!("{name}.preshared")), key).unwrap();
            text += &format!("preshared_key_file = '{name}.preshared'\n");
        }
        let path = lab.path(&format!("{name}.toml"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Starts `wireguard-go` at `side` and gives it its address.
    pub(crate) fn start_reference(&self, lab: &Lab, side: Side, peer: &Peer) -> Reference {
        let interface = reference_interface(lab, side);
        let process = lab.start(side, "wireguard-go", &["-f", &interface]);
        let reference = Reference { interface, side, _process: process };
        // Not with `wg`, which takes away a socket that does not listen yet.
        eventually("wireguard-go listens", STARTUP, || UnixStream::connect(reference.socket()).is_ok());
        let key = lab.path(&format!("{side:?}.reference.key"));
        fs::write(&key, &*self.private_key(side).reveal()).unwrap();
        reference.run(lab, &["set", &reference.interface, "listen-port", "8055", "private-key", key.to_str().unwrap()]);
        reference.set_peer(lab, peer);
        let address = format!("{}/24", side.overlay());
        for arguments in [
            vec!["address", "add", &address, "dev", &reference.interface],
            vec!["link", "set", &reference.interface, "mtu", "1420", "up"],
        ] {
            assert!(lab.run(side, "ip", &arguments).status.success(), "ip {arguments:?}");
        }
        reference
    }
}

/// Its control socket lies in a directory that all namespaces share, so the name is unique on the machine.
fn reference_interface(lab: &Lab, side: Side) -> String {
    format!("w{}{side:?}", lab.id).to_lowercase()
}

/// A running `wireguard-go`.
pub(crate) struct Reference {
    interface: String,
    side: Side,
    _process: Process,
}

impl Reference {
    pub(crate) fn set_peer(&self, lab: &Lab, peer: &Peer) {
        let public_key = peer.public_key.to_string();
        let allowed_ip = format!("{}/32", self.side.other().overlay());
        let mut arguments = vec!["set", &self.interface, "peer", &public_key, "allowed-ips", &allowed_ip];
        if let Some(endpoint) = &peer.endpoint {
            arguments.extend(["endpoint", endpoint]);
        }
        let file = lab.path(&format!("{:?}.reference.preshared", self.side));
        if let Some(key) = &peer.preshared_key {
            fs::write(&file, key).unwrap();
            arguments.extend(["preshared-key", file.to_str().unwrap()]);
        }
        self.run(lab, &arguments);
    }

    pub(crate) fn listen_on(&self, lab: &Lab, port: u16) {
        self.run(lab, &["set", &self.interface, "listen-port", &port.to_string()]);
    }

    /// Seconds since the epoch; 0 if there never was one.
    pub(crate) fn latest_handshake(&self, lab: &Lab) -> u64 {
        self.column(lab, "latest-handshakes").parse().unwrap()
    }

    pub(crate) fn endpoint(&self, lab: &Lab) -> String {
        self.column(lab, "endpoints")
    }

    fn socket(&self) -> String {
        format!("/run/wireguard/{}.sock", self.interface)
    }

    fn column(&self, lab: &Lab, what: &str) -> String {
        let output = self.run(lab, &["show", &self.interface, what]);
        output.split_ascii_whitespace().nth(1).unwrap().to_owned()
    }

    fn run(&self, lab: &Lab, arguments: &[&str]) -> String {
        let output = lab.run(self.side, "wg", arguments);
        assert!(output.status.success(), "wg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Killed, it leaves its socket behind.
        let _ = fs::remove_file(self.socket());
    }
}
