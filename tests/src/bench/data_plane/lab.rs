//! Two namespaces and a cable, with both ends of every contender's tunnel in them. All is gone when it is dropped.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cladnet_tunnel::PrivateKey;
use tempfile::TempDir;

use super::{
    contender::{Contender, Kind},
    swarm,
};
use crate::wait::eventually;

const STARTUP: Duration = Duration::from_secs(10);
/// Inside Ethernet's 1500, for all alike.
const MTU: &str = "1420";
const SIDES: [Side; 2] = [Side::A, Side::B];
/// Linux reports CPU times in these (`sysconf(_SC_CLK_TCK)`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn underlay(self) -> String {
        format!("192.0.2.{}", self.number())
    }
}

/// What the cable is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// As the kernel makes it: super-packets pass whole, as between two VMs of one machine.
    Veth,
    /// As a network card's: every datagram is a packet by itself, and the receiver puts packets together.
    Wire,
}

impl Link {
    pub(super) const ALL: [Self; 2] = [Self::Veth, Self::Wire];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Wire => "wire",
        }
    }
}

pub(super) struct Lab {
    id: u32,
    directory: TempDir,
    _sink: Process,
    _namespaces: Namespaces,
}

/// Both ends of one contender's tunnel.
pub(super) struct Raised {
    pub(super) contender: Contender,
    /// None where there is no tunnel.
    programs: Option<[Process; 2]>,
}

/// A program that ends with its owner.
pub(super) struct Process(Child);

impl Process {
    /// Waits for its own end.
    pub(super) fn finish(mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A key pair of one end.
struct Keys {
    private: String,
    public: String,
}

impl Raised {
    pub(super) fn overlay(&self, side: Side) -> String {
        overlay(self.contender, side)
    }

    pub(super) fn has_programs(&self) -> bool {
        self.programs.is_some()
    }

    /// User and system time of each end so far (proc(5), fields 14 and 15 of `stat`).
    pub(super) fn cpu_seconds(&self) -> Result<[f64; 2]> {
        match &self.programs {
            Some([a, b]) => Ok([cpu_seconds(a)?, cpu_seconds(b)?]),
            None => Ok([0.0; 2]),
        }
    }

    /// Resident memory of one end, in MB.
    pub(super) fn resident_megabytes(&self, side: Side) -> Result<f64> {
        let programs = self.programs.as_ref().context("there is no program")?;
        resident_megabytes(&programs[usize::from(side.number()) - 1])
    }
}

/// A hundred rules, of which the last is the one that lets everything through.
fn access() -> String {
    let deny = |number: u32| {
        format!(
            "[[access.rules]]\naction = 'deny'\nsources = ['10.78.{number}.0/24']\ntraffic = 'tcp'\nports = ['{number}']\n"
        )
    };
    let denied: String = (1..100).map(deny).collect();
    format!("[access]\ndefault = 'deny'\n{denied}[[access.rules]]\naction = 'allow'\nsources = ['10.77.0.0/16']\n")
}

impl Lab {
    pub(super) fn new() -> Result<Self> {
        let id = std::process::id();
        let directory = tempfile::tempdir()?;
        let [a, b] = SIDES.map(|side| namespace(id, side));
        // From here on a failure leaves nothing behind either.
        let namespaces = Namespaces(id);
        for name in [&a, &b] {
            run("ip", &["netns", "add", name])?;
        }
        run("ip", &["link", "add", "wire", "netns", &a, "type", "veth", "peer", "name", "wire", "netns", &b])?;
        for side in SIDES {
            let (name, address) = (namespace(id, side), format!("{}/24", side.underlay()));
            run("ip", &["-n", &name, "address", "add", &address, "dev", "wire"])?;
            for link in ["lo", "wire"] {
                run("ip", &["-n", &name, "link", "set", link, "up"])?;
            }
        }
        let sink = start(id, Side::B, Path::new("iperf3"), &["-s"])?;
        Ok(Self { id, directory, _sink: sink, _namespaces: namespaces })
    }

    /// Makes the cable like this, in both directions.
    pub(super) fn be(&self, link: Link) -> Result<()> {
        let (whole, put_together) = if link == Link::Veth { ("on", "off") } else { ("off", "on") };
        for side in SIDES {
            let sender = ["-K", "wire", "tso", whole, "gso", whole, "tx-udp-segmentation", whole];
            self.run(side, "ethtool", &[&sender[..], &["gro", put_together]].concat())?;
        }
        Ok(())
    }

    /// Brings up both ends of a tunnel, and waits for the first echo through it.
    pub(super) fn raise(&self, contender: Contender) -> Result<Raised> {
        let programs = match contender.kind() {
            Kind::Static(flags) => {
                Some(self.with_keys(|side, own, peer| self.start_static(contender, side, own, peer, flags))?)
            }
            Kind::Userspace => {
                Some(self.with_keys(|side, own, peer| self.start_userspace(contender, side, own, peer))?)
            }
            Kind::Nebula => Some(self.start_nebula(contender)?),
            Kind::Bare => {
                self.address_cable(contender)?;
                None
            }
        };
        let to = overlay(contender, Side::B);
        eventually(&format!("an echo through {}", contender.name()), STARTUP, || {
            self.run(Side::A, "ping", &["-c", "1", "-W", "1", &to])
        })?;
        Ok(Raised { contender, programs })
    }

    /// Brings up one end that has this many peers, opens their sessions, and tells its resident memory in MB.
    pub(super) fn memory_with(&self, contender: Contender, peers: u16) -> Result<f64> {
        let own = keys()?;
        let private: Vec<PrivateKey> = (0..peers).map(|_| PrivateKey::generate(&mut rand::rng())).collect();
        let peer_of = |(key, number): (&PrivateKey, u16)| (key.public_key().to_string(), swarm::overlay(number));
        let public: Vec<(String, String)> = private.iter().zip(0..).map(peer_of).collect();
        // The swarm speaks from addresses of its own, as peers do.
        self.run(Side::A, "ip", &["route", "replace", "local", "198.18.0.0/15", "dev", "lo"])?;
        let gateway = Side::A.underlay();
        self.run(Side::B, "ip", &["route", "replace", "198.18.0.0/15", "via", &gateway])?;
        let port = contender.port() + 100;
        let device = match contender.kind() {
            Kind::Static(flags) => {
                let key = self.write("swarm.key", &own.private)?;
                let listed: String = public
                    .iter()
                    .map(|(key, address)| format!("[[peers]]\npublic_key = '{key}'\nallowed_ips = ['{address}/32']\n"))
                    .collect();
                let text = format!(
                    "interface = 'swarm'\nprivate_key_file = '{key}'\naddress = '10.99.255.1/16'\nlisten_port = {port}\n{listed}"
                );
                let file = self.write("swarm.toml", &text)?;
                self.start(Side::B, &contender.program()?, &[flags, &["static", &file]].concat())?
            }
            Kind::Userspace => {
                let interface = format!("sw{}{}", self.id, contender.number());
                let process =
                    self.start(Side::B, &contender.program()?, &[contender.flags(), &["-f", &interface]].concat())?;
                // Tailscale's takes no endpoint from what peers send, so it answers none whose it was not told.
                let listed: String = public
                    .iter()
                    .zip(0..)
                    .map(|((key, address), number)| {
                        let endpoint = format!("{}:{}", swarm::underlay(number), swarm::PORT);
                        format!("[Peer]\nPublicKey = {key}\nAllowedIPs = {address}/32\nEndpoint = {endpoint}\n")
                    })
                    .collect();
                let text = format!("[Interface]\nPrivateKey = {}\nListenPort = {port}\n{listed}", own.private);
                let file = self.write("swarm.conf", &text)?;
                let listens = || self.run(Side::B, "wg", &["show", &interface]);
                eventually(&format!("{} to listen", contender.name()), STARTUP, listens)?;
                self.run(Side::B, "wg", &["setconf", &interface, &file])?;
                self.run(Side::B, "ip", &["link", "set", &interface, "mtu", MTU, "up"])?;
                process
            }
            Kind::Nebula | Kind::Bare => bail!("its peers are no WireGuard peers"),
        };
        let at = format!("{}:{port}", Side::B.underlay()).parse()?;
        let bound = || {
            let sockets = self.run(Side::B, "ss", &["-Hlun", &format!("sport = :{port}")])?;
            ensure!(!sockets.is_empty(), "no socket");
            Ok(())
        };
        eventually(&format!("{} to be bound", contender.name()), STARTUP, bound)?;
        swarm::open_sessions(&namespace(self.id, Side::A), private, own.public.parse()?, at)?;
        resident_megabytes(&device)
    }

    /// Runs a program in a namespace to its end.
    pub(super) fn run(&self, side: Side, program: &str, arguments: &[&str]) -> Result<String> {
        run("ip", &[&["netns", "exec", &namespace(self.id, side), program], arguments].concat())
    }

    pub(super) fn start(&self, side: Side, program: &Path, arguments: &[&str]) -> Result<Process> {
        start(self.id, side, program, arguments)
    }

    fn with_keys(&self, start: impl Fn(Side, &Keys, &Keys) -> Result<Process>) -> Result<[Process; 2]> {
        let [a, b] = [keys()?, keys()?];
        Ok([start(Side::A, &a, &b)?, start(Side::B, &b, &a)?])
    }

    fn start_static(
        &self,
        contender: Contender,
        side: Side,
        own: &Keys,
        peer: &Keys,
        flags: &[&str],
    ) -> Result<Process> {
        let name = format!("{}-{side:?}", contender.name());
        self.write(&format!("{name}.key"), &own.private)?;
        let port = contender.port();
        let endpoint = format!("{}:{port}", side.other().underlay());
        let trust = match contender {
            Contender::Clear => format!("trusted_endpoints = ['{endpoint}']\n"),
            _ => String::new(),
        };
        let (probes, access) = match contender {
            Contender::Unfiltered => (false, String::new()),
            _ => (true, access()),
        };
        let text = format!(
            "interface = 'cbnet{}'\nprivate_key_file = '{name}.key'\naddress = '{}/24'\nlisten_port = {port}\nmtu = {MTU}\n\
             [[peers]]\npublic_key = '{}'\nallowed_ips = ['{}/32']\nendpoint = '{endpoint}'\nprobes = {probes}\n{trust}{access}",
            contender.number(),
            overlay(contender, side),
            peer.public,
            overlay(contender, side.other()),
        );
        let file = self.write(&format!("{name}.toml"), &text)?;
        self.start(side, &contender.program()?, &[flags, &["static", &file]].concat())
    }

    fn start_userspace(&self, contender: Contender, side: Side, own: &Keys, peer: &Keys) -> Result<Process> {
        // Its control socket lies in a directory that all namespaces share.
        let interface = format!("wg{}{}{side:?}", self.id, contender.number()).to_lowercase();
        let process = self.start(side, &contender.program()?, &[contender.flags(), &["-f", &interface]].concat())?;
        let within = |program: &str, arguments: &[&str]| self.run(side, program, arguments);
        eventually(&format!("{} to listen", contender.name()), STARTUP, || within("wg", &["show", &interface]))?;
        let key = self.write(&interface, &own.private)?;
        let (port, allowed) = (contender.port().to_string(), format!("{}/32", overlay(contender, side.other())));
        let endpoint = format!("{}:{port}", side.other().underlay());
        within("wg", &["set", &interface, "listen-port", &port, "private-key", &key])?;
        within("wg", &["set", &interface, "peer", &peer.public, "allowed-ips", &allowed, "endpoint", &endpoint])?;
        within("ip", &["address", "add", &format!("{}/24", overlay(contender, side)), "dev", &interface])?;
        within("ip", &["link", "set", &interface, "mtu", MTU, "up"])?;
        Ok(process)
    }

    /// With its own cipher, AES-256-GCM, and nothing else that is not by default but what makes it comparable: the MTU.
    fn start_nebula(&self, contender: Contender) -> Result<[Process; 2]> {
        let path = |name: &str| self.path(name);
        let ca = [path("ca.crt")?, path("ca.key")?];
        run("nebula-cert", &["ca", "-name", "bench", "-out-crt", &ca[0], "-out-key", &ca[1]])?;
        let start = |side: Side| {
            let [certificate, key] = ["crt", "key"].map(|kind| path(&format!("{side:?}.{kind}")));
            let (certificate, key) = (certificate?, key?);
            let address = format!("{}/24", overlay(contender, side));
            let name = format!("{side:?}");
            let sign = ["sign", "-ca-crt", &ca[0], "-ca-key", &ca[1], "-name", &name, "-ip", &address];
            run("nebula-cert", &[&sign[..], &["-out-crt", &certificate, "-out-key", &key]].concat())?;
            let config = serde_json::json!({
                "pki": { "ca": ca[0], "cert": certificate, "key": key },
                "static_host_map": {
                    overlay(contender, side.other()): [format!("{}:{}", side.other().underlay(), contender.port())],
                },
                "listen": { "host": side.underlay(), "port": contender.port() },
                "tun": { "dev": "nebula", "mtu": MTU.parse::<u16>()? },
                "firewall": {
                    "outbound": [{ "port": "any", "proto": "any", "host": "any" }],
                    "inbound": [{ "port": "any", "proto": "any", "host": "any" }],
                },
            });
            // YAML holds JSON.
            let file = self.write(&format!("nebula-{side:?}.yaml"), &config.to_string())?;
            self.start(side, &contender.program()?, &["-config", &file])
        };
        Ok([start(Side::A)?, start(Side::B)?])
    }

    /// Addresses on the cable itself, between which packets are no larger than in a tunnel.
    fn address_cable(&self, contender: Contender) -> Result<()> {
        for side in SIDES {
            let [own, other] = [side, side.other()].map(|side| overlay(contender, side));
            self.run(side, "ip", &["address", "add", &format!("{own}/32"), "dev", "wire"])?;
            self.run(side, "ip", &["route", "add", &other, "dev", "wire", "src", &own, "mtu", "lock", MTU])?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        Ok(path.to_str().context("the temporary directory has an unprintable name")?.to_owned())
    }

    fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.path(name)?;
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for side in SIDES {
            let _ = run("ip", &["netns", "del", &namespace(self.0, side)]);
        }
    }
}

struct Namespaces(u32);

fn overlay(contender: Contender, side: Side) -> String {
    format!("10.77.{}.{}", contender.number(), side.number())
}

fn namespace(id: u32, side: Side) -> String {
    format!("cladnet-bench-{id}-{side:?}").to_lowercase()
}

fn keys() -> Result<Keys> {
    let private = run("wg", &["genkey"])?;
    let mut derive = Command::new("wg").arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    derive.stdin.take().context("wg takes no input")?.write_all(private.as_bytes())?;
    let public = String::from_utf8(derive.wait_with_output()?.stdout)?;
    Ok(Keys { private: private.trim().to_owned(), public: public.trim().to_owned() })
}

/// `ip netns exec` becomes the program, so the process is the program's own.
fn start(id: u32, side: Side, program: &Path, arguments: &[&str]) -> Result<Process> {
    let child = Command::new("ip")
        .args(["netns", "exec", &namespace(id, side)])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Ok(Process(child.with_context(|| format!("could not start {}", program.display()))?))
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("could not run {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{program} {} failed: {}{text}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn cpu_seconds(Process(child): &Process) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let (_, fields) = stat.rsplit_once(") ").context("this stat has no name")?;
    let ticks: f64 = fields.split(' ').skip(11).take(2).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

fn resident_megabytes(Process(child): &Process) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("an empty VmRSS")?.parse()?;
    Ok(kib * 1024.0 / 1e6)
}
