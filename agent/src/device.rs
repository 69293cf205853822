//! The running data plane: TUN devices, the UDP socket and the threads that carry packets between them through
//! `cladnet_tunnel`. The control side holds a [`Device`] and says what should be; it never sees a packet.
//!
//! Threads: up to four readers per TUN and up to four of the socket, which share out their queues; one for timers and
//! greetings. None of them belongs to tokio.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cladnet_tunnel::{
    Access, Applied, ConfigError, Discard, Implementation, InterfaceId, PeerConfig, PeerStats, PrivateKey, PublicKey,
};
use ipnet::IpNet;
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::netlink::{Monitor, Netlink, NetlinkError};
use crate::offload::{OffloadPolicy, Offloads, TunOffloads};
use crate::tun::{Tun, TunError};
use crate::udp::{self, UdpError, UdpSocket};

mod keeper;
mod mtu;
mod pace;
mod plain;
mod probe;
mod prober;
mod shared;
mod slice;
mod stun;
mod threads;
mod tun_reader;
mod wire;

use keeper::{Keeper, Lost};
use mtu::Mtus;
pub(crate) use plain::{PlainDevice, segments_of};
use shared::Shared;
pub use stun::StunReply;
use threads::Command;

/// The port of a CLADNet host.
pub const DEFAULT_PORT: u16 = 8055;
/// Leaves room for IPv6, UDP and WireGuard headers in Ethernet's 1500.
pub const DEFAULT_MTU: u16 = 1420;

/// What WireGuard adds to a packet of full length.
const DATA_OVERHEAD: usize = 32;

/// Keeps a thread whose system call fails again and again from taking a core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// One membership's interface, whole.
#[derive(Debug, Clone)]
pub struct InterfaceConfig {
    /// `cbnet0`, `cbnet1`, …
    pub name: String,
    pub private_key: PrivateKey,
    /// Our overlay address with the network's prefix length, which makes the connected route.
    pub address: IpNet,
    pub mtu: u16,
    pub peers: Vec<PeerConfig>,
    /// Subnets behind peers, each one of a peer's allowed IPs: the kernel routes them here. Other allowed IPs outside of
    /// the network are routed by whoever wants them to be.
    pub subnets: Vec<IpNet>,
    /// Who of them may reach this host, and how; `None`: all, whatever way.
    pub access: Option<Access>,
}

#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(transparent)]
    Udp(#[from] UdpError),
    #[error(transparent)]
    Tun(#[from] TunError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("interface {name} is refused")]
    Config { name: String, source: ConfigError },
    #[error("interface {0} exists already")]
    InterfaceExists(String),
    #[error("no interface {0}")]
    UnknownInterface(String),
    #[error("cannot start a data thread")]
    Thread(#[source] io::Error),
}

/// The data plane of this host. Its interfaces exist until [`Device::close`] or the end of the process.
pub struct Device {
    shared: Arc<Shared>,
    netlink: Netlink,
    interfaces: Arc<Mutex<BTreeMap<String, Running>>>,
    commands: std::sync::mpsc::Sender<Command>,
    /// Where TUN readers report that their device was deleted.
    lost: mpsc::Sender<Lost>,
    keeper: JoinHandle<()>,
    mtus: JoinHandle<()>,
}

/// An interface that is up.
struct Running {
    id: InterfaceId,
    config: InterfaceConfig,
    /// What the kernel was told of paths.
    mtus: Mtus,
}

impl Device {
    /// Binds the socket and starts the threads. To be called inside a tokio runtime; port 0 takes any free one.
    pub fn open(port: u16, implementation: Implementation, policy: OffloadPolicy) -> Result<Self, DeviceError> {
        if !cladnet_tunnel::ENCRYPTS {
            warn!("this build encrypts nothing: it is for measuring only");
        }
        let netlink = Netlink::connect()?;
        let shared = Arc::new(Shared::new(UdpSocket::bind(port, policy)?, implementation, policy));
        let commands = threads::start(&shared).map_err(DeviceError::Thread)?;
        prober::start(&shared).map_err(DeviceError::Thread)?;
        let interfaces = Arc::new(Mutex::new(BTreeMap::new()));
        let (lost, reports) = mpsc::channel(cladnet_tunnel::MAX_INTERFACES);
        let keeper = Keeper {
            shared: shared.clone(),
            netlink: netlink.clone(),
            interfaces: interfaces.clone(),
            lost: lost.clone(),
        };
        let keeper = tokio::spawn(keeper.run(reports, Monitor::open()?));
        let mtus = tokio::spawn(mtu::follow(shared.clone(), netlink.clone(), interfaces.clone()));
        Ok(Self { shared, netlink, interfaces, commands, lost, keeper, mtus })
    }

    /// The port the socket is bound to.
    pub fn port(&self) -> io::Result<u16> {
        self.shared.socket.local_port()
    }

    /// Brings an interface up and greets its peers. Peers that cannot be are left out with a warning.
    pub async fn add_interface(&self, config: InterfaceConfig) -> Result<(), DeviceError> {
        let mut interfaces = self.interfaces.lock().await;
        if interfaces.contains_key(&config.name) {
            return Err(DeviceError::InterfaceExists(config.name));
        }
        let running = self.bring_up(config).await?;
        interfaces.insert(running.config.name.clone(), running);
        Ok(())
    }

    /// Makes an interface what `config` says. What stays as it was is not touched: unchanged peers keep their sessions.
    pub async fn update_interface(&self, config: InterfaceConfig) -> Result<(), DeviceError> {
        let mut interfaces = self.interfaces.lock().await;
        let running =
            interfaces.get_mut(&config.name).ok_or_else(|| DeviceError::UnknownInterface(config.name.clone()))?;
        if running.config.private_key.public_key() != config.private_key.public_key() {
            let id = running.id;
            interfaces.remove(&config.name);
            self.take_down(&config.name, id).await?;
            let running = self.bring_up(config).await?;
            interfaces.insert(running.config.name.clone(), running);
            return Ok(());
        }
        let refused = |source| DeviceError::Config { name: config.name.clone(), source };
        // Before addresses and peers, so that none is ever heard under rules that were not made for it.
        if running.config.access != config.access {
            let changed = self.shared.tunnel.set_access(Instant::now(), running.id, config.access.as_ref());
            changed.map_err(refused)?;
            running.config.access.clone_from(&config.access);
        }
        if (running.config.address, running.config.mtu) != (config.address, config.mtu) {
            running.mtus.withdraw(&self.netlink, &running.config).await;
            set_up(&self.netlink, &config).await?;
        }
        if running.config.subnets != config.subnets {
            self.shared.tunnel.set_subnets(running.id, &config.subnets).map_err(refused)?;
        }
        let applied = self
            .shared
            .tunnel
            .update_interface(Instant::now(), running.id, Some(config.address.trunc()), config.mtu, &config.peers)
            .map_err(refused)?;
        let id = running.id;
        running.config = config;
        mtu::tell(&self.shared, &self.netlink, running).await;
        self.greet(id, &running.config.name, applied);
        Ok(())
    }

    pub async fn remove_interface(&self, name: &str) -> Result<(), DeviceError> {
        let mut interfaces = self.interfaces.lock().await;
        let running = interfaces.remove(name).ok_or_else(|| DeviceError::UnknownInterface(name.to_owned()))?;
        self.take_down(name, running.id).await?;
        info!(interface = name, "interface removed");
        Ok(())
    }

    /// In the order of public keys; empty if there is no such interface.
    pub async fn peer_stats(&self, name: &str) -> Vec<PeerStats> {
        let interfaces = self.interfaces.lock().await;
        let Some(running) = interfaces.get(name) else { return Vec::new() };
        self.shared.tunnel.peer_stats(Instant::now(), running.id)
    }

    /// What is in use now.
    pub fn offloads(&self) -> Offloads {
        let tuns = self.shared.tuns().map(|tun| tun.offloads());
        Offloads { tun: tuns.reduce(TunOffloads::and).unwrap_or_default(), udp: self.shared.socket.offloads() }
    }

    /// The library that seals full packets on this CPU.
    pub fn aead_library(&self) -> &'static str {
        self.shared.tunnel.aead_library()
    }

    /// Every reason with the number of packets dropped for it since start.
    pub fn discards(&self) -> Vec<(Discard, u64)> {
        self.shared.tunnel.discards().iter().collect()
    }

    /// Starts handshakes with these peers now, session or not; opens NAT mappings towards them on the way.
    pub async fn initiate(&self, name: &str, peers: &[PublicKey]) -> Result<(), DeviceError> {
        let interfaces = self.interfaces.lock().await;
        let running = interfaces.get(name).ok_or_else(|| DeviceError::UnknownInterface(name.to_owned()))?;
        self.command(Command::Greet(running.id, peers.to_vec()));
        Ok(())
    }

    /// Tells every peer where we are: to be called when an address of ours changed or the machine was resumed. A living
    /// session sends an authenticated packet, so that the other side roams; without one a handshake starts. All paths
    /// are measured anew.
    pub fn kick_all(&self) {
        prober::moved(&self.shared);
        self.command(Command::Announce);
    }

    /// Sends a STUN request from the tunnel's own socket; answers arrive at [`Device::stun_replies`].
    pub fn send_stun(&self, server: SocketAddr, request: &[u8]) -> io::Result<()> {
        self.shared.socket.send(server, request)
    }

    /// STUN messages that arrive from now on. A receiver that does not keep up loses the oldest.
    pub fn stun_replies(&self) -> broadcast::Receiver<StunReply> {
        self.shared.stun.subscribe()
    }

    /// Removes every interface and ends the threads.
    pub async fn close(self) {
        let names: Vec<String> = self.interfaces.lock().await.keys().cloned().collect();
        for name in names {
            if let Err(error) = self.remove_interface(&name).await {
                warn!(interface = name, error = &error as &dyn std::error::Error, "interface not removed");
            }
        }
    }

    async fn bring_up(&self, config: InterfaceConfig) -> Result<Running, DeviceError> {
        let tun = Arc::new(open_tun(&self.netlink, &config.name, self.shared.offload_policy).await?);
        set_up(&self.netlink, &config).await?;
        let identity = cladnet_tunnel::InterfaceConfig {
            private_key: config.private_key.clone(),
            network: Some(config.address.trunc()),
            mtu: config.mtu,
            peers: config.peers.clone(),
        };
        let refused = |source| DeviceError::Config { name: config.name.clone(), source };
        let (id, applied) = self.shared.tunnel.add_interface(Instant::now(), &identity).map_err(refused)?;
        self.shared.tunnel.set_subnets(id, &config.subnets).map_err(refused)?;
        // Nothing is delivered before the device is attached.
        self.shared.tunnel.set_access(Instant::now(), id, config.access.as_ref()).map_err(refused)?;
        if let Err(error) = threads::read_tun(&self.shared, id, &config.name, &tun, &self.lost) {
            // Ends those of its readers that could be started.
            self.take_down(&config.name, id).await?;
            return Err(DeviceError::Thread(error));
        }
        info!(interface = config.name, address = %config.address, mtu = config.mtu, "interface up");
        let mut running = Running { id, config, mtus: Mtus::default() };
        mtu::tell(&self.shared, &self.netlink, &mut running).await;
        self.greet(id, &running.config.name, applied);
        Ok(running)
    }

    /// Deleting the link is what ends its reader.
    async fn take_down(&self, name: &str, id: InterfaceId) -> Result<(), DeviceError> {
        prober::forget(&self.shared, id);
        self.shared.tunnel.remove_interface(id);
        self.shared.detach(id);
        Ok(self.netlink.remove(name).await?)
    }

    fn greet(&self, id: InterfaceId, name: &str, applied: Applied) {
        for peer in &applied.refused {
            warn!(interface = name, %peer, "peer left out: its key is our own or weak");
        }
        self.command(Command::Greet(id, applied.to_greet));
    }

    fn command(&self, command: Command) {
        // The thread lives as long as this handle: there is nobody to tell that it does not.
        let _ = self.commands.send(command);
    }
}

async fn open_tun(netlink: &Netlink, name: &str, policy: OffloadPolicy) -> Result<Tun, DeviceError> {
    let tun = Tun::open(name, policy)?;
    // One that was there before is its owner's.
    if tun.queue_count() > 1 {
        netlink.forgo_queueing(name).await?;
    }
    Ok(tun)
}

/// Gives an interface what it should have, and super-packets of no more packets than one train carries: then none is
/// cut in two. By count alone, as no packet is longer than the MTU: where a path carries longer ones, fewer make a
/// super-packet of the most bytes.
async fn set_up(netlink: &Netlink, config: &InterfaceConfig) -> Result<(), NetlinkError> {
    netlink.configure(&config.name, config.address, config.mtu).await?;
    netlink.limit_segments(&config.name, segments_of(config.mtu)).await
}

impl Drop for Device {
    fn drop(&mut self) {
        self.keeper.abort();
        self.mtus.abort();
        self.shared.stop();
        let _ = self.commands.send(Command::Stop);
    }
}
