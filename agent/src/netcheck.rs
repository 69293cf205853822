//! What this host needs, checked one by one: privilege, /dev/net/tun, the port, the interface, the addresses seen from
//! outside, NAT, metadata, the service. What fails says what would be right.

use std::{
    fs::{self, OpenOptions},
    io,
    net::{SocketAddr, UdpSocket},
    slice,
    time::{Duration, Instant},
};

use cladnet_pki::{
    Credentials,
    channel::{ServiceUrl, connect},
    client_config,
};
use futures_util::future::join_all;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

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
    checks.extend(host(facts, identity.is_some()));
    checks.extend(services(identity).await);
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

fn host(facts: &Facts, enrolled: bool) -> [Check; 5] {
    let has_ipv6 = facts.underlay.iter().flat_map(|underlay| &underlay.addresses).any(|net| net.addr().is_ipv6());
    [
        way_out(facts),
        public_ipv4(facts, enrolled),
        public_ipv6(facts, has_ipv6, enrolled),
        nat(facts.nat(), facts.observed.ipv4_servers()),
        metadata_check(facts),
    ]
}

fn way_out(facts: &Facts) -> Check {
    match &facts.underlay {
        None => Check::new(
            "interface",
            Outcome::Bad,
            "no default route, so no way out; see `ip route` and the network's configuration",
        ),
        Some(underlay) => {
            let addresses = list(&underlay.addresses);
            let gateway = underlay.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            let note = if underlay.mtu < USUAL_MTU { "; the tunnel's MTU is lowered" } else { "" };
            let detail = format!("{}{gateway} with {addresses}, MTU {}{note}", underlay.name, underlay.mtu);
            Check::new("interface", Outcome::Good, detail)
        }
    }
}

fn public_ipv4(facts: &Facts, enrolled: bool) -> Check {
    match seen(facts, SocketAddr::is_ipv4) {
        Some(addresses) => Check::new("public IPv4", Outcome::Good, format!("seen as {addresses}")),
        None => Check::new("public IPv4", Outcome::Unknown, unseen(enrolled)),
    }
}

fn public_ipv6(facts: &Facts, has_ipv6: bool, enrolled: bool) -> Check {
    match (seen(facts, SocketAddr::is_ipv6), has_ipv6) {
        (Some(addresses), _) => Check::new("public IPv6", Outcome::Good, format!("seen as {addresses}")),
        (None, false) => Check::new("public IPv6", Outcome::Good, "none: the interface has no global IPv6 address"),
        (None, true) => Check::new("public IPv6", Outcome::Unknown, format!("by IPv6 {}", unseen(enrolled))),
    }
}

fn seen(facts: &Facts, family: impl Fn(&SocketAddr) -> bool) -> Option<String> {
    let addresses: Vec<_> = facts.observed.addresses().into_iter().filter(family).collect();
    (!addresses.is_empty()).then(|| list(&addresses))
}

fn unseen(enrolled: bool) -> &'static str {
    match enrolled {
        true => "no STUN answer; let UDP to the service's port 8053 out, and answers to our port in",
        false => "nobody to ask: this host is not enrolled, so it knows no service",
    }
}

/// Servers at two addresses are needed to see whether a mapping depends on the destination (RFC 4787 §4.1); and none of
/// them can tell whether packets of others are let in, as the service is no stranger to the NAT.
fn nat(nat: Nat, servers: usize) -> Check {
    let independent = match servers {
        0 | 1 => "only one address of servers answered, so whether the mapping depends on the destination is not known",
        _ => "the same for every destination (endpoint-independent mapping)",
    };
    let (outcome, detail) = match nat {
        Nat::Unknown => (Outcome::Unknown, "not known without a STUN answer by IPv4".to_owned()),
        Nat::None => (Outcome::Good, "none: the address seen from outside is the interface's".to_owned()),
        Nat::PortPreserving => (
            Outcome::Good,
            format!(
                "keeps the port, as a 1:1 NAT does; whether strangers are let in cannot be told from here; {independent}"
            ),
        ),
        Nat::PortTranslating => {
            (Outcome::Good, format!("changes the port, which is kept open by sending; {independent}"))
        }
        Nat::Symmetric => (
            Outcome::Bad,
            "another port for every destination (endpoint-dependent mapping): only peers with an open address can be \
             reached; forward a UDP port to this host and write it to extra_endpoints"
                .to_owned(),
        ),
    };
    Check::new("NAT", outcome, detail)
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn metadata_check(facts: &Facts) -> Check {
    let (outcome, detail) = match &facts.metadata {
        Answer::Pending => (Outcome::Unknown, "not answered yet".to_owned()),
        Answer::Nobody => {
            (Outcome::Unknown, "nobody answers; no cloud, or write /etc/cladnet-agent/location.toml".to_owned())
        }
        Answer::Failed(error) => {
            (Outcome::Unknown, format!("no provider that is known ({error}); write /etc/cladnet-agent/location.toml"))
        }
        Answer::Found(instance) => {
            let location = &instance.location;
            let fields = [&location.provider, &location.region, &location.zone, &location.vpc];
            let known: Vec<_> = fields.iter().filter_map(|field| Some(field.as_ref()?.value.as_str())).collect();
            (Outcome::Good, known.join(", "))
        }
    };
    Check::new("metadata", outcome, detail)
}

/// Each address of the service by itself: one that answers does not stand for the others.
async fn services(identity: Option<&Identity>) -> Vec<Check> {
    let Some(identity) = identity else {
        return vec![Check::new("service", Outcome::Unknown, "this host is not enrolled, so it knows none")];
    };
    match credentials(identity) {
        Ok((services, own)) => join_all(services.iter().map(|service| reach(service, identity, &own))).await,
        Err(error) => vec![Check::new("service", Outcome::Bad, chain(&error))],
    }
}

async fn reach(service: &ServiceUrl, identity: &Identity, own: &Credentials) -> Check {
    let attempt = async {
        let tls = client_config(&identity.authority, Some(own)).map_err(|error| chain(&error))?;
        let started = Instant::now();
        connect(slice::from_ref(service), tls).await.map_err(|error| chain(&error))?;
        Ok::<_, String>((started.elapsed(), round_trip(service).await))
    };
    let silent = || Err(format!("{service} gives no answer within {} s", PATIENCE.as_secs()));
    match timeout(PATIENCE, attempt).await.unwrap_or_else(|_| silent()) {
        Ok((tls, rtt)) => {
            let rtt = rtt.map(|rtt| format!(", round trip {:.1} ms", milliseconds(rtt))).unwrap_or_default();
            let detail = format!("{service} reached: TLS in {:.1} ms{rtt}", milliseconds(tls));
            Check::new("service", Outcome::Good, detail)
        }
        Err(error) => Check::new("service", Outcome::Bad, error),
    }
}

/// What TCP takes to connect, the name looked up before.
async fn round_trip(service: &ServiceUrl) -> Option<Duration> {
    let addresses = Vec::from_iter(lookup_host((service.host(), service.port())).await.ok()?);
    let started = Instant::now();
    TcpStream::connect(&addresses[..]).await.ok().map(|_| started.elapsed())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{facts::Observed, netlink::DefaultInterface};

    fn facts(seen: &[&str]) -> Facts {
        let underlay = DefaultInterface {
            name: "ens5".into(),
            index: 2,
            mtu: 1500,
            gateway: "10.0.1.1".parse().ok(),
            addresses: vec!["10.0.1.4/24".parse().expect("address"), "2001:db8::4/64".parse().expect("address")],
        };
        let seen = seen.iter().map(|address| address.parse().expect("address"));
        Facts { port: 8055, underlay: Some(underlay), observed: Observed::by_servers(seen), ..Facts::default() }
    }

    fn told(facts: &Facts, enrolled: bool) -> Vec<String> {
        host(facts, enrolled).map(|check| format!("{}: {:?}, {}", check.name, check.outcome, check.detail)).into()
    }

    fn says(told: &[String], line: usize, words: &[&str]) {
        words.iter().for_each(|word| assert!(told[line].contains(word), "{word:?} is missing: {told:#?}"));
    }

    #[test]
    fn a_host_that_is_seen_by_both_families_is_told_its_addresses_and_its_nat() {
        let told = told(&facts(&["203.0.113.9:8055", "203.0.113.9:8055", "[2001:db8::4]:8055"]), true);
        says(&told, 0, &["interface: Good", "ens5 via 10.0.1.1 with 10.0.1.4/24, 2001:db8::4/64"]);
        says(&told, 1, &["public IPv4: Good, seen as 203.0.113.9:8055"]);
        says(&told, 2, &["public IPv6: Good, seen as [2001:db8::4]:8055"]);
        says(&told, 3, &["NAT: Good", "1:1", "strangers", "endpoint-independent"]);
    }

    #[test]
    fn a_mapping_that_depends_on_the_destination_is_bad_and_one_server_cannot_tell() {
        says(&told(&facts(&["203.0.113.9:4000"]), true), 3, &["NAT: Good", "changes the port", "not known"]);
        let told = told(&facts(&["203.0.113.9:4000", "203.0.113.9:4001"]), true);
        says(&told, 3, &["NAT: Bad", "endpoint-dependent", "extra_endpoints"]);
    }

    #[test]
    fn silence_and_a_host_that_is_not_enrolled_are_told_apart() {
        let silent = told(&facts(&[]), true);
        says(&silent, 1, &["public IPv4: Unknown", "no STUN answer", "UDP"]);
        says(&silent, 2, &["public IPv6: Unknown", "no STUN answer"]);
        says(&told(&facts(&[]), false), 1, &["not enrolled"]);
        says(&told(&Facts::default(), false), 0, &["interface: Bad", "no default route"]);
    }
}
