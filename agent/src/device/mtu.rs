//! What the tunnel found out of its paths, told to the kernel: the interface takes the longest packet that any peer
//! gets, the network's route what every peer gets, and a peer of which something else is known has a route of its own.
//! So has every subnet behind a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cladnet_tunnel::PublicKey;
use ipnet::IpNet;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::shared::Shared;
use super::{InterfaceConfig, Running};
use crate::netlink::{Netlink, Route};

/// How soon the kernel hears of a finding.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

/// MTUs of an interface and of routes through it.
#[derive(Debug, Clone, Default)]
pub(super) struct Mtus {
    /// Of the interface, if it is more than configured. The network's own route has the configured one then.
    link: Option<u16>,
    routes: BTreeMap<IpNet, u16>,
    /// The kernel did not take all of it, and is not asked again before something changes.
    was_refused: bool,
}

/// Runs for as long as the device is there.
pub(super) async fn follow(shared: Arc<Shared>, netlink: Netlink, interfaces: Arc<Mutex<BTreeMap<String, Running>>>) {
    let mut ticks = interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for running in interfaces.lock().await.values_mut() {
            tell(&shared, &netlink, running).await;
        }
    }
}

/// Tells the kernel what it has not been told yet.
pub(super) async fn tell(shared: &Shared, netlink: &Netlink, running: &mut Running) {
    let wanted = Mtus::wanted(&running.config, &shared.tunnel.path_mtus(running.id));
    if !wanted.is_same(&running.mtus) {
        let change = Change { netlink, config: &running.config };
        change.make(&mut running.mtus, wanted).await;
    }
}

impl Mtus {
    fn wanted(config: &InterfaceConfig, found: &[(PublicKey, u16)]) -> Self {
        let (network, mut routes) = (config.address.trunc(), BTreeMap::new());
        let found: BTreeMap<PublicKey, u16> = found.iter().copied().collect();
        let subnets: BTreeSet<&IpNet> = config.subnets.iter().collect();
        for peer in &config.peers {
            let mtu = found.get(&peer.public_key);
            let behind = peer.allowed_ips.iter().filter(|prefix| subnets.contains(prefix));
            routes.extend(behind.map(|prefix| (*prefix, mtu.copied().unwrap_or(config.mtu))));
            let Some(mtu) = mtu else { continue };
            // Other prefixes are routed by whoever wants them to be.
            let prefixes = peer.allowed_ips.iter().filter(|prefix| network.contains(*prefix) && **prefix != network);
            routes.extend(prefixes.map(|prefix| (prefix.trunc(), *mtu)));
        }
        let link = routes.values().copied().max().filter(|mtu| *mtu > config.mtu);
        Self { link, routes, was_refused: false }
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.link, &self.routes) == (other.link, &other.routes)
    }

    /// Of the interface.
    pub(super) fn link(&self, config: &InterfaceConfig) -> u16 {
        self.link.unwrap_or(config.mtu)
    }

    /// Whether the kernel's routes are still those it was told.
    pub(super) fn are_in(&self, config: &InterfaceConfig, routes: &[Route]) -> bool {
        let network = self.link.map(|_| (config.address.trunc(), config.mtu));
        let wanted = self.routes.iter().map(|(destination, mtu)| (*destination, *mtu)).chain(network);
        let has = |(destination, mtu): (IpNet, u16)| {
            routes.iter().any(|route| {
                (route.destination, route.mtu) == (destination, Some(mtu.into()))
                    && route.leads_into(|interface| interface == config.name)
            })
        };
        self.was_refused || wanted.into_iter().all(has)
    }

    /// To be told anew.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_told(&self) -> bool {
        !self.is_same(&Self::default())
    }

    /// Takes away what would outlive a change of the interface's address.
    pub(super) async fn withdraw(&mut self, netlink: &Netlink, config: &InterfaceConfig) {
        Change { netlink, config }.make(self, Self::default()).await;
    }
}

struct Change<'a> {
    netlink: &'a Netlink,
    config: &'a InterfaceConfig,
}

impl Change<'_> {
    /// Afterwards `told` is `wanted`, whether the kernel took it or not.
    async fn make(&self, told: &mut Mtus, mut wanted: Mtus) {
        let name = &self.config.name;
        let mut results = Vec::new();
        // The interface must take what a route says, whenever a packet comes.
        if wanted.link > told.link {
            results.push(self.netlink.set_connected_mtu(name, self.config.address, self.config.mtu).await);
            results.push(self.netlink.set_mtu(name, wanted.link(self.config)).await);
        }
        for (destination, mtu) in &wanted.routes {
            if told.routes.get(destination) == Some(mtu) {
                continue;
            }
            if self.is_subnet(destination) {
                info!(interface = name, subnet = %destination, mtu, "subnet behind a peer is routed");
                results.push(self.netlink.add_subnet(name, *destination, *mtu).await);
            } else {
                info!(interface = name, peer = %destination, mtu, "path MTU found");
                results.push(self.netlink.set_route_mtu(name, *destination, *mtu).await);
            }
        }
        for destination in told.routes.keys().filter(|destination| !wanted.routes.contains_key(destination)) {
            if self.is_subnet(destination) {
                info!(interface = name, subnet = %destination, "subnet behind a peer is routed no more");
                results.push(self.netlink.remove_subnet(name, *destination).await);
            } else {
                info!(interface = name, peer = %destination, mtu = self.config.mtu, "path MTU is the interface's again");
                results.push(self.netlink.remove_route(name, *destination).await);
            }
        }
        if wanted.link < told.link {
            results.push(self.netlink.set_mtu(name, wanted.link(self.config)).await);
        }
        for error in results.into_iter().filter_map(Result::err) {
            wanted.was_refused = true;
            warn!(interface = name, error = &error as &dyn Error, "the kernel does not take an MTU or a route");
        }
        *told = wanted;
    }

    /// Peers are in the network, subnets are not.
    fn is_subnet(&self, destination: &IpNet) -> bool {
        !self.config.address.trunc().contains(destination)
    }
}

#[cfg(test)]
mod tests {
    use cladnet_tunnel::{PeerConfig, PrivateKey, Roaming};

    use super::*;

    fn config(allowed_ips: &[&[&str]]) -> InterfaceConfig {
        let mut rng = rand::rng();
        let peers = allowed_ips.iter().map(|prefixes| PeerConfig {
            public_key: PrivateKey::generate(&mut rng).public_key(),
            preshared_key: None,
            allowed_ips: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            endpoint: None,
            persistent_keepalive: None,
            roaming: Roaming::ByPackets,
            probes: true,
            trusted_endpoints: vec![],
        });
        let peers = peers.collect();
        InterfaceConfig {
            name: "cbnet0".into(),
            private_key: PrivateKey::generate(&mut rng),
            address: "10.9.0.1/24".parse().unwrap(),
            mtu: 1420,
            peers,
            subnets: vec![],
            access: None,
        }
    }

    fn routes(mtus: &Mtus) -> Vec<(String, u16)> {
        mtus.routes.iter().map(|(destination, mtu)| (destination.to_string(), *mtu)).collect()
    }

    #[test]
    fn only_peers_of_which_something_else_is_known_have_routes() {
        let config = config(&[&["10.9.0.2/32"], &["10.9.0.3/32", "192.0.2.0/24"], &["10.9.0.4/32"]]);
        let found = [(config.peers[1].public_key, 1240)];
        let wanted = Mtus::wanted(&config, &found);
        assert_eq!((routes(&wanted), wanted.link(&config)), (vec![("10.9.0.3/32".into(), 1240)], 1420));
        assert!(!Mtus::wanted(&config, &[]).is_told());
    }

    #[test]
    fn a_subnet_behind_a_peer_has_a_route_with_what_is_known_of_the_peer() {
        let mut config = config(&[&["10.9.0.2/32", "192.0.2.0/24"], &["10.9.0.3/32", "198.51.100.0/24"]]);
        config.subnets = vec!["192.0.2.0/24".parse().unwrap(), "198.51.100.0/24".parse().unwrap()];
        let wanted = Mtus::wanted(&config, &[(config.peers[0].public_key, 1240)]);
        let all = [("10.9.0.2/32".into(), 1240), ("192.0.2.0/24".into(), 1240), ("198.51.100.0/24".into(), 1420)];
        assert_eq!(routes(&wanted), all);
        assert_eq!(wanted.link(&config), 1420);
    }

    #[test]
    fn the_interface_takes_what_its_best_peer_gets() {
        let config = config(&[&["10.9.0.2/32"], &["10.9.0.3/32"]]);
        let found = [(config.peers[0].public_key, 8941), (config.peers[1].public_key, 1240)];
        let wanted = Mtus::wanted(&config, &found);
        assert_eq!(wanted.link(&config), 8941);
        assert_eq!(routes(&wanted), [("10.9.0.2/32".into(), 8941), ("10.9.0.3/32".into(), 1240)]);
    }

    #[test]
    fn a_route_that_somebody_took_away_is_missed() {
        let config = config(&[&["10.9.0.2/32"]]);
        let told = Mtus::wanted(&config, &[(config.peers[0].public_key, 8941)]);
        let route = |destination: &str, mtu| Route {
            destination: destination.parse().unwrap(),
            gateway: None,
            interface: Some("cbnet0".into()),
            metric: 0,
            mtu,
        };
        let all = [route("10.9.0.0/24", Some(1420)), route("10.9.0.2/32", Some(8941))];
        assert!(told.are_in(&config, &all));
        assert!(!told.are_in(&config, &all[..1]));
        assert!(!told.are_in(&config, &[route("10.9.0.0/24", None), all[1].clone()]));
    }
}
