//! Two namespaces and a cable, with both ends of every contender's tunnel in them. All is gone when it is dropped.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{wait::eventually, world::binary};

const STARTUP: Duration = Duration::from_secs(10);
/// Inside Ethernet's 1500, for all alike.
const MTU: &str = "1420";
const SIDES: [Side; 2] = [Side::A, Side::B];
/// Linux reports CPU times in these (`sysconf(_SC_CLK_TCK)`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Cladnet,
    CladnetNoOffload,
    /// Both ends trust the cable.
    CladnetClear,
    WireguardGo,
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cladnet => "cladnet",
            Self::CladnetNoOffload => "cladnet_no_offload",
            Self::CladnetClear => "cladnet_clear",
            Self::WireguardGo => "wireguard_go",
        }
    }

    fn number(self) -> u8 {
        self as u8
    }

    fn port(self) -> u16 {
        8060 + u16::from(self.number())
    }

    fn overlay(self, side: Side) -> String {
        format!("10.77.{}.{}", self.number(), side.number())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
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

/// One transfer from A to B.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) gigabits_per_second: f64,
    /// Of both ends of the tunnel; what the kernel does for others is not in it.
    pub(super) cpu_seconds_per_gigabyte: f64,
}

pub(super) struct Lab {
    id: u32,
    directory: TempDir,
    tunnels: Vec<(Contender, [Process; 2])>,
    _sink: Process,
}

/// A program that ends with the lab.
struct Process(Child);

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
    pub(super) fn raise(contenders: &[Contender]) -> Result<Self> {
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
        std::mem::forget(namespaces);
        let mut lab = Self { id, directory, tunnels: Vec::new(), _sink: sink };
        for contender in contenders {
            let ends = lab.raise_tunnel(*contender)?;
            lab.tunnels.push((*contender, ends));
            lab.wait_for(*contender)?;
        }
        Ok(lab)
    }

    /// Sends for so many seconds.
    pub(super) fn measure(&self, contender: Contender, seconds: u32) -> Result<Sample> {
        let ends = self.tunnels.iter().find(|(other, _)| *other == contender).map(|(_, ends)| ends);
        let ends = ends.context("this tunnel was not raised")?;
        if contender == Contender::CladnetClear {
            // Clear frames begin a second or two after traffic does, and end when it pauses.
            let (inside, to) = (namespace(self.id, Side::A), contender.overlay(Side::B));
            run("ip", &["netns", "exec", &inside, "ping", "-c", "40", "-i", "0.1", &to])?;
        }
        let before = cpu_seconds(ends)?;
        let (seconds, to) = (seconds.to_string(), contender.overlay(Side::B));
        // Of the congestion controls there are, the one that every kernel has.
        let arguments =
            ["netns", "exec", &namespace(self.id, Side::A), "iperf3", "-c", &to, "-t", &seconds, "-C", "cubic", "-J"];
        let report: serde_json::Value = serde_json::from_str(&run("ip", &arguments)?)?;
        let received = &report["end"]["sum_received"];
        let bytes = received["bytes"].as_f64().context("iperf3 told no bytes")?;
        let rate = received["bits_per_second"].as_f64().context("iperf3 told no rate")?;
        let cpu_seconds_per_gigabyte = (cpu_seconds(ends)? - before) / (bytes / 1e9);
        Ok(Sample { gigabits_per_second: rate / 1e9, cpu_seconds_per_gigabyte })
    }

    fn raise_tunnel(&self, contender: Contender) -> Result<[Process; 2]> {
        let [a, b] = [keys()?, keys()?];
        let ends = [(Side::A, &a, &b), (Side::B, &b, &a)].map(|(side, own, peer)| match contender {
            Contender::Cladnet | Contender::CladnetClear => self.start_cladnet(contender, side, own, peer, &[]),
            Contender::CladnetNoOffload => self.start_cladnet(contender, side, own, peer, &["--no-offload"]),
            Contender::WireguardGo => self.start_wireguard_go(contender, side, own, peer),
        });
        let [a, b] = ends;
        Ok([a?, b?])
    }

    fn start_cladnet(
        &self,
        contender: Contender,
        side: Side,
        own: &Keys,
        peer: &Keys,
        flags: &[&str],
    ) -> Result<Process> {
        let name = format!("{}-{side:?}", contender.name());
        fs::write(self.directory.path().join(format!("{name}.key")), &own.private)?;
        let endpoint = format!("{}:{}", side.other().underlay(), contender.port());
        let trust = match contender {
            Contender::CladnetClear => format!("probes = true\ntrusted_endpoints = ['{endpoint}']\n"),
            _ => String::new(),
        };
        let text = format!(
            "interface = 'cbnet{}'\nprivate_key_file = '{name}.key'\naddress = '{}/24'\nlisten_port = {port}\nmtu = {MTU}\n\
             [[peers]]\npublic_key = '{}'\nallowed_ips = ['{}/32']\nendpoint = '{endpoint}'\n{trust}{}",
            contender.number(),
            contender.overlay(side),
            peer.public,
            contender.overlay(side.other()),
            access(),
            port = contender.port(),
        );
        let file = self.directory.path().join(format!("{name}.toml"));
        fs::write(&file, text)?;
        let file = file.to_str().context("the temporary directory has an unprintable name")?;
        start(self.id, side, &binary("cladnet-agent")?, &[flags, &["static", file]].concat())
    }

    fn start_wireguard_go(&self, contender: Contender, side: Side, own: &Keys, peer: &Keys) -> Result<Process> {
        // Its control socket lies in a directory that all namespaces share.
        let interface = format!("wg{}{side:?}", self.id).to_lowercase();
        let process = start(self.id, side, Path::new("wireguard-go"), &["-f", &interface])?;
        let key = self.directory.path().join(&interface);
        fs::write(&key, &own.private)?;
        let inside = namespace(self.id, side);
        let within = |arguments: &[&str]| run("ip", &[&["netns", "exec", &inside], arguments].concat());
        eventually("wireguard-go to listen", STARTUP, || within(&["wg", "show", &interface]))?;
        let key = key.to_str().context("the temporary directory has an unprintable name")?;
        let (port, overlay) = (contender.port().to_string(), format!("{}/32", contender.overlay(side.other())));
        let endpoint = format!("{}:{port}", side.other().underlay());
        within(&["wg", "set", &interface, "listen-port", &port, "private-key", key])?;
        within(&["wg", "set", &interface, "peer", &peer.public, "allowed-ips", &overlay, "endpoint", &endpoint])?;
        within(&["ip", "address", "add", &format!("{}/24", contender.overlay(side)), "dev", &interface])?;
        within(&["ip", "link", "set", &interface, "mtu", MTU, "up"])?;
        Ok(process)
    }

    fn wait_for(&self, contender: Contender) -> Result<()> {
        let (inside, to) = (namespace(self.id, Side::A), contender.overlay(Side::B));
        eventually(&format!("an echo through {}", contender.name()), STARTUP, || {
            run("ip", &["netns", "exec", &inside, "ping", "-c", "1", "-W", "1", &to])
        })?;
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tunnels.clear();
        drop(Namespaces(self.id));
    }
}

struct Namespaces(u32);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for side in SIDES {
            let _ = run("ip", &["netns", "del", &namespace(self.0, side)]);
        }
    }
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

/// User and system time of both ends so far (proc(5), fields 14 and 15 of `stat`).
fn cpu_seconds(ends: &[Process; 2]) -> Result<f64> {
    let mut ticks = 0.0;
    for Process(child) in ends {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("this stat has no name")?;
        for field in fields.split(' ').skip(11).take(2) {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / TICKS_PER_SECOND)
}
