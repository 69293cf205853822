//! What a plain interface was told to be, and how a request changes it. Nothing here has an effect by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use cladnet_tunnel::{PeerConfig, PresharedKey, PrivateKey, PublicKey, Roaming};
use ipnet::IpNet;

use super::uapi::{AllowedIpChange, PeerChange, Set};

#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) private_key: Option<PrivateKey>,
    /// 0 is any.
    pub(super) listen_port: u16,
    /// 0 is none.
    pub(super) fwmark: u32,
    peers: BTreeMap<PublicKey, Peer>,
    /// Whose each prefix is: no two peers share one.
    owners: HashMap<IpNet, PublicKey>,
}

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) preshared_key: Option<PresharedKey>,
    /// The last one we know of.
    pub(super) endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub(super) persistent_keepalive: u16,
    pub(super) allowed_ips: BTreeSet<IpNet>,
}

/// What a change of peers asks for beside the new settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Endpoints that were named, also if they were the same before: the peer may be believed elsewhere.
    pub(super) moved: Vec<(PublicKey, SocketAddr)>,
    /// Peers that are to be kept alive and were not before.
    pub(super) kept_alive: Vec<PublicKey>,
}

impl Settings {
    pub(super) fn public_key(&self) -> Option<PublicKey> {
        self.private_key.as_ref().map(PrivateKey::public_key)
    }

    pub(super) fn peers(&self) -> &BTreeMap<PublicKey, Peer> {
        &self.peers
    }

    /// Notes where a peer was heard of.
    pub(super) fn found(&mut self, key: &PublicKey, endpoint: SocketAddr) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.endpoint = Some(endpoint);
        }
    }

    /// The peers as a tunnel takes them.
    pub(super) fn configs(&self) -> Vec<PeerConfig> {
        let config = |(key, peer): (&PublicKey, &Peer)| PeerConfig {
            public_key: *key,
            preshared_key: peer.preshared_key.clone(),
            allowed_ips: peer.allowed_ips.iter().copied().collect(),
            endpoint: peer.endpoint,
            persistent_keepalive: peer.is_kept_alive().then(|| Duration::from_secs(peer.persistent_keepalive.into())),
            roaming: Roaming::ByPackets,
            probes: false,
            trusted_endpoints: Vec::new(),
        };
        self.peers.iter().map(config).collect()
    }

    pub(super) fn apply(&mut self, set: Set) -> Changed {
        let Set { private_key, listen_port, fwmark, replace_peers, peers } = set;
        self.private_key = private_key.unwrap_or(self.private_key.take());
        self.listen_port = listen_port.unwrap_or(self.listen_port);
        self.fwmark = fwmark.unwrap_or(self.fwmark);
        let own_key = self.public_key();
        if replace_peers {
            self.peers.clear();
            self.owners.clear();
        }
        // Nobody is a peer of itself, whether it is so now or has always been.
        if let Some(own_key) = own_key {
            self.remove(&own_key);
        }
        let mut changed = Changed::default();
        for change in peers.into_iter().filter(|change| Some(change.public_key) != own_key) {
            self.change_peer(change, &mut changed);
        }
        changed.moved.retain(|(key, _)| self.peers.contains_key(key));
        changed.kept_alive.retain(|key| self.peers.get(key).is_some_and(Peer::is_kept_alive));
        changed
    }

    fn change_peer(&mut self, change: PeerChange, changed: &mut Changed) {
        let key = change.public_key;
        if change.remove {
            return self.remove(&key);
        }
        if change.update_only && !self.peers.contains_key(&key) {
            return;
        }
        let peer = self.peers.entry(key).or_default();
        if let Some(preshared_key) = change.preshared_key {
            peer.preshared_key = preshared_key;
        }
        if let Some(endpoint) = change.endpoint {
            peer.endpoint = Some(endpoint);
            changed.moved.push((key, endpoint));
        }
        if let Some(seconds) = change.persistent_keepalive {
            if !peer.is_kept_alive() && seconds != 0 {
                changed.kept_alive.push(key);
            }
            peer.persistent_keepalive = seconds;
        }
        for allowed_ip in change.allowed_ips {
            self.change_allowed_ip(&key, allowed_ip);
        }
    }

    fn change_allowed_ip(&mut self, key: &PublicKey, change: AllowedIpChange) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        match change {
            AllowedIpChange::RemoveAll => {
                for prefix in std::mem::take(&mut peer.allowed_ips) {
                    self.owners.remove(&prefix);
                }
            }
            AllowedIpChange::Add(prefix) => {
                peer.allowed_ips.insert(prefix);
                let former = self.owners.insert(prefix, *key).filter(|former| former != key);
                if let Some(former) = former.and_then(|former| self.peers.get_mut(&former)) {
                    former.allowed_ips.remove(&prefix);
                }
            }
            AllowedIpChange::Remove(prefix) => {
                if peer.allowed_ips.remove(&prefix) {
                    self.owners.remove(&prefix);
                }
            }
        }
    }

    fn remove(&mut self, key: &PublicKey) {
        for prefix in self.peers.remove(key).into_iter().flat_map(|peer| peer.allowed_ips) {
            self.owners.remove(&prefix);
        }
    }
}

impl Peer {
    pub(super) fn is_kept_alive(&self) -> bool {
        self.persistent_keepalive != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn prefix(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn with(number: u8, allowed_ips: &[AllowedIpChange]) -> PeerChange {
        PeerChange { allowed_ips: allowed_ips.to_vec(), ..PeerChange::of(key(number)) }
    }

    fn set(settings: &mut Settings, peers: Vec<PeerChange>) -> Changed {
        settings.apply(Set { peers, ..Set::default() })
    }

    fn prefixes(settings: &Settings, number: u8) -> Vec<String> {
        settings.peers[&key(number)].allowed_ips.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn a_prefix_moves_to_the_peer_that_is_given_it() {
        let mut settings = Settings::default();
        let (shared, own) = (prefix("10.0.0.0/24"), prefix("fd00::/64"));
        set(&mut settings, vec![with(1, &[AllowedIpChange::Add(shared), AllowedIpChange::Add(own)])]);
        set(&mut settings, vec![with(2, &[AllowedIpChange::Add(shared)])]);
        assert_eq!(prefixes(&settings, 1), ["fd00::/64"]);
        assert_eq!(prefixes(&settings, 2), ["10.0.0.0/24"]);
        set(&mut settings, vec![with(1, &[AllowedIpChange::Remove(shared)])]);
        assert_eq!(prefixes(&settings, 2), ["10.0.0.0/24"], "it is not the first one's to give up");
        set(&mut settings, vec![with(2, &[AllowedIpChange::Remove(shared)])]);
        assert_eq!(prefixes(&settings, 2), [""; 0]);
    }

    #[test]
    fn what_is_not_named_stays() {
        let mut settings = Settings::default();
        let endpoint = "192.0.2.1:1".parse().unwrap();
        let change = PeerChange {
            preshared_key: Some(Some(PresharedKey::from_bytes([9; 32]))),
            endpoint: Some(endpoint),
            persistent_keepalive: Some(25),
            ..with(1, &[AllowedIpChange::Add(prefix("10.0.0.0/24"))])
        };
        let changed = set(&mut settings, vec![change]);
        assert_eq!(changed, Changed { moved: vec![(key(1), endpoint)], kept_alive: vec![key(1)] });
        let before = settings.configs();
        assert_eq!(set(&mut settings, vec![PeerChange::of(key(1))]), Changed::default());
        assert_eq!(settings.configs(), before);
    }

    #[test]
    fn removing_and_updating_make_no_peer() {
        let mut settings = Settings::default();
        set(&mut settings, vec![PeerChange { update_only: true, ..PeerChange::of(key(1)) }]);
        set(&mut settings, vec![PeerChange { remove: true, ..PeerChange::of(key(1)) }]);
        assert!(settings.peers.is_empty());
        let endpoint = Some("192.0.2.1:1".parse().unwrap());
        let gone = [
            PeerChange { endpoint, persistent_keepalive: Some(1), ..PeerChange::of(key(1)) },
            PeerChange { remove: true, ..PeerChange::of(key(1)) },
        ];
        assert_eq!(set(&mut settings, gone.into()), Changed::default(), "nobody is moved who is gone");
    }

    #[test]
    fn an_interface_is_no_peer_of_itself() {
        let mut settings = Settings::default();
        let private_key = PrivateKey::from_bytes([7; 32]);
        let own = PeerChange::of(private_key.public_key());
        set(&mut settings, vec![own, PeerChange::of(key(1))]);
        settings.apply(Set { private_key: Some(Some(private_key.clone())), ..Set::default() });
        assert_eq!(settings.peers.keys().collect::<Vec<_>>(), [&key(1)]);
        set(&mut settings, vec![PeerChange::of(private_key.public_key())]);
        assert_eq!(settings.peers.len(), 1);
    }

    #[test]
    fn replaced_peers_begin_anew() {
        let mut settings = Settings::default();
        set(&mut settings, vec![with(1, &[AllowedIpChange::Add(prefix("10.0.0.0/24"))]), PeerChange::of(key(2))]);
        settings.apply(Set { replace_peers: true, peers: vec![PeerChange::of(key(1))], ..Set::default() });
        assert_eq!(settings.peers.keys().collect::<Vec<_>>(), [&key(1)]);
        assert_eq!(prefixes(&settings, 1), [""; 0]);
    }

    fn change() -> impl Strategy<Value = PeerChange> {
        let prefix = (0u8..4, 24u8..26).prop_map(|(third, len)| prefix(&format!("10.0.{third}.0/{len}")));
        let allowed_ip = prop_oneof![
            1 => Just(AllowedIpChange::RemoveAll),
            6 => prefix.clone().prop_map(AllowedIpChange::Add),
            2 => prefix.prop_map(AllowedIpChange::Remove),
        ];
        (1u8..5, prop::bool::weighted(0.1), prop::collection::vec(allowed_ip, 0..5))
            .prop_map(|(number, remove, allowed_ips)| PeerChange { remove, ..with(number, &allowed_ips) })
    }

    proptest! {
        #[test]
        fn every_prefix_has_one_owner_who_knows_of_it(changes in prop::collection::vec(change(), 0..40)) {
            let mut settings = Settings::default();
            set(&mut settings, changes);
            let held = settings.peers.iter().flat_map(|(key, peer)| peer.allowed_ips.iter().map(|it| (*it, *key)));
            let held: Vec<(IpNet, PublicKey)> = held.collect();
            prop_assert_eq!(held.len(), settings.owners.len());
            prop_assert_eq!(held.into_iter().collect::<HashMap<_, _>>(), settings.owners);
        }
    }
}
