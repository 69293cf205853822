//! How answers look: tables for people, the types of the control socket for programs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};

use cladnet_model::{CloudLocation, DesiredState, RoundTrips};
use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;

use super::Output;
use crate::{
    control::{
        Reply,
        protocol::{Check, Left, NetworkStatus, Outcome, PathStatus, PeerStatus, PingReport, ServiceStatus, Status},
    },
    failure::{Failure, Kind},
};

/// Prints an answer to standard output.
pub(super) fn reply(reply: &Reply, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => line(&json(reply)?),
        Output::Text => line(text(reply).trim_end()),
    }
}

/// Prints a line. A reader that has seen enough, as `head` does, is no error.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Kind::Failed, format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// The answer's content, without the envelope that tells answers apart.
fn json(reply: &Reply) -> Result<String, Failure> {
    let text = match reply {
        Reply::Network(network) => serde_json::to_string_pretty(network),
        Reply::Left(left) => serde_json::to_string_pretty(left),
        Reply::Status(status) => serde_json::to_string_pretty(status),
        Reply::Peers(peers) => serde_json::to_string_pretty(peers),
        Reply::Paths(paths) => serde_json::to_string_pretty(paths),
        Reply::Ping(report) => {
            serde_json::to_string_pretty(&PingOutput { report, figures: Figures::of(&report.rtts_us) })
        }
        Reply::Netcheck(checks) => serde_json::to_string_pretty(checks),
    };
    text.map_err(|error| Failure::new(Kind::Failed, format!("cannot print: {error}")))
}

#[derive(serde::Serialize)]
struct PingOutput<'a> {
    #[serde(flatten)]
    report: &'a PingReport,
    figures: Option<Figures>,
}

/// Of the replies, in microseconds.
#[derive(serde::Serialize)]
struct Figures {
    min_us: u32,
    avg_us: u32,
    max_us: u32,
    stddev_us: u32,
    p50_us: u32,
    p99_us: u32,
}

impl Figures {
    fn of(rtts_us: &[u32]) -> Option<Self> {
        let RoundTrips { min_us, avg_us, max_us, stddev_us, p50_us, p99_us, .. } = RoundTrips::of(rtts_us)?;
        Some(Self { min_us, avg_us, max_us, stddev_us, p50_us, p99_us })
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Network(network) => network_line(network),
        Reply::Left(left) => left_lines(left),
        Reply::Status(status) => status_text(status),
        Reply::Peers(peers) => peers_table(peers),
        Reply::Paths(paths) => paths_table(paths),
        Reply::Ping(report) => ping_text(report),
        Reply::Netcheck(checks) => checks_table(checks),
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table
}

fn network_line(network: &NetworkStatus) -> String {
    let mut line = format!("{}: {}", network.network, network.state);
    if let Some(address) = network.address {
        let _ = write!(line, ", {address} on {}", network.interface);
    }
    let _ = write!(line, ", {} peers", peer_count(network));
    if !network.reason.is_empty() {
        let _ = write!(line, " ({})", network.reason);
    }
    line
}

fn left_lines(left: &Left) -> String {
    let mut text = String::new();
    for network in &left.networks {
        let _ = writeln!(text, "left {network}");
    }
    if left.host {
        text.push_str("this host has no identity any more\n");
    }
    if let Some(warning) = &left.warning {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn status_text(status: &Status) -> String {
    let mut text = String::new();
    match &status.host {
        Some(host) => {
            let _ = writeln!(text, "host      {}", host.id);
            let _ = writeln!(text, "service   {}", service(&status.service));
            if let Some(at) = host.certificate_expires_at {
                let _ = writeln!(text, "identity  until {at:.0}");
            }
        }
        None => text.push_str("host      not enrolled; join a network with `cladnet-agent join URL TOKEN`\n"),
    }
    if !status.endpoints.is_empty() {
        let endpoints: Vec<_> =
            status.endpoints.iter().map(|e| format!("{} ({}, {})", e.address, e.scope, e.source)).collect();
        let _ = writeln!(text, "endpoints {}", endpoints.join(", "));
    }
    let _ = writeln!(text, "location  {}", location(&status.location));
    if !status.discards.is_empty() {
        let discards: Vec<_> = status.discards.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let _ = writeln!(text, "dropped   {}", discards.join(", "));
    }
    for problem in &status.problems {
        let _ = writeln!(text, "problem   {problem}");
    }
    if !status.networks.is_empty() {
        let mut table = table(["NETWORK", "STATE", "INTERFACE", "ADDRESS", "SPACE", "PEERS", "REASON"]);
        for network in &status.networks {
            table.add_row([
                network.network.to_string(),
                network.state.to_string(),
                network.interface.clone(),
                or_dash(network.address),
                or_dash(network.address_space),
                peer_count(network),
                network.reason.clone(),
            ]);
        }
        let _ = write!(text, "\n{}", table.trim_fmt());
    }
    text
}

/// How many there are, and to how many of them packets travel in clear if to any.
fn peer_count(network: &NetworkStatus) -> String {
    match network.clear_peers {
        0 => network.peers.to_string(),
        clear => format!("{} ({clear} in clear)", network.peers),
    }
}

fn service(service: &ServiceStatus) -> String {
    match service {
        ServiceStatus::Idle => "not used".into(),
        ServiceStatus::Connecting { service } => format!("{service}, connecting"),
        ServiceStatus::Connected { service, since } => {
            let age = Timestamp::now().duration_since(*since);
            format!("{service}, connected for {}", span(Duration::try_from(age).unwrap_or_default()))
        }
        ServiceStatus::Away { service, error } => {
            format!("{service}, away ({error}); going on with the last known configuration")
        }
    }
}

fn location(location: &CloudLocation) -> String {
    let CloudLocation { provider, region, zone, vpc, subnet, .. } = location;
    let fields = [("", provider), ("", region), ("", zone), ("VPC ", vpc), ("subnet ", subnet)];
    let known: Vec<_> =
        fields.iter().filter_map(|(name, field)| Some(format!("{name}{}", field.as_ref()?.value))).collect();
    if known.is_empty() { "unknown".into() } else { known.join(", ") }
}

fn peers_table(peers: &[PeerStatus]) -> String {
    let mut table = table([
        "NETWORK",
        "HOST",
        "NAME",
        "ADDRESS",
        "SCOPE",
        "ENDPOINT",
        "MTU",
        "HANDSHAKE",
        "SENT",
        "RECEIVED",
        "ENCRYPTION",
    ]);
    for peer in peers {
        let endpoint = peer.no_path.as_ref().map(|reason| format!("no path: {reason}"));
        table.add_row([
            peer.network.to_string(),
            peer.host.to_string(),
            peer.name.clone(),
            or_dash(peer.address),
            or_dash(peer.scope),
            endpoint.unwrap_or_else(|| or_dash(peer.endpoint)),
            or_dash(peer.mtu),
            handshake(peer),
            bytes(peer.sent_bytes),
            bytes(peer.received_bytes),
            peer.encryption.clone(),
        ]);
    }
    table.trim_fmt()
}

fn paths_table(paths: &[PathStatus]) -> String {
    let mut table = table(["NETWORK", "NAME", "ADDRESS", "SCOPE", "ENDPOINT", "RTT", "HANDSHAKE", "WHY"]);
    for path in paths {
        table.add_row([
            path.peer.network.to_string(),
            path.peer.name.clone(),
            or_dash(path.peer.address),
            or_dash(path.peer.scope),
            or_dash(path.peer.endpoint),
            or_dash(path.rtt_us.map(milliseconds)),
            handshake(&path.peer),
            path.detail.clone(),
        ]);
    }
    table.trim_fmt()
}

fn handshake(peer: &PeerStatus) -> String {
    match (peer.state, peer.handshake_age_s) {
        (DesiredState::Down, _) => "down".into(),
        (DesiredState::Up, Some(age)) => format!("{} ago", span(Duration::from_secs(age))),
        (DesiredState::Up, None) => "none".into(),
    }
}

fn ping_text(report: &PingReport) -> String {
    let mut text = String::new();
    let name = if report.name.is_empty() { report.host.as_str() } else { &report.name };
    for (number, rtt) in report.rtts_us.iter().enumerate() {
        let _ = writeln!(text, "reply {} from {name} ({}): {}", number + 1, report.address, milliseconds(*rtt));
    }
    let received = report.rtts_us.len();
    let _ = write!(text, "{} sent, {received} received", report.sent);
    if let Some(figures) = Figures::of(&report.rtts_us) {
        let [min, avg, max] = [figures.min_us, figures.avg_us, figures.max_us].map(milliseconds);
        let _ = write!(text, ", min {min} avg {avg} max {max}");
    }
    if !report.error.is_empty() {
        let _ = write!(text, " ({})", report.error);
    }
    text
}

fn checks_table(checks: &[Check]) -> String {
    let mut table = table(["", "CHECK", "DETAIL"]);
    for check in checks {
        let mark = match check.outcome {
            Outcome::Good => "ok",
            Outcome::Unknown => "-",
            Outcome::Bad => "BAD",
        };
        table.add_row([mark, &check.name, &check.detail]);
    }
    table.trim_fmt()
}

fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn milliseconds(us: u32) -> String {
    format!("{:.3} ms", f64::from(us) / 1000.0)
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
