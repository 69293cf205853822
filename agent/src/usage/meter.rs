//! Differences between two looks at the data plane's counters, which begin at zero whenever a peer is made anew.

use std::collections::{BTreeMap, HashMap};

use cladnet_model::{HostId, NetworkId, Scope};
use cladnet_tunnel::{PeerStats, PublicKey, Volume};

use super::{Bytes, Flow};

/// Remembers the last look at every peer there is.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    seen: BTreeMap<NetworkId, HashMap<PublicKey, Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    /// As [`PeerStats::number`].
    number: u32,
    host: HostId,
    bytes: [Bytes; Scopes::COUNT],
}

/// The kinds of paths, as `model` and as `tunnel` call them.
struct Scopes;

impl Scopes {
    const COUNT: usize = cladnet_tunnel::Scope::ALL.len();
    /// In the order of [`PeerStats::volumes`].
    const ALL: [Scope; Self::COUNT] = [Scope::Private, Scope::Public, Scope::PublicV6];
}

impl Meter {
    /// What passed since the last look at this network's peers. `host` is asked for those that are new; without an answer
    /// they are left for a later look.
    pub(crate) fn read(
        &mut self,
        network: &NetworkId,
        stats: &[PeerStats],
        host: impl Fn(&PublicKey) -> Option<HostId>,
    ) -> Vec<(Flow, Bytes)> {
        let before = self.seen.remove(network).unwrap_or_default();
        let (mut now, mut passed) = (HashMap::new(), Vec::new());
        for peer in stats {
            let known = before.get(&peer.public_key);
            let Some(host) = known.map(|known| known.host.clone()).or_else(|| host(&peer.public_key)) else { continue };
            let base = known.filter(|known| known.number == peer.number).map(|known| known.bytes).unwrap_or_default();
            let bytes = peer.volumes.each_ref().map(counted);
            for ((scope, bytes), base) in Scopes::ALL.into_iter().zip(bytes).zip(base) {
                let since = since(bytes, base);
                if !since.is_zero() {
                    passed.push((Flow { network: network.clone(), host: host.clone(), scope }, since));
                }
            }
            now.insert(peer.public_key, Seen { number: peer.number, host, bytes });
        }
        if !now.is_empty() {
            self.seen.insert(network.clone(), now);
        }
        passed
    }
}

fn counted(volume: &Volume) -> Bytes {
    Bytes {
        sent: volume.sent.wire_bytes,
        received: volume.received.wire_bytes,
        clear_sent: volume.sent.clear_bytes,
        clear_received: volume.received.clear_bytes,
    }
}

fn since(now: Bytes, base: Bytes) -> Bytes {
    let (now, base): ([u64; 4], [u64; 4]) = (now.into(), base.into());
    Bytes::from(std::array::from_fn(|at| now[at].saturating_sub(base[at])))
}

#[cfg(test)]
mod tests {
    use cladnet_tunnel::{PrivateKey, Tally, Transport};

    use super::*;

    fn stats(number: u32, public: u64) -> PeerStats {
        let sent = Tally { wire_bytes: public, ..Tally::default() };
        PeerStats {
            public_key: PrivateKey::from_bytes([3; 32]).public_key(),
            number,
            endpoint: None,
            last_handshake: None,
            tx_bytes: 0,
            rx_bytes: 0,
            volumes: [Volume::default(), Volume { sent, ..Volume::default() }, Volume::default()],
            transport: Transport::Clear,
            mtu: 1420,
        }
    }

    fn host() -> HostId {
        "host-b".parse().unwrap()
    }

    #[test]
    fn only_what_came_since_counts_and_a_peer_made_anew_begins_at_zero() {
        let (mut meter, network) = (Meter::default(), "prod".parse().unwrap());
        let mut read = |stats: &[PeerStats]| -> u64 {
            meter.read(&network, stats, |_| Some(host())).iter().map(|(_, bytes)| bytes.sent).sum()
        };
        assert_eq!(read(&[stats(1, 100)]), 100);
        assert_eq!(read(&[stats(1, 100)]), 0);
        assert_eq!(read(&[stats(1, 150)]), 50);
        assert_eq!(read(&[stats(2, 160)]), 160, "another counter, although it is higher");
        assert_eq!(read(&[]), 0);
        assert_eq!(read(&[stats(3, 10)]), 10);
    }

    #[test]
    fn a_peer_without_a_name_waits_for_it_and_keeps_it() {
        let (mut meter, network) = (Meter::default(), "prod".parse().unwrap());
        assert!(meter.read(&network, &[stats(1, 100)], |_| None).is_empty());
        let passed = meter.read(&network, &[stats(1, 110)], |_| Some(host()));
        assert_eq!((passed[0].0.scope, passed[0].1.sent), (Scope::Public, 110));
        let passed = meter.read(&network, &[stats(1, 111)], |_| None);
        assert_eq!((&passed[0].0.host, passed[0].1.sent), (&host(), 1));
    }
}
