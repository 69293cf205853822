//! What this host needs, checked one by one: privilege, /dev/net/tun, the port, the way out, the service, NAT,
//! metadata.

use std::{
    fs::{self, OpenOptions},
    io,
    net::UdpSocket,
    time::{Duration, Instant},
};

use cladnet_pki::{channel::connect, client_config};
use tokio::time::timeout;

use crate::{
    config::Config,
    control::protocol::{Check, Outcome},
    facts::{
        Facts, Nat,
        metadata::{self, Answer, Places},
    },
    failure::{Failure, Kind, chain},
    netlink::Netlink,
    state::Identity,
    sync::credentials,
};

const TUN: &str = "/dev/net/tun";
/// capability.h: interfaces, addresses, routes.
const CAP_NET_ADMIN: u32 = 12;
/// capability.h: ICMP sockets, for ping.
const CAP_NET_RAW: u32 = 13;
/// Ethernet's; below it the tunnel's own MTU shrinks.
const USUAL_MTU: u32 = 1500;
const PATIENCE: Duration = Duration::from_secs(6);

/// What the daemon cannot do without, or how to get it.
pub(crate) fn may_run() -> Result<(), Failure> {
    if !capable(CAP_NET_ADMIN) {
        let message = "no privilege to make network interfaces (CAP_NET_ADMIN is missing); run this as root, or through its service unit";
        return Err(Failure::new(Kind::Denied, message));
    }
    match tun() {
        Ok(()) => Ok(()),
        Err(message) => Err(Failure::new(Kind::Failed, message)),
    }
}

/// Everything, as the daemon sees it.
pub(crate) async fn within_daemon(config: &Config, facts: &Facts, identity: Option<&Identity>) -> Vec<Check> {
    let mut checks = vec![
        Check::new("daemon", Outcome::Good, format!("running, pid {}", std::process::id())),
        privilege(),
        tun_check(),
        Check::new("port", Outcome::Good, format!("UDP {} is ours", config.listen_port)),
    ];
    checks.extend(host(facts));
    checks.push(service(identity).await);
    checks
}

/// What can be told while no daemon runs.
pub(crate) async fn without_daemon(config: &Config, failure: &Failure) -> Vec<Check> {
    let mut checks = vec![
        Check::new("daemon", Outcome::Bad, failure.message.clone()),
        privilege(),
        tun_check(),
        port(config.listen_port),
    ];
    let underlay = match Netlink::connect() {
        Ok(netlink) => netlink.default_interface().await.ok().flatten(),
        Err(_) => None,
    };
    let facts = Facts { underlay, metadata: metadata::ask(&Places::default()).await, ..Facts::default() };
    checks.push(way_out(&facts));
    checks.push(metadata_check(&facts));
    checks
}

fn host(facts: &Facts) -> [Check; 3] {
    let seen: Vec<_> = facts.observed.addresses().iter().map(ToString::to_string).collect();
    let seen = seen.join(", ");
    let nat = match facts.nat() {
        Nat::Unknown => Check::new(
            "public address",
            Outcome::Unknown,
            "no STUN answer yet; UDP to the service's port may be blocked",
        ),
        Nat::None => Check::new("public address", Outcome::Good, format!("{seen}, no NAT")),
        Nat::PortPreserving => {
            Check::new("public address", Outcome::Good, format!("{seen}, NAT that keeps the port (1:1)"))
        }
        Nat::PortTranslating => Check::new(
            "public address",
            Outcome::Good,
            format!("{seen}, NAT that changes the port; kept open by sending"),
        ),
        Nat::Symmetric => Check::new(
            "public address",
            Outcome::Bad,
            format!("{seen}: every server sees another port; only peers with an open address can be reached"),
        ),
    };
    [way_out(facts), nat, metadata_check(facts)]
}

fn way_out(facts: &Facts) -> Check {
    match &facts.underlay {
        None => Check::new("way out", Outcome::Bad, "no default route"),
        Some(underlay) => {
            let addresses: Vec<_> = underlay.addresses.iter().map(ToString::to_string).collect();
            let note = if underlay.mtu < USUAL_MTU { "; the tunnel's MTU is lowered" } else { "" };
            let detail = format!("{} with {}, MTU {}{note}", underlay.name, addresses.join(", "), underlay.mtu);
            Check::new("way out", Outcome::Good, detail)
        }
    }
}

fn metadata_check(facts: &Facts) -> Check {
    let (outcome, detail) = match &facts.metadata {
        Answer::Pending => (Outcome::Unknown, "not answered yet".to_owned()),
        Answer::Nobody => {
            (Outcome::Unknown, "nobody answers; no cloud, or write /etc/cladnet-agent/location.toml".to_owned())
        }
        Answer::Failed(error) => (Outcome::Unknown, format!("no provider that is known ({error})")),
        Answer::Found(instance) => {
            let location = &instance.location;
            let fields = [&location.provider, &location.region, &location.zone, &location.vpc];
            let known: Vec<_> = fields.iter().filter_map(|field| Some(field.as_ref()?.value.as_str())).collect();
            (Outcome::Good, known.join(", "))
        }
    };
    Check::new("metadata", outcome, detail)
}

async fn service(identity: Option<&Identity>) -> Check {
    let Some(identity) = identity else {
        return Check::new("service", Outcome::Unknown, "this host is not enrolled, so it knows none");
    };
    let started = Instant::now();
    let attempt = async {
        let (services, credentials) = credentials(identity).map_err(|error| chain(&error))?;
        let tls = client_config(&identity.authority, Some(&credentials)).map_err(|error| chain(&error))?;
        connect(&services, tls).await.map_err(|error| chain(&error))
    };
    match timeout(PATIENCE, attempt).await {
        Ok(Ok(_)) => {
            let detail = format!("{} reached in {} ms", identity.services.join(", "), started.elapsed().as_millis());
            Check::new("service", Outcome::Good, detail)
        }
        Ok(Err(error)) => Check::new("service", Outcome::Bad, error),
        Err(_) => Check::new("service", Outcome::Bad, format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

fn privilege() -> Check {
    let needed = [(CAP_NET_ADMIN, "CAP_NET_ADMIN"), (CAP_NET_RAW, "CAP_NET_RAW (ping)")];
    let missing: Vec<_> = needed.iter().filter(|(bit, _)| !capable(*bit)).map(|(_, name)| *name).collect();
    match missing.is_empty() {
        true => Check::new("privilege", Outcome::Good, "may make interfaces and ping"),
        false => Check::new("privilege", Outcome::Bad, format!("missing: {}; run as root", missing.join(", "))),
    }
}

fn tun_check() -> Check {
    match tun() {
        Ok(()) => Check::new(TUN, Outcome::Good, "can be opened"),
        Err(message) => Check::new(TUN, Outcome::Bad, message),
    }
}

/// Opening the device without naming an interface makes nothing.
fn tun() -> Result<(), String> {
    match OpenOptions::new().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!(
            "{TUN} does not exist; load the kernel's module with `modprobe tun`, or give the container the device"
        )),
        Err(error) => Err(format!("cannot open {TUN} ({error}); run this as root, or give the container the device")),
    }
}

fn port(port: u16) -> Check {
    match UdpSocket::bind(("0.0.0.0", port)) {
        Ok(_) => Check::new("port", Outcome::Good, format!("UDP {port} is free")),
        Err(error) => Check::new("port", Outcome::Bad, format!("UDP {port} cannot be used ({error})")),
    }
}

/// Whether a capability is in this process's effective set; see proc(5).
fn capable(bit: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set >> bit & 1 == 1)
}
