//! Asking peers at their endpoints, and what their answers have shown.

use std::net::SocketAddr;
use std::time::Instant;

use cladnet_tunnel::{Proof, PublicKey};

use super::threads::Command;
use super::{Device, DeviceError};

impl Device {
    /// Asks a peer at each of these endpoints whether it is there, by datagrams of `size` bytes (0: as short as can be).
    /// Answers make [`Device::proofs`]; a peer that does not answer probes is not asked.
    pub async fn probe(
        &self,
        name: &str,
        peer: PublicKey,
        endpoints: Vec<SocketAddr>,
        size: usize,
    ) -> Result<(), DeviceError> {
        let interfaces = self.interfaces.lock().await;
        let running = interfaces.get(name).ok_or_else(|| DeviceError::UnknownInterface(name.to_owned()))?;
        self.command(Command::Probe(running.id, peer, endpoints, size));
        Ok(())
    }

    /// Where a peer has answered; empty if there is no such peer.
    pub async fn proofs(&self, name: &str, peer: &PublicKey) -> Vec<Proof> {
        let interfaces = self.interfaces.lock().await;
        let Some(running) = interfaces.get(name) else { return Vec::new() };
        self.shared.tunnel.proofs(Instant::now(), running.id, peer)
    }
}
