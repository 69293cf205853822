//! Pinging over the overlay: ICMP echoes from the interface of a network, always over by a deadline.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::time::{sleep_until, timeout};

/// As `ping`'s default.
const PAYLOAD: [u8; 56] = [0x63; 56];
/// A peer that has not answered by then counts as lost.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// Echoes of one peer that wait for their replies at the same time.
const OPEN: usize = 64;
/// Between two echoes at the least, whoever asks.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// Echoes per peer at the most, whoever asks.
pub(crate) const MAX_COUNT: u32 = 1000;

/// How often, how fast, and when it is over in any case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    count: u32,
    interval: Duration,
    deadline: Instant,
}

impl Plan {
    /// Whatever was asked for, made reasonable.
    pub(crate) fn new(count: u32, interval: Duration, deadline: Instant) -> Self {
        Self { count: count.clamp(1, MAX_COUNT), interval: interval.clamp(MIN_INTERVAL, MAX_INTERVAL), deadline }
    }

    /// A plan that ends when its last echo has had its time.
    pub(crate) fn unhurried(count: u32, interval: Duration) -> Self {
        let plan = Self::new(count, interval, Instant::now());
        Self { deadline: plan.deadline + plan.interval * plan.count + REPLY_TIMEOUT, ..plan }
    }
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub sent: u32,
    /// One per reply, in microseconds.
    pub rtts_us: Vec<u32>,
    /// Why nothing could be sent, or the last that went wrong.
    pub error: String,
}

/// An ICMP socket of one overlay interface. Many peers can be pinged over it at once.
#[derive(Clone)]
pub(crate) struct Source {
    client: Client,
}

impl Source {
    /// Opens the socket; needs CAP_NET_RAW or a `net.ipv4.ping_group_range` that includes us.
    pub(crate) fn open(address: Ipv4Addr) -> std::io::Result<Self> {
        let bind = SocketAddr::new(IpAddr::V4(address), 0);
        Ok(Self { client: Client::new(&Config::builder().kind(ICMP::V4).bind(bind).build())? })
    }

    /// Pings one peer: an echo per interval, whether the one before was answered or not. Ends by the plan's deadline,
    /// whatever happens.
    pub(crate) async fn ping(&self, to: Ipv4Addr, plan: Plan) -> Outcome {
        let start = Instant::now();
        let mut echoes = stream::iter((0..plan.count).map(|number| self.echo(to, start, number, plan))).buffered(OPEN);
        let mut outcome = Outcome::default();
        while let Some(echo) = echoes.next().await {
            outcome.sent += u32::from(!matches!(echo, Echo::NotSent));
            match echo {
                Echo::Reply(rtt) => outcome.rtts_us.push(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
                Echo::NotSent => outcome.error = "the time for it was over".into(),
                Echo::Failed(error) => outcome.error = error,
                Echo::Lost => {}
            }
        }
        outcome
    }

    async fn echo(&self, to: Ipv4Addr, start: Instant, number: u32, plan: Plan) -> Echo {
        let at = start + plan.interval * number;
        if at >= plan.deadline {
            return Echo::NotSent;
        }
        sleep_until(at.into()).await;
        let left = plan.deadline.saturating_duration_since(Instant::now());
        // An identifier of its own, so that echoes do not wait for each other.
        let mut pinger = self.client.pinger(IpAddr::V4(to), PingIdentifier(rand::random())).await;
        pinger.timeout(REPLY_TIMEOUT);
        match timeout(left, pinger.ping(PingSequence((number & 0xffff) as u16), &PAYLOAD)).await {
            Ok(Ok((_, rtt))) => Echo::Reply(rtt),
            Ok(Err(SurgeError::Timeout { .. })) | Err(_) => Echo::Lost,
            Ok(Err(error)) => Echo::Failed(error.to_string()),
        }
    }
}

/// What became of one echo.
enum Echo {
    Reply(Duration),
    Lost,
    Failed(String),
    NotSent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_reasonable_whatever_was_asked_for() {
        let plan = Plan::unhurried(u32::MAX, Duration::MAX);
        assert_eq!((plan.count, plan.interval), (MAX_COUNT, MAX_INTERVAL));
        let plan = Plan::new(0, Duration::ZERO, Instant::now());
        assert_eq!((plan.count, plan.interval), (1, MIN_INTERVAL));
    }
}
