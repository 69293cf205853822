//! One membership while the daemon runs, and what should be done about it. Pure.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use cladnet_model::{DesiredState, MembershipStatus, PeerState, tariff::Book};
use cladnet_tunnel::{PeerConfig, PublicKey, Roaming};
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

use crate::{
    access::access,
    configuration::{Configuration, Remote},
    device::{DEFAULT_MTU, InterfaceConfig},
    facts::Facts,
    paths::{self, Local, Pair, Prices, Side},
    state::MembershipRecord,
    subnets::{Accepted, confine},
};

/// Keeps a NAT's mapping open (WireGuard's customary value; the shortest UDP timeouts in use are 30 s).
const PERSISTENT_KEEPALIVE: Duration = Duration::from_secs(25);
/// Headers of IPv6, UDP and WireGuard around a packet.
const OVERHEAD: u32 = 80;
/// Every IPv6 path carries 1280; IPv4 inside needs no less.
const MIN_MTU: u32 = 1280;
/// A membership that no service has confirmed yet may be missing from a message that was under way when it was made.
const UNCONFIRMED: Duration = Duration::from_secs(60);

/// A membership.
pub(crate) struct Membership {
    pub record: MembershipRecord,
    pub configuration: Option<Configuration>,
    /// Of the subnets behind peers, those that this host uses.
    pub subnets: Accepted,
    /// What its paths cost.
    pub prices: Prices,
    /// The device has its interface.
    pub running: bool,
    pub state: PeerState,
    pub reason: String,
    /// The record is newer than the disk.
    pub unsaved: bool,
    /// The next stream must bring a whole snapshot.
    pub resync: bool,
    pub since: Instant,
}

/// What an interface should be.
#[derive(Debug)]
pub(crate) enum Target {
    Up(Box<InterfaceConfig>),
    Down(PeerState, &'static str),
}

impl Membership {
    pub(super) fn new(record: MembershipRecord, configuration: Option<Configuration>, book: Arc<Book>) -> Self {
        Self {
            record,
            configuration,
            subnets: Accepted::default(),
            prices: Prices::at(book, Timestamp::now()),
            running: false,
            state: PeerState::Configuring,
            reason: String::new(),
            unsaved: false,
            resync: false,
            since: Instant::now(),
        }
    }

    /// What should be, from what was wished here, what the service says, and where we are.
    pub(super) fn target(&self, facts: &Facts) -> Target {
        let Some(configuration) = &self.configuration else {
            return Target::Down(PeerState::Configuring, "waiting for the service's configuration");
        };
        let settings = configuration.settings();
        let Some(address) = settings.address else {
            return Target::Down(PeerState::Configuring, "waiting for an address");
        };
        let Ok(address) = Ipv4Net::new(address, settings.address_space.prefix_len()) else {
            return Target::Down(PeerState::Failed, "the service gave an impossible address space");
        };
        match (self.record.wish, settings.desired_state) {
            (DesiredState::Down, _) => Target::Down(PeerState::Released, "taken down on this machine"),
            (_, DesiredState::Down) => Target::Down(PeerState::Released, "taken down by an admin"),
            (DesiredState::Up, DesiredState::Up) => Target::Up(Box::new(InterfaceConfig {
                name: self.record.interface.clone(),
                private_key: self.record.private_key.clone(),
                address: IpNet::V4(address),
                mtu: mtu(facts),
                peers: self.peers(configuration, facts),
                subnets: self.subnets.by_host.values().flatten().copied().collect(),
                access: Some(confine(
                    access(configuration),
                    IpNet::from(IpAddr::V4(address.addr())),
                    &own_subnets(configuration),
                )),
            })),
        }
    }

    /// Our side of the paths to a peer.
    pub(super) fn local<'a>(
        &'a self,
        configuration: &'a Configuration,
        facts: &'a Facts,
        remote: &Remote,
    ) -> Local<'a> {
        let settings = configuration.settings();
        Local {
            host: configuration.host(),
            prices: &self.prices,
            location: &settings.location,
            endpoints: &facts.host.endpoints,
            policy: configuration.policy_to(remote),
        }
    }

    fn peers(&self, configuration: &Configuration, facts: &Facts) -> Vec<PeerConfig> {
        let persistent_keepalive = facts.nat().translates().then_some(PERSISTENT_KEEPALIVE);
        let up = |remote: &&Remote| remote.desired_state == DesiredState::Up;
        let peer = |remote: &Remote| {
            let local = self.local(configuration, facts, remote);
            PeerConfig {
                public_key: PublicKey::from_bytes(remote.public_key.0),
                preshared_key: None,
                allowed_ips: self.allowed_ips(remote),
                endpoint: paths::choose(&local, remote).map(|endpoint| endpoint.address),
                roaming: if remote.plain { Roaming::ByPackets } else { Roaming::Pinned },
                persistent_keepalive,
                probes: !remote.plain,
                trusted_endpoints: paths::trusted(&local, remote),
            }
        };
        configuration.remotes().values().filter(up).map(peer).collect()
    }

    /// The pairs whose paths are measured: plain WireGuard peers answer no probes.
    pub(super) fn pairs(&self, facts: &Facts) -> BTreeMap<PublicKey, Pair> {
        let Some(configuration) = &self.configuration else { return BTreeMap::new() };
        let settings = configuration.settings();
        let ours = Arc::new(Side {
            host: configuration.host().clone(),
            location: settings.location.clone(),
            endpoints: facts.host.endpoints.clone(),
        });
        let measured = |remote: &&Remote| remote.desired_state == DesiredState::Up && !remote.plain;
        let pair = |remote: &Remote| {
            let theirs = Side {
                host: remote.host.clone(),
                location: remote.location.clone(),
                endpoints: remote.endpoints.clone(),
            };
            let (policy, prices) = (configuration.policy_to(remote).paths, self.prices.clone());
            let pair = Pair { policy, prices, ours: ours.clone(), theirs };
            (PublicKey::from_bytes(remote.public_key.0), pair)
        };
        configuration.remotes().values().filter(measured).map(pair).collect()
    }

    /// Its own address first.
    fn allowed_ips(&self, remote: &Remote) -> Vec<IpNet> {
        let behind = self.subnets.by_host.get(&remote.host).into_iter().flatten().copied();
        std::iter::once(IpNet::from(IpAddr::V4(remote.address))).chain(behind).collect()
    }

    /// What the service is told.
    pub(super) fn status(&self) -> MembershipStatus {
        MembershipStatus {
            state: self.state,
            reason: self.reason.clone(),
            interface: self.record.interface.clone(),
            revision: self.configuration.as_ref().map_or(0, Configuration::revision),
        }
    }

    /// Whether what the service says of this network is about this membership, and not about the time before it.
    pub(super) fn is_confirmed(&self) -> bool {
        self.configuration.is_some() || self.since.elapsed() > UNCONFIRMED
    }
}

/// What others reach through this host, as they know it.
fn own_subnets(configuration: &Configuration) -> Vec<IpNet> {
    configuration.settings().subnets.iter().map(|subnet| IpNet::V4(subnet.prefix)).collect()
}

/// As large as the default route's interface carries; never more than usual, because the other side has an interface
/// too.
fn mtu(facts: &Facts) -> u16 {
    let usual = u32::from(DEFAULT_MTU);
    let carried = facts.underlay.as_ref().map_or(usual, |underlay| underlay.mtu.saturating_sub(OVERHEAD));
    u16::try_from(carried.clamp(MIN_MTU, usual)).unwrap_or(DEFAULT_MTU)
}
