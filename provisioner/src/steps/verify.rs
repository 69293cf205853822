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
/// Peers that are pinged in turn until one answers.
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
        loop {
            let peers = expected.service.peers(expected.network).await?;
            let others = peers.iter().filter(|peer| is_answering(peer, expected.host)).take(CANDIDATES);
            let others: Vec<&Peer> = others.collect();
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
