//! Traffic that goes on while something happens to its path, and which path that is.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::Ipv4Addr,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::World;
use crate::wait::eventually;

/// Between two pings.
const INTERVAL: &str = "0.02";

/// A ping that runs, and what has come back of it.
struct Ping {
    child: Child,
    /// When each reply came, in seconds.
    replies: Arc<Mutex<Vec<f64>>>,
}

impl World {
    /// Scope of the path that the agent of `from` sends to `to` by; empty without one.
    pub fn scope(&self, network: &str, from: &str, to: &str) -> Result<String> {
        let peers = self.agent(from, ["peers", network])?;
        let peer = peers.as_array().into_iter().flatten().find(|peer| peer["name"] == to);
        let peer = peer.with_context(|| format!("{from} knows no {to}: {peers}"))?;
        Ok(peer["scope"].as_str().unwrap_or_default().to_owned())
    }

    /// Holds if `from` sends to `to` by a path of this scope.
    pub fn sends_by(&self, network: &str, from: &str, to: &str, wanted: &str) -> Result<()> {
        let scope = self.scope(network, from, to)?;
        ensure!(scope == wanted, "{from} sends to {to} by {scope:?}, not by {wanted}");
        Ok(())
    }

    /// Pings `to` fifty times a second from `from` while `event` happens, until `over` holds and a reply came after that; the longest time
    /// between two replies.
    pub fn longest_pause(
        &self,
        from: &str,
        to: Ipv4Addr,
        deadline: Duration,
        event: impl FnOnce() -> Result<()>,
        over: impl FnMut() -> Result<()>,
    ) -> Result<Duration> {
        let ping = self.start_ping(from, to)?;
        ping.await_more(1, deadline)?;
        event()?;
        eventually("the path to change", deadline, over)?;
        ping.await_more(5, deadline)?;
        Ok(ping.longest_pause())
    }

    fn start_ping(&self, from: &str, to: Ipv4Addr) -> Result<Ping> {
        let mut command = self.vm(from)?.command(["ping", "-n", "-D", "-i", INTERVAL, &to.to_string()])?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let replies = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&replies);
        thread::spawn(move || listen(output, &heard));
        Ok(Ping { child, replies })
    }
}

/// Keeps when replies came: `[1732140000.123456] 64 bytes from …`.
fn listen(output: impl Read, replies: &Mutex<Vec<f64>>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let time = line.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        if let Some((time, rest)) = time
            && rest.contains(" bytes from ")
            && let (Ok(time), Ok(mut replies)) = (time.parse(), replies.lock())
        {
            replies.push(time);
        }
    }
}

impl Ping {
    fn times(&self) -> Vec<f64> {
        self.replies.lock().map(|replies| replies.clone()).unwrap_or_default()
    }

    /// Waits until so many more replies are here.
    fn await_more(&self, count: usize, deadline: Duration) -> Result<()> {
        let before = self.times().len();
        eventually("replies to a ping", deadline, || {
            let more = self.times().len() - before;
            ensure!(more >= count, "{more} of {count} are here");
            Ok(())
        })
    }

    fn longest_pause(&self) -> Duration {
        let times = self.times();
        let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
        Duration::from_secs_f64(pauses.fold(0.0, f64::max))
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
