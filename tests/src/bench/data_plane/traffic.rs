//! Traffic through a tunnel, and what it cost: `iperf3` and `ping`, by their own accounts.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    contender::Contender,
    lab::{Lab, Raised, Side},
};

/// What one may lose of a rate that counts.
const TOLERABLE_LOSS: f64 = 0.001;
/// The first rate of a search, packets per second.
const FIRST_RATE: f64 = 10_000.0;
/// Beyond this nothing here could tell a tunnel from the program that sends.
const LAST_RATE: f64 = 2_000_000.0;
/// How often the distance between a rate that works and one that does not is halved.
const BISECTIONS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    AToB,
    BToA,
}

/// One transfer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    pub(super) gigabits_per_second: f64,
    /// Of the tunnel's process at each end; what the kernel does on behalf of others is not in it.
    pub(super) sender_seconds_per_gigabyte: f64,
    pub(super) receiver_seconds_per_gigabyte: f64,
}

/// Sends TCP for so many seconds.
pub(super) fn tcp(lab: &Lab, ends: &Raised, streams: u32, direction: Direction, seconds: u32) -> Result<Transfer> {
    if ends.contender == Contender::Clear {
        // Clear frames begin a second or two after traffic does, and end when it pauses.
        ping(lab, ends, 400)?;
    }
    let before = ends.cpu_seconds()?;
    let (streams, seconds) = (streams.to_string(), seconds.to_string());
    let mut arguments = vec!["-P", &streams, "-t", &seconds];
    if direction == Direction::BToA {
        arguments.push("-R");
    }
    let report = iperf(lab, ends, &arguments)?;
    let after = ends.cpu_seconds()?;
    let received = &report["end"]["sum_received"];
    let gigabytes = number(received, "bytes")? / 1e9;
    let [a, b] = [0, 1].map(|end| (after[end] - before[end]) / gigabytes);
    let (sender, receiver) = if direction == Direction::AToB { (a, b) } else { (b, a) };
    Ok(Transfer {
        gigabits_per_second: number(received, "bits_per_second")? / 1e9,
        sender_seconds_per_gigabyte: sender,
        receiver_seconds_per_gigabyte: receiver,
    })
}

/// The highest rate, in packets per second, at which next to nothing is lost: doubled until too much is, then bisected.
pub(super) fn udp_rate(lab: &Lab, ends: &Raised, payload: usize, seconds: u32) -> Result<f64> {
    let (mut good, mut bad) = (0.0, f64::INFINITY);
    let mut rate = FIRST_RATE;
    while rate <= LAST_RATE && bad.is_infinite() {
        match udp(lab, ends, payload, rate, seconds)? {
            // The sender itself does not reach what was asked of it.
            Some(sent) if sent < 0.9 * rate => return Ok(sent),
            Some(sent) => (good, rate) = (sent, rate * 2.0),
            None => bad = rate,
        }
    }
    if bad.is_infinite() {
        return Ok(good);
    }
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(good, bad);
        match udp(lab, ends, payload, middle, seconds)? {
            Some(sent) => good = sent,
            None => bad = middle,
        }
    }
    Ok(good)
}

/// What is sent of a rate if next to nothing of it is lost, in two of three trials: a core that is away for two
/// milliseconds fails one, whoever's tunnel it is.
fn udp(lab: &Lab, ends: &Raised, payload: usize, rate: f64, seconds: u32) -> Result<Option<f64>> {
    let (mut passed, mut failed) = (None, 0);
    while failed < 2 {
        let Paced { sent, lost } = udp_once(lab, ends, payload, rate, seconds)?;
        if lost > TOLERABLE_LOSS {
            failed += 1;
        } else if let Some(other) = passed {
            return Ok(Some(f64::midpoint(sent, other)));
        } else {
            passed = Some(sent);
        }
    }
    Ok(None)
}

struct Paced {
    /// Packets per second that left.
    sent: f64,
    /// The share that did not arrive.
    lost: f64,
}

fn udp_once(lab: &Lab, ends: &Raised, payload: usize, packets_per_second: f64, seconds: u32) -> Result<Paced> {
    let bits = format!("{:.0}", packets_per_second * payload as f64 * 8.0);
    let (len, time) = (payload.to_string(), seconds.to_string());
    let report = iperf(lab, ends, &["-u", "-b", &bits, "-l", &len, "-t", &time])?;
    let sum = &report["end"]["sum"];
    let packets = number(sum, "packets")?;
    Ok(Paced { sent: packets / f64::from(seconds), lost: number(sum, "lost_packets")? / packets.max(1.0) })
}

/// Round trips of `count` echoes 10 ms apart, in milliseconds; those that were lost are infinite.
pub(super) fn ping(lab: &Lab, ends: &Raised, count: usize) -> Result<Vec<f64>> {
    let (wanted, to) = (count.to_string(), ends.overlay(Side::B));
    // Some lost is an answer too, of which ping makes a failure only if it is all.
    let text = lab.run(Side::A, "ping", &["-n", "-i", "0.01", "-c", &wanted, "-W", "1", &to])?;
    let times = text.lines().filter_map(|line| line.split_once("time=")?.1.strip_suffix(" ms")?.parse().ok());
    let mut times: Vec<f64> = times.collect();
    times.resize(count, f64::INFINITY);
    Ok(times)
}

/// The same beside four TCP streams that take what they get.
pub(super) fn ping_under_load(lab: &Lab, ends: &Raised, count: usize) -> Result<Vec<f64>> {
    let seconds = (count / 100 + 2).to_string();
    let to = ends.overlay(Side::B);
    let load = lab.start(Side::A, "iperf3".as_ref(), &["-c", &to, "-P", "4", "-t", &seconds, "-C", "cubic"])?;
    let flows = || {
        let established = lab.run(Side::A, "ss", &["-Htn", "state", "established", "dst", &to])?;
        anyhow::ensure!(established.lines().count() >= 5, "{established}");
        Ok(())
    };
    crate::wait::eventually("four streams beside the ping", Duration::from_secs(5), flows)?;
    let times = ping(lab, ends, count);
    load.finish()?;
    times
}

fn iperf(lab: &Lab, ends: &Raised, arguments: &[&str]) -> Result<Value> {
    let to = ends.overlay(Side::B);
    // Of the congestion controls there are, the one that every kernel has.
    let cubic: &[&str] = if arguments.contains(&"-u") { &[] } else { &["-C", "cubic"] };
    let text = lab.run(Side::A, "iperf3", &[&["-J", "-c", &to], arguments, cubic].concat())?;
    let report: Value = serde_json::from_str(&text)?;
    // Its exit code does not tell.
    match report["error"].as_str() {
        Some(error) => bail!("iperf3: {error}"),
        None => Ok(report),
    }
}

fn number(value: &Value, field: &str) -> Result<f64> {
    value[field].as_f64().with_context(|| format!("iperf3 told no {field}"))
}
