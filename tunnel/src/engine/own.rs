//! Our own engine: handshakes by Noise, timers, cookies. It yields keypairs, and data passes by it through `datapath`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use x25519_dalek::{PublicKey as NoisePublicKey, SharedSecret};

use super::{Engine, Initiation, PeerEngine, PeerParameters, Refusal, WeakKey};
use crate::discard::Discard;
use crate::host::Host;
use crate::key::{PrivateKey, PublicKey};
use crate::message::HANDSHAKE_INITIATION_LEN;

mod cookie;
mod load;
mod noise;
mod peer;
mod sessions;
mod timers;

use cookie::{MACS_LEN, MacChecker};
use load::{Excess, Load};
pub(super) use noise::Consumed;
use noise::Identity;
use peer::OwnPeer;

/// One interface on our own engine.
pub(crate) struct OwnEngine {
    identity: Arc<Identity>,
    macs: MacChecker,
    load: Mutex<Load>,
}

impl OwnEngine {
    pub(crate) fn new(private_key: &PrivateKey, host: Arc<Host>) -> Self {
        let public_key = private_key.public_key();
        Self {
            macs: MacChecker::new(&public_key, host.clone()),
            identity: Arc::new(Identity { private_key: private_key.clone(), public_key, host }),
            load: Mutex::default(),
        }
    }
}

impl Engine for OwnEngine {
    fn public_key(&self) -> PublicKey {
        self.identity.public_key
    }

    fn agree(&self, with: &PublicKey) -> SharedSecret {
        self.identity.private_key.secret().diffie_hellman(&NoisePublicKey::from(*with.as_bytes()))
    }

    fn admit(&self, now: Instant, from: SocketAddr, message: &[u8], reply: &mut [u8]) -> Result<(), Refusal> {
        if !self.macs.is_for_us(message) {
            return Err(Refusal::WrongMac);
        }
        let is_proven = || self.macs.is_proven(now, from, message);
        let admitted = self.load.lock().unwrap_or_else(PoisonError::into_inner).admit(now, from.ip(), is_proven);
        admitted.map_err(|excess| match excess {
            Excess::Discard(reason) => Refusal::Discard(reason),
            Excess::NeedsCookie => {
                self.macs.reply(now, from, message, reply).map_or_else(Refusal::Discard, Refusal::Cookie)
            }
        })
    }

    fn read_initiation(&self, message: &[u8]) -> Result<Initiation, Discard> {
        let noise = message.get(8..HANDSHAKE_INITIATION_LEN - MACS_LEN).ok_or(Discard::Malformed)?;
        let consumed = self.identity.consume(noise)?;
        Ok(Initiation { from: consumed.from, noise: Some(Box::new(consumed)) })
    }

    fn peer(&self, now: Instant, parameters: PeerParameters) -> Result<Box<dyn PeerEngine>, WeakKey> {
        if !self.agree(&parameters.public_key).was_contributory() {
            return Err(WeakKey);
        }
        Ok(Box::new(OwnPeer::new(now, self.identity.clone(), parameters)))
    }

    fn handle_timeout(&self, _now: Instant) {}
}

#[cfg(test)]
mod tests;
