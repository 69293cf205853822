//! Connectivity tests: who takes part, on which terms. The pinging is steered by `agents`.

use std::time::Duration;

use cladnet_model::{DesiredState, NetworkId};
use cladnet_proto::cladnet::v1::{ConnectivityTest, ControlResult};

use crate::{
    Service,
    agents::ConnectivityPlan,
    control::Outcome,
    error::CallError,
    peers::{PeerRow, find},
};

/// Pings per pair, if the caller does not say, and at most.
pub(crate) const DEFAULT_COUNT: u32 = 3;
pub(crate) const MOST_PINGS: u32 = 100;

/// Between two pings of a pair.
const DEFAULT_INTERVAL: Duration = Duration::from_millis(200);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// What a test takes beyond its pings: the way to the agents and back, and the last replies.
const MARGIN: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(120);

/// What a test does: checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TestTerms {
    count: u32,
    interval: Duration,
    wait: Duration,
}

impl TestTerms {
    /// Checks what was asked for; absent, or zero pings, is the default.
    pub(crate) fn check(count: u32, interval: Option<Duration>, deadline: Option<Duration>) -> Result<Self, CallError> {
        let count = if count == 0 { DEFAULT_COUNT } else { count };
        if count > MOST_PINGS {
            return Err(CallError::invalid("count", format!("is {count}; at most {MOST_PINGS} are allowed")));
        }
        let interval = interval.unwrap_or(DEFAULT_INTERVAL);
        if interval < SHORTEST_INTERVAL {
            let (given, least) = (interval.as_millis(), SHORTEST_INTERVAL.as_millis());
            return Err(CallError::invalid("interval", format!("is {given} ms; use at least {least} ms")));
        }
        let wait = deadline.unwrap_or((interval * count + MARGIN).min(LONGEST));
        if wait.is_zero() || wait > LONGEST {
            let (given, most) = (wait.as_secs(), LONGEST.as_secs());
            return Err(CallError::invalid(
                "deadline",
                format!("is {given} s; use more than 0 s and at most {most} s"),
            ));
        }
        Ok(Self { count, interval, wait })
    }
}

impl Service {
    /// Lets the named peers, or all, ping each other. Who cannot take part is told with the reason; a peer whose agent is
    /// not connected is still pinged: its tunnel may well work.
    pub(crate) async fn test_connectivity(
        &self,
        network: &NetworkId,
        named: &[String],
        terms: TestTerms,
    ) -> Result<ConnectivityTest, CallError> {
        let peers = select(self.peers(network).await?, network, named)?;
        let absent: Vec<ControlResult> = peers.iter().filter_map(absence).collect();
        let plan = ConnectivityPlan {
            network: network.clone(),
            hosts: peers.iter().filter(|peer| absence(peer).is_none()).map(|peer| peer.id().clone()).collect(),
            count: terms.count,
            interval: terms.interval,
            deadline: terms.wait,
        };
        let mut test = self.agents.connectivity_test(&plan).await?;
        test.missing.extend(absent);
        Ok(test)
    }
}

fn select(mut peers: Vec<PeerRow>, network: &NetworkId, named: &[String]) -> Result<Vec<PeerRow>, CallError> {
    if !named.is_empty() {
        let mut wanted = Vec::new();
        for (index, text) in named.iter().enumerate() {
            wanted.push(find(&peers, network, &format!("hosts[{index}]"), text)?.id().clone());
        }
        peers.retain(|peer| wanted.contains(peer.id()));
    }
    if peers.len() < 2 {
        return Err(CallError::Precondition(format!("a test needs two peers, and there are {}", peers.len())));
    }
    Ok(peers)
}

/// Why a peer takes no part at all.
fn absence(peer: &PeerRow) -> Option<ControlResult> {
    let detail = match () {
        () if peer.membership.desired_state == DesiredState::Down => "is down, as asked",
        () if peer.address().is_none() => "has no address yet",
        () => return None,
    };
    Some(ControlResult {
        host_id: peer.id().to_string(),
        outcome: Outcome::Failed.as_str().to_owned(),
        detail: detail.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_bounded_and_name_their_field() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let field = |terms: Result<TestTerms, CallError>| terms.expect_err("refused").to_string();
        assert!(field(TestTerms::check(101, None, None)).starts_with("count: is 101"));
        assert!(field(TestTerms::check(1, Some(Duration::from_millis(9)), None)).starts_with("interval: is 9 ms"));
        assert!(field(TestTerms::check(1, None, seconds(121))).starts_with("deadline: is 121 s"));
        let terms = TestTerms::check(0, None, None).expect("defaults");
        assert_eq!((terms.count, terms.wait), (3, Duration::from_millis(5_600)));
        assert_eq!(TestTerms::check(100, seconds(30), None).expect("is bounded").wait, LONGEST);
    }
}
