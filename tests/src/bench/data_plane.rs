//! Data plane: traffic through one tunnel in two namespaces, beside other people's programs, by turns. All that carries
//! it shares this machine's cores, so the ratios tell more than the rates.

mod contender;
mod lab;
mod quiet;
mod statistics;
mod swarm;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, iter,
};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

pub(crate) use contender::Contender;

use super::Effort;
use crate::report::{Better, Comparison, Report, percentile};
use lab::{Lab, Link, Raised, Side};
use quiet::Noise;
use statistics::{interval, median};
use traffic::Direction;

/// Seconds of CPU of both ends for a gigabyte, with an AEAD that is not vectorised over packets.
const CPU_TARGET: f64 = 2.4;
/// Resident megabytes of an end with a thousand live sessions.
const MEMORY_TARGET: f64 = 20.0;
const MANY_PEERS: u16 = 1000;
/// How many echoes a percentile is of.
const ECHOES: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scenario {
    Tcp { streams: u32, reverse: bool },
    Udp { payload: usize },
    Ping { loaded: bool },
    Memory { peers: u16 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Metric {
    Rate,
    SenderCpu,
    ReceiverCpu,
    PacketRate,
    HalfOfRoundTrips,
    NearlyAllRoundTrips,
    Memory,
}

/// How often a scenario is played, and for how many seconds.
struct Step {
    link: Link,
    scenario: Scenario,
    rounds: usize,
    seconds: u32,
}

/// Every sample, by what it is of.
#[derive(Default)]
struct Samples(BTreeMap<(&'static str, Scenario, Metric), BTreeMap<Contender, Vec<f64>>>);

const ONE_STREAM: Scenario = Scenario::Tcp { streams: 1, reverse: false };
const SMALL_PACKETS: Scenario = Scenario::Udp { payload: 64 };
const PING_UNDER_LOAD: Scenario = Scenario::Ping { loaded: true };
const MANY_SESSIONS: Scenario = Scenario::Memory { peers: MANY_PEERS };

pub(super) fn measure(effort: Effort, peers: Option<&[Contender]>, scenarios: Option<&[String]>) -> Result<Report> {
    let memories = [Scenario::Memory { peers: 1 }, MANY_SESSIONS];
    let known: Vec<_> =
        plan(effort).iter().map(|step| step.scenario).chain(memories).map(|it| it.to_string()).collect();
    if let Some(unknown) = scenarios.into_iter().flatten().find(|name| !known.contains(name)) {
        bail!(
            "no scenario is called {unknown:?}; there are {}",
            BTreeSet::from_iter(known).into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    let is_wanted = |scenario: Scenario| scenarios.is_none_or(|names| names.contains(&scenario.to_string()));
    let mut report = Report::new("data-plane");
    let lab = Lab::new()?;
    let (mut raised, mut missing) = (Vec::new(), BTreeMap::new());
    for contender in wanted(peers) {
        match lab.raise(contender) {
            Ok(ends) => raised.push(ends),
            Err(reason) => {
                let reason = format!("{reason:#}");
                report.miss(format!("tunnel of {}", contender.name()), "", Better::Higher, &reason);
                missing.insert(contender, reason);
            }
        }
    }
    let (mut samples, mut noise) = (Samples::default(), Noise::default());
    for step in plan(effort).into_iter().filter(|step| is_wanted(step.scenario)) {
        lab.be(step.link)?;
        for _ in 0..step.rounds {
            for ends in &raised {
                match noise.measured(|| play(&lab, ends, &step)) {
                    Ok(played) => samples.take(step.link, step.scenario, ends.contender, played),
                    // The others are measured all the same.
                    Err(reason) => {
                        let name = format!("{} {} {}", step.link.name(), step.scenario, ends.contender.name());
                        report.miss(name, "", Better::Higher, format!("{reason:#}"));
                    }
                }
            }
        }
    }
    let is_measured = memories.into_iter().any(is_wanted);
    for ends in raised.iter().filter(|ends| is_measured && ends.has_programs()) {
        let remember = |scenario, megabytes| {
            samples.take(Link::Veth, scenario, ends.contender, vec![(Metric::Memory, megabytes)]);
        };
        memory(&lab, ends, &mut report, remember);
    }
    samples.tell(&mut report);
    judge(&samples, &missing, &mut report);
    report.add("runs that began on a busy machine", noise.busy_starts as f64, "", Better::Lower, Some(0.0));
    report.add("runs repeated because CPU time was stolen", noise.repeated as f64, "", Better::Lower, None);
    report.add("largest share of CPU time stolen in a run", noise.worst_steal, "", Better::Lower, None);
    Ok(report)
}

/// Ours always: the others are told as ratios to it.
fn wanted(peers: Option<&[Contender]>) -> Vec<Contender> {
    let is_wanted =
        |contender: &Contender| *contender == Contender::Cladnet || peers.is_none_or(|peers| peers.contains(contender));
    Contender::value_variants().iter().copied().filter(is_wanted).collect()
}

fn plan(effort: Effort) -> Vec<Step> {
    let step = |link, scenario, rounds, seconds| Step { link, scenario, rounds, seconds };
    let tcp = |streams, reverse| Scenario::Tcp { streams, reverse };
    let udp = |payload| Scenario::Udp { payload };
    let ping = |loaded| Scenario::Ping { loaded };
    match effort {
        Effort::Quick => vec![step(Link::Veth, ONE_STREAM, 1, 3), step(Link::Wire, ONE_STREAM, 1, 3)],
        // Everything once, and what is judged more often.
        Effort::Normal => Link::ALL
            .into_iter()
            .flat_map(|link| {
                let (often, sometimes) = if link == Link::Veth { (5, 3) } else { (3, 1) };
                [
                    step(link, ONE_STREAM, often, 3),
                    step(link, tcp(1, true), 1, 2),
                    step(link, tcp(4, false), 1, 2),
                    step(link, tcp(4, true), 1, 2),
                    step(link, SMALL_PACKETS, sometimes, 1),
                    step(link, udp(512), 1, 1),
                    step(link, udp(1372), 1, 1),
                    step(link, ping(false), 1, 0),
                    step(link, PING_UNDER_LOAD, sometimes, 0),
                ]
            })
            .collect(),
        Effort::Long => Link::ALL
            .into_iter()
            .flat_map(|link| {
                let streams = [tcp(1, false), tcp(1, true), tcp(4, false), tcp(4, true)];
                let datagrams = [64, 512, 1372].map(udp);
                let pings = [false, true].map(ping);
                let transfers = streams.map(|scenario| step(link, scenario, 9, 6));
                transfers
                    .into_iter()
                    .chain(datagrams.map(|scenario| step(link, scenario, 3, 2)))
                    .chain(pings.map(|scenario| step(link, scenario, 5, 0)))
            })
            .collect(),
    }
}

fn play(lab: &Lab, ends: &Raised, step: &Step) -> Result<Vec<(Metric, f64)>> {
    Ok(match step.scenario {
        Scenario::Tcp { streams, reverse } => {
            let direction = if reverse { Direction::BToA } else { Direction::AToB };
            let transfer = traffic::tcp(lab, ends, streams, direction, step.seconds)?;
            let cpu = [
                (Metric::SenderCpu, transfer.sender_seconds_per_gigabyte),
                (Metric::ReceiverCpu, transfer.receiver_seconds_per_gigabyte),
            ];
            let rate = (Metric::Rate, transfer.gigabits_per_second);
            iter::once(rate).chain(cpu.into_iter().filter(|_| ends.has_programs())).collect()
        }
        Scenario::Udp { payload } => vec![(Metric::PacketRate, traffic::udp_rate(lab, ends, payload, step.seconds)?)],
        Scenario::Ping { loaded } => {
            let ping = if loaded { traffic::ping_under_load } else { traffic::ping };
            let times = ping(lab, ends, ECHOES)?;
            vec![
                (Metric::HalfOfRoundTrips, percentile(&times, 50.0)),
                (Metric::NearlyAllRoundTrips, percentile(&times, 99.0)),
            ]
        }
        Scenario::Memory { .. } => Vec::new(),
    })
}

/// With the peer there is, and with a thousand; last, as sessions of a thousand peers are traffic too.
fn memory(lab: &Lab, ends: &Raised, report: &mut Report, mut remember: impl FnMut(Scenario, f64)) {
    let contender = ends.contender;
    let measured = [
        (Scenario::Memory { peers: 1 }, ends.resident_megabytes(Side::B)),
        (MANY_SESSIONS, lab.memory_with(contender, MANY_PEERS)),
    ];
    for (scenario, megabytes) in measured {
        match megabytes {
            Ok(megabytes) => remember(scenario, megabytes),
            Err(reason) => {
                let name = format!("{scenario} {}", contender.name());
                report.miss(name, Metric::Memory.unit(), Better::Lower, format!("{reason:#}"));
            }
        }
    }
}

impl Samples {
    fn take(&mut self, link: Link, scenario: Scenario, contender: Contender, played: Vec<(Metric, f64)>) {
        for (metric, value) in played {
            let of = self.0.entry((link.name(), scenario, metric)).or_default();
            of.entry(contender).or_default().push(value);
        }
    }

    fn median(&self, link: Link, scenario: Scenario, metric: Metric, contender: Contender) -> Option<f64> {
        self.0.get(&(link.name(), scenario, metric))?.get(&contender).map(|samples| median(samples))
    }

    fn tell(&self, report: &mut Report) {
        for ((link, scenario, metric), by_contender) in &self.0 {
            let of = |contender| by_contender.get(&contender).map(|samples| median(samples));
            let (ours, null) = (of(Contender::Cladnet), of(Contender::Null));
            for (contender, samples) in by_contender {
                let value = median(samples);
                let comparison = Comparison {
                    peer: contender.name(),
                    link,
                    scenario: scenario.to_string(),
                    interval: interval(samples),
                    samples: samples.len(),
                    ratio_to_ours: ours.map(|ours| ours / value),
                    percent_of_null: null.map(|null| 100.0 * value / null),
                };
                let name = format!("{link} {scenario} {metric} {}", contender.name());
                report.compare(name, value, metric.unit(), metric.better(), comparison);
            }
        }
    }
}

/// What must be reached, as far as it was measured; `missing` says why somebody was not.
fn judge(samples: &Samples, missing: &BTreeMap<Contender, String>, report: &mut Report) {
    let of = |link, scenario, metric, contender| samples.median(link, scenario, metric, contender);
    let ours = |link, scenario, metric| of(link, scenario, metric, Contender::Cladnet);
    let reason_of = |peer: Option<Contender>| {
        let reason = peer.and_then(|peer| missing.get(&peer));
        reason.map_or("not measured in this run", String::as_str)
    };
    let mut ratio =
        |name: String, ours: Option<f64>, (peer, theirs): (_, Option<f64>), better, target| match (ours, theirs) {
            (Some(ours), Some(theirs)) => report.add(name, ours / theirs, "×", better, Some(target)),
            _ => report.miss(name, "×", better, reason_of(peer)),
        };
    for (peer, target) in [
        (Contender::Boringtun, 8.0),
        (Contender::Gotatun, 5.0),
        (Contender::TailscaleWireguardGo, 1.2),
        (Contender::Null, 0.45),
    ] {
        let name = format!("one TCP stream through {}'s", peer.name());
        let rate = |contender| of(Link::Veth, ONE_STREAM, Metric::Rate, contender);
        ratio(name, rate(Contender::Cladnet), (Some(peer), rate(peer)), Better::Higher, target);
    }
    let others = || Contender::value_variants().iter().copied().filter(|contender| contender.is_of_others());
    let rates = others().filter_map(|peer| of(Link::Wire, ONE_STREAM, Metric::Rate, peer));
    let best = rates.max_by(f64::total_cmp);
    let rate = ours(Link::Wire, ONE_STREAM, Metric::Rate);
    ratio("one TCP stream on the wire through the best other's".into(), rate, (None, best), Better::Higher, 1.0);
    let packets = |contender| of(Link::Veth, SMALL_PACKETS, Metric::PacketRate, contender);
    let name = "UDP packets of 64 bytes through boringtun's";
    let theirs = (Some(Contender::Boringtun), packets(Contender::Boringtun));
    ratio(name.into(), packets(Contender::Cladnet), theirs, Better::Higher, 1.5);
    let latencies = others().filter_map(|peer| of(Link::Veth, PING_UNDER_LOAD, Metric::NearlyAllRoundTrips, peer));
    let best = latencies.min_by(f64::total_cmp);
    let latency = ours(Link::Veth, PING_UNDER_LOAD, Metric::NearlyAllRoundTrips);
    ratio(
        "99th percentile of ping under load through the best other's".into(),
        latency,
        (None, best),
        Better::Lower,
        1.0,
    );

    let cpu = |metric| ours(Link::Veth, ONE_STREAM, metric);
    if let (Some(sender), Some(receiver)) = (cpu(Metric::SenderCpu), cpu(Metric::ReceiverCpu)) {
        report.add("CPU of both ends", sender + receiver, "s/GB", Better::Lower, Some(CPU_TARGET));
    }
    if let Some(megabytes) = ours(Link::Veth, MANY_SESSIONS, Metric::Memory) {
        report.add("memory with 1,000 live sessions", megabytes, "MB", Better::Lower, Some(MEMORY_TARGET));
    }
}

impl Metric {
    fn unit(self) -> &'static str {
        match self {
            Self::Rate => "Gbit/s",
            Self::SenderCpu | Self::ReceiverCpu => "s/GB",
            Self::PacketRate => "packets/s",
            Self::HalfOfRoundTrips | Self::NearlyAllRoundTrips => "ms",
            Self::Memory => "MB",
        }
    }

    fn better(self) -> Better {
        match self {
            Self::Rate | Self::PacketRate => Better::Higher,
            Self::SenderCpu | Self::ReceiverCpu | Self::HalfOfRoundTrips | Self::NearlyAllRoundTrips | Self::Memory => {
                Better::Lower
            }
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rate => "rate",
            Self::SenderCpu => "sender-cpu",
            Self::ReceiverCpu => "receiver-cpu",
            Self::PacketRate => "rate",
            Self::HalfOfRoundTrips => "p50",
            Self::NearlyAllRoundTrips => "p99",
            Self::Memory => "resident",
        })
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { streams, reverse } => write!(f, "tcp-{streams}{}", if *reverse { "-reverse" } else { "" }),
            Self::Udp { payload } => write!(f, "udp-{payload}"),
            Self::Ping { loaded } => f.write_str(if *loaded { "ping-loaded" } else { "ping-idle" }),
            Self::Memory { peers } => write!(f, "memory-{peers}"),
        }
    }
}
