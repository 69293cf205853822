//! A data plane of one interface that is somebody else's to set up: addresses, MTU and state belong to `ip` and the
//! like. Nothing is put back: who deletes the interface ends it. A host's networks are [`super::Device`]'s.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use cladnet_tunnel::{
    Applied, Implementation, InterfaceConfig, InterfaceId, PeerConfig, PeerStats, PrivateKey, PublicKey,
};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use tokio::sync::mpsc;

use super::keeper::Lost;
use super::shared::Shared;
use super::threads::{self, Command};
use super::{DeviceError, udp};
use crate::offload::OffloadPolicy;
use crate::tun::Tun;
use crate::udp::{UdpError, UdpSocket};

/// The interface exists until this is dropped or the process ends.
pub(crate) struct PlainDevice {
    shared: Arc<Shared>,
    commands: std::sync::mpsc::Sender<Command>,
    name: String,
    /// Of the only interface there is.
    id: InterfaceId,
}

/// Tells that the interface was deleted.
pub(crate) struct Deletion(mpsc::Receiver<Lost>);

impl Deletion {
    pub(crate) async fn wait(&mut self) {
        let _ = self.0.recv().await;
    }
}

impl PlainDevice {
    /// Makes the interface and takes any free port. There is no peer, and nobody knows the key, until
    /// [`PlainDevice::set_private_key`].
    pub(crate) fn open(
        name: &str,
        mtu: u16,
        implementation: Implementation,
        policy: OffloadPolicy,
    ) -> Result<(Self, Deletion), DeviceError> {
        let tun = Arc::new(Tun::open(name, policy)?);
        let shared = Arc::new(Shared::new(UdpSocket::bind(0, policy)?, implementation, policy));
        let commands = threads::start(&shared).map_err(DeviceError::Thread)?;
        let id = add_interface(&shared, name, nobody(), mtu)?;
        let device = Self { shared, commands, name: name.to_owned(), id };
        let (lost, deletion) = mpsc::channel(1);
        threads::read_tun(&device.shared, id, name, &tun, &lost).map_err(DeviceError::Thread)?;
        Ok((device, Deletion(deletion)))
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        self.shared.socket.local_port()
    }

    /// Port 0 takes any free one. Sessions go on.
    pub(crate) fn set_port(&self, port: u16) -> Result<(), UdpError> {
        self.shared.socket.rebind(port)
    }

    /// What the firewall and routing rules know our datagrams by; 0 is none.
    pub(crate) fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.shared.socket.set_mark(mark)
    }

    /// Another identity, which has no peers yet; none is one that nobody knows.
    pub(crate) fn set_private_key(&self, key: Option<&PrivateKey>, mtu: u16) -> Result<(), DeviceError> {
        self.shared.tunnel.remove_interface(self.id);
        let id = add_interface(&self.shared, &self.name, key.cloned().unwrap_or_else(nobody), mtu)?;
        debug_assert_eq!(id, self.id, "the first free place is that of the only interface");
        Ok(())
    }

    /// Makes the peers these. Those that stay keep their sessions, and nobody is greeted.
    pub(crate) fn set_peers(&self, mtu: u16, peers: &[PeerConfig]) -> Result<Applied, DeviceError> {
        let updated = self.shared.tunnel.update_interface(Instant::now(), self.id, None, mtu, peers);
        updated.map_err(|source| DeviceError::Config { name: self.name.clone(), source })
    }

    pub(crate) fn set_endpoints(&self, endpoints: &[(PublicKey, SocketAddr)]) {
        self.shared.tunnel.set_endpoints(self.id, endpoints);
    }

    /// Starts handshakes with these peers.
    pub(crate) fn greet(&self, peers: Vec<PublicKey>) {
        // The thread lives as long as this handle: there is nobody to tell that it does not.
        let _ = self.commands.send(Command::Greet(self.id, peers));
    }

    /// In the order of public keys.
    pub(crate) fn peer_stats(&self) -> Vec<PeerStats> {
        self.shared.tunnel.peer_stats(Instant::now(), self.id)
    }
}

impl Drop for PlainDevice {
    fn drop(&mut self) {
        self.shared.detach(self.id);
        self.shared.stop();
        let _ = self.commands.send(Command::Stop);
    }
}

/// No more packets in one super-packet than one train carries.
pub(crate) fn segments_of(mtu: u16) -> usize {
    udp::train_len(usize::from(mtu) + super::DATA_OVERHEAD)
}

fn add_interface(shared: &Shared, name: &str, private_key: PrivateKey, mtu: u16) -> Result<InterfaceId, DeviceError> {
    let config = InterfaceConfig { private_key, network: None, mtu, peers: Vec::new() };
    let added = shared.tunnel.add_interface(Instant::now(), &config);
    added.map(|(id, _)| id).map_err(|source| DeviceError::Config { name: name.to_owned(), source })
}

fn nobody() -> PrivateKey {
    PrivateKey::generate(&mut UnwrapErr(SysRng))
}
