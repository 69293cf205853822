//! One interface: an identity, its peers, and who is responsible for which address. Immutable; a change makes a new one
//! that keeps the peers that did not change, sessions included.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use crate::allowed_ips::AllowedIps;
use crate::clear::Clear;
use crate::config::PeerConfig;
use crate::engine::{Engine, PeerParameters};
use crate::filter::{Access, Filter};
use crate::key::PublicKey;
use crate::peer::{Fresh, Peer};
use crate::probe::{PairKeys, Probes};

/// How many networks a host can be in. An initiation that is for none of them costs this many MACs.
pub const MAX_INTERFACES: usize = 16;

/// Names an interface while it exists; below [`MAX_INTERFACES`], so that it can be an array's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub(crate) usize);

impl InterfaceId {
    pub fn slot(self) -> usize {
        self.0
    }
}

/// What a change of configuration did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Peers without a session, or with a new endpoint: whom to greet with [`crate::Tunnel::initiate`].
    pub to_greet: Vec<PublicKey>,
    /// Peers that cannot be: our own key, or a weak one. The others are in force.
    pub refused: Vec<PublicKey>,
}

#[derive(Clone)]
pub(crate) struct Interface {
    pub(crate) id: InterfaceId,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) network: Option<IpNet>,
    /// What else the host routes here.
    pub(crate) subnets: Arc<[IpNet]>,
    pub(crate) mtu: u16,
    pub(crate) peers: BTreeMap<PublicKey, Arc<Peer>>,
    pub(crate) allowed_ips: AllowedIps<Arc<Peer>>,
    pub(crate) filter: Option<Arc<Filter>>,
}

impl Interface {
    pub(crate) fn empty(id: InterfaceId, engine: Arc<dyn Engine>, network: Option<IpNet>, mtu: u16) -> Self {
        Self {
            id,
            engine,
            network,
            subnets: Arc::default(),
            mtu,
            peers: BTreeMap::new(),
            allowed_ips: AllowedIps::new(),
            filter: None,
        }
    }

    pub(crate) fn in_network(&self, network: Option<IpNet>, mtu: u16) -> Self {
        Self { network, mtu, ..self.clone() }
    }

    /// Whether the host routes `address` into this interface.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        self.network.iter().chain(self.subnets.iter()).any(|prefix| prefix.contains(&address))
    }

    pub(crate) fn with_subnets(&self, subnets: &[IpNet]) -> Self {
        Self { subnets: subnets.into(), ..self.clone() }
    }

    /// The longest packet that goes to a peer whole.
    pub(crate) fn longest_to(&self, peer: &Peer) -> u16 {
        // Who set the MTU of a link of its own is not us: the kernel has let the packet through, so it fits, also before
        // we hear that the link takes more now.
        let of_link = if self.network.is_some() { self.mtu } else { u16::MAX };
        peer.mtu.found().unwrap_or(of_link)
    }

    /// Whether packets to `address` go to this peer.
    pub(crate) fn leads_to(&self, address: IpAddr, peer: &Arc<Peer>) -> bool {
        self.allowed_ips.lookup(address).is_some_and(|owner| Arc::ptr_eq(owner, peer))
    }

    pub(crate) fn with_access(&self, now: Instant, access: Option<&Access>) -> Self {
        let filter = access.map(|access| match &self.filter {
            Some(filter) => Arc::new(filter.with(access)),
            None => Arc::new(Filter::new(now, access)),
        });
        Self { filter, ..self.clone() }
    }

    /// The interface as `configs` wants it. `fresh` yields what every new peer has of its own.
    pub(crate) fn with_peers(
        &self,
        now: Instant,
        configs: &[PeerConfig],
        mut fresh: impl FnMut() -> Fresh,
    ) -> (Self, Applied) {
        let mut next = Self {
            subnets: self.subnets.clone(),
            filter: self.filter.clone(),
            ..Self::empty(self.id, self.engine.clone(), self.network, self.mtu)
        };
        let mut applied = Applied::default();
        for config in configs {
            let peer = match next.peers.get(&config.public_key) {
                Some(named_before) => named_before.clone(),
                None => match self.peer_for(now, config, &mut fresh, &mut applied) {
                    Some(peer) => peer,
                    None => continue,
                },
            };
            for prefix in &config.allowed_ips {
                next.allowed_ips.insert(*prefix, peer.clone());
            }
            next.peers.insert(config.public_key, peer);
        }
        (next, applied)
    }

    /// The peer that `config` wants: the one there is, or a new one; none if its key is refused.
    fn peer_for(
        &self,
        now: Instant,
        config: &PeerConfig,
        fresh: &mut impl FnMut() -> Fresh,
        applied: &mut Applied,
    ) -> Option<Arc<Peer>> {
        let kept = self.peers.get(&config.public_key).filter(|peer| peer.takes_key_of(config));
        if let Some(peer) = kept {
            let psk = config.preshared_key.as_ref();
            peer.probes.set_preshared_key(psk, || self.probe_keys(config));
            if peer.reconfigure(now, config) {
                applied.to_greet.push(config.public_key);
            }
            return Some(peer.clone());
        }
        let created = self.new_peer(now, config, fresh);
        let list = if created.is_some() { &mut applied.to_greet } else { &mut applied.refused };
        list.push(config.public_key);
        created
    }

    fn new_peer(&self, now: Instant, config: &PeerConfig, fresh: &mut impl FnMut() -> Fresh) -> Option<Arc<Peer>> {
        if config.public_key == self.engine.public_key() {
            return None;
        }
        let Fresh { number, epoch, clock } = fresh();
        let parameters = PeerParameters {
            public_key: config.public_key,
            preshared_key: config.preshared_key.clone(),
            persistent_keepalive: config.persistent_keepalive,
            number,
        };
        let engine = self.engine.peer(now, parameters).ok()?;
        let probes = Probes::new(self.probe_keys(config), config.preshared_key.as_ref(), config.probes);
        let clear = Clear::new(number, epoch, config.trusted());
        Some(Arc::new(Peer::new(config, self.id, number, engine, probes, clear, clock)))
    }

    fn probe_keys(&self, config: &PeerConfig) -> PairKeys {
        let (ours, theirs) = (self.engine.public_key(), config.public_key);
        PairKeys::new(&self.engine.agree(&theirs), config.preshared_key.as_ref(), &ours, &theirs)
    }
}
