//! Is it really there? The agent says so, the service sees it, and another peer answers over the overlay.

use std::{net::Ipv4Addr, time::Duration};

use cladnet_model::{HostId, NetworkId, deployment::FailureReason};
use cladnet_proto::cladnet::v1::Peer;
use tokio::time::{Instant, sleep};

use super::{Machine, inspect::AgentStatus};
use crate::{api::ServiceAccess, failed::Failed};

/// The interface, an address that was asked for, the stream to the service: a second or two each.
const UP: Duration = Duration::from_secs(30);
/// Machines of one deployment come up together; their peers hear of each other soon after.
const REPLY: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// Peers that are pinged in turn until one answers, before the service is asked again who is there.
const CANDIDATES: usize = 5;

/// What the machine shall be.
pub(crate) struct Expected<'a> {
    pub service: &'a ServiceAccess,
    pub network: &'a NetworkId,
    pub host: &'a HostId,
    pub address: Option<Ipv4Addr>,
}

impl Machine<'_> {
    /// Waits until the machine is a peer in every way; says what was seen.
    pub(crate) async fn verify(&self, expected: &Expected<'_>) -> Result<Vec<String>, Failed> {
        let mut seen = vec![self.is_up(expected).await?];
        seen.push(self.gets_replies(expected).await?);
        Ok(seen)
    }

    /// Waits until the networks that were up before are up again.
    pub(crate) async fn verify_upgrade(&self, before: Option<&AgentStatus>) -> Result<String, Failed> {
        let before = before.map(|status| status.networks.as_slice()).unwrap_or_default();
        let were_up: Vec<_> = before.iter().filter(|network| network.state == TUNNELING).collect();
        let end = Instant::now() + UP;
        loop {
            let now = self.status().await?;
            let is_up = |network: &NetworkId| now.network(network).is_some_and(|now| now.state == TUNNELING);
            let Some(down) = were_up.iter().find(|before| !is_up(&before.network)) else {
                return Ok(format!("networks up as before: {}", were_up.len()));
            };
            pause(end, format!("network {} was up before the upgrade and is not any more", down.network)).await?;
        }
    }

    async fn is_up(&self, expected: &Expected<'_>) -> Result<String, Failed> {
        let end = Instant::now() + UP;
        loop {
            match self.look_up(expected).await? {
                Ok(seen) => return Ok(seen),
                Err(why) => pause(end, why).await?,
            }
        }
    }

    /// What is, or what is not yet.
    async fn look_up(&self, expected: &Expected<'_>) -> Result<Result<String, String>, Failed> {
        let network = expected.network;
        let status = self.status().await?;
        let Some(membership) = status.network(network) else {
            return Ok(Err(format!("the agent is no member of {network} any more")));
        };
        if membership.state != TUNNELING {
            return Ok(Err(format!("the agent says {}: {}", membership.state, membership.reason)));
        }
        let Some(address) = membership.address else { return Ok(Err("the agent has no address".to_owned())) };
        if let Some(wanted) = expected.address.filter(|wanted| *wanted != address) {
            return Ok(Err(format!("its address is {address}, not {wanted} as asked for")));
        }
        match expected.service.peer(network, expected.host).await?.online {
            true => Ok(Ok(format!("up with {address}, and online"))),
            false => Ok(Err("the service does not see it online".to_owned())),
        }
    }

    async fn gets_replies(&self, expected: &Expected<'_>) -> Result<String, Failed> {
        let network = expected.network.as_str();
        let end = Instant::now() + REPLY;
        let mut round = 0;
        loop {
            let peers = expected.service.peers(expected.network).await?;
            let others = candidates(&peers, expected.host, round);
            round += 1;
            if others.is_empty() {
                return Ok("no other peer is online, so none was pinged".to_owned());
            }
            for peer in &others {
                let ping = ["ping", &peer.ipv4_address, "--network", network, "--count", "3", "--interval", "300"];
                if self.agent(&ping).await?.code == 0 {
                    return Ok(format!("{} ({}) answers over the overlay", peer.host_name, peer.ipv4_address));
                }
            }
            let names: Vec<_> = others.iter().map(|peer| peer.host_name.as_str()).collect();
            let names = names.join(", ");
            pause(end, format!("no answer over the overlay from {names}; admit UDP 8055 between the machines")).await?;
        }
    }
}

/// The agent's word for a network that works.
const TUNNELING: &str = "tunneling";

/// Who is pinged in a round: others than in the round before, beginning behind the machine's own id, so that not every machine
/// of a network depends on the same few. `peers` are in the order of their ids.
fn candidates<'a>(peers: &'a [Peer], own: &HostId, round: usize) -> Vec<&'a Peer> {
    let answering: Vec<&Peer> = peers.iter().filter(|peer| is_answering(peer, own)).collect();
    let behind = answering.partition_point(|peer| peer.host_id.as_str() < own.as_str());
    let from_there = answering.iter().cycle().skip(behind + round * CANDIDATES);
    from_there.take(CANDIDATES.min(answering.len())).copied().collect()
}

fn is_answering(peer: &Peer, own: &HostId) -> bool {
    peer.host_id != own.as_str()
        && peer.online
        && !peer.plain
        && peer.state == TUNNELING
        && !peer.ipv4_address.is_empty()
}

/// Before the next look; when the time is over, what was seen last is the reason.
async fn pause(end: Instant, why: String) -> Result<(), Failed> {
    if Instant::now() >= end {
        return Err(Failed::new(FailureReason::OverlayUnverified, why));
    }
    sleep(PAUSE).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Vec<Peer> {
        let peer = |n| Peer {
            host_id: format!("host-{n:02}"),
            online: true,
            state: TUNNELING.into(),
            ipv4_address: format!("10.0.0.{n}"),
            ..Peer::default()
        };
        (1..=12).map(peer).collect()
    }

    fn asked(peers: &[Peer], own: &str, round: usize) -> Vec<String> {
        let own = own.parse().unwrap();
        candidates(peers, &own, round).iter().map(|peer| peer.host_id.replace("host-", "")).collect()
    }

    #[test]
    fn each_round_asks_others_beginning_behind_the_machine_itself() {
        let peers = peers();
        assert_eq!(asked(&peers, "host-03", 0), ["04", "05", "06", "07", "08"]);
        assert_eq!(asked(&peers, "host-03", 1), ["09", "10", "11", "12", "01"]);
        assert_eq!(asked(&peers, "host-12", 0), ["01", "02", "03", "04", "05"]);
    }

    #[test]
    fn few_are_asked_once_a_round_and_nobody_who_cannot_answer() {
        let mut peers = peers();
        peers[0].online = false;
        peers[1].plain = true;
        peers.truncate(4);
        assert_eq!(asked(&peers, "host-02", 7), ["04", "03"]);
        assert!(asked(&peers[..2], "host-02", 0).is_empty());
    }
}
