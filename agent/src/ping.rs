//! Pinging over the overlay: ICMP echoes from the interface of a network, always over by a deadline.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::time::{sleep_until, timeout};

/// As `ping`'s default.
const PAYLOAD: [u8; 56] = [0x63; 56];
/// A peer that has not answered by then counts as lost.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two echoes at the least, whoever asks.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Echoes per peer at the most, whoever asks.
pub(crate) const MAX_COUNT: u32 = 1000;

/// How often, how fast, and when it is over in any case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub count: u32,
    pub interval: Duration,
    pub deadline: Instant,
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

    /// Pings one peer. Ends by the plan's deadline, whatever happens.
    pub(crate) async fn ping(&self, to: Ipv4Addr, plan: Plan) -> Outcome {
        let mut outcome = Outcome::default();
        let mut pinger = self.client.pinger(IpAddr::V4(to), PingIdentifier(rand::random())).await;
        pinger.timeout(REPLY_TIMEOUT);
        let start = Instant::now();
        for number in 0..plan.count.min(MAX_COUNT) {
            let at = start + plan.interval.max(MIN_INTERVAL) * number;
            if at >= plan.deadline {
                outcome.error = "the time for it was over".into();
                break;
            }
            sleep_until(at.into()).await;
            let left = plan.deadline.saturating_duration_since(Instant::now());
            let sequence = PingSequence((number & 0xffff) as u16);
            outcome.sent += 1;
            match timeout(left, pinger.ping(sequence, &PAYLOAD)).await {
                Ok(Ok((_, rtt))) => outcome.rtts_us.push(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
                Ok(Err(SurgeError::Timeout { .. })) | Err(_) => {}
                Ok(Err(error)) => outcome.error = error.to_string(),
            }
        }
        outcome
    }
}
