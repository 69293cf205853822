//! One machine over SSH: connect, run a fixed script, upload a file. The only place that names `russh`, whose interface
//! moves; nothing here knows agents or deployments.
//!
//! Nothing is sent before the machine's key is trusted: not the user's name, not a signature. The address policy is asked
//! about the very address that is connected to, after names are resolved.

mod dial;
mod error;
mod exec;
mod gate;
#[cfg(test)]
pub(crate) mod hostile;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upload;

use std::{net::IpAddr, sync::Arc, time::Duration};

use cladnet_model::deployment::{AddressPolicy, AddressRefused, Fingerprint, SshTarget, Via};
use futures_util::future::{BoxFuture, ready};
use russh::{
    Disconnect,
    client::{self, Handle},
    keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, decode_secret_key},
};
use tokio::time::timeout;
use zeroize::Zeroizing;

pub(crate) use error::RemoteError;
pub(crate) use exec::{As, Output};
use gate::Gate;

/// A signature, and for RSA the server's word on its hashes, at 300 ms of round trip and a busy machine.
const AUTHENTICATE: Duration = Duration::from_secs(20);
/// Signs of life while nothing else is heard: a dead link is noticed after 3 s + 3 × 3 s, a starved machine is not given up.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
const KEEP_ALIVES: usize = 3;
/// Opening one more channel of a connection that stands.
const OPEN: Duration = Duration::from_secs(10);

/// Which addresses may be connected to.
pub trait AddressRule: Send + Sync {
    /// Whether a deployment may connect to `address`.
    fn check(&self, address: IpAddr, via: Via) -> BoxFuture<'_, Result<(), AddressError>>;
}

/// Why an address is not connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error(transparent)]
    Refused(#[from] AddressRefused),
    #[error(
        "whether {address} is the control plane's own is not known: {name} cannot be resolved ({reason}); mend its name service, or correct --advertise and --tls-name"
    )]
    Unresolved { address: IpAddr, name: String, reason: String },
}

impl AddressRule for AddressPolicy {
    fn check(&self, address: IpAddr, via: Via) -> BoxFuture<'_, Result<(), AddressError>> {
        Box::pin(ready(AddressPolicy::check(self, address, via).map_err(AddressError::from)))
    }
}

/// What is known of a machine's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Only this one.
    Pinned(Pin),
    /// Whatever it shows first.
    FirstSight,
    /// None yet: it is looked at, and nothing is sent.
    Unknown,
}

/// The only key that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    pub fingerprint: Fingerprint,
    /// Such as `ssh-ed25519`, where it is known: a machine with several keys is asked for this one.
    pub algorithm: Option<String>,
}

impl From<Fingerprint> for Pin {
    fn from(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, algorithm: None }
    }
}

/// How the machine is reached.
#[derive(Clone, Copy)]
pub(crate) enum Route<'a> {
    Direct,
    Through(&'a Remote),
}

/// The key that a machine showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShownKey {
    pub fingerprint: Fingerprint,
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
}

/// A connection, logged in; dropping it ends it.
pub(crate) struct Remote {
    session: Handle<Gate>,
    shown: ShownKey,
    user: String,
}

impl Remote {
    /// Connects and logs in.
    pub(crate) async fn connect(
        target: &SshTarget,
        trust: Trust,
        key: &Zeroizing<Vec<u8>>,
        route: Route<'_>,
        rule: &dyn AddressRule,
    ) -> Result<Self, RemoteError> {
        let key = private_key(key)?;
        let (mut session, shown) = dial::dial(target, trust, route, rule).await?;
        match timeout(AUTHENTICATE, authenticate(&mut session, &target.user, key)).await {
            Ok(Ok(true)) => Ok(Self { session, shown, user: target.user.clone() }),
            Ok(Ok(false)) => Err(RemoteError::Authentication { user: target.user.clone() }),
            Ok(Err(error)) => Err(RemoteError::lost("authenticate", error)),
            Err(_) => Err(RemoteError::Slow { what: "the login", limit: AUTHENTICATE }),
        }
    }

    /// The key that this machine showed, trusted now.
    pub(crate) fn shown_key(&self) -> &ShownKey {
        &self.shown
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Says goodbye; a machine that does not hear it any more is no matter.
    pub(crate) async fn close(&self) {
        let _ = timeout(OPEN, self.session.disconnect(Disconnect::ByApplication, "", "en")).await;
    }

    async fn channel(&self) -> Result<russh::Channel<client::Msg>, RemoteError> {
        match timeout(OPEN, self.session.channel_open_session()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(RemoteError::lost("open a channel", error)),
            Err(_) => Err(RemoteError::Slow { what: "opening a channel", limit: OPEN }),
        }
    }
}

async fn authenticate(session: &mut Handle<Gate>, user: &str, key: PrivateKey) -> Result<bool, russh::Error> {
    let hash = match key.algorithm().is_rsa() {
        // Never `ssh-rsa`, whose signatures are over SHA-1; a server that names no algorithms knows SHA-2 since 2016.
        true => Some(session.best_supported_rsa_hash().await?.flatten().unwrap_or(HashAlg::Sha256)),
        false => None,
    };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    Ok(session.authenticate_publickey(user, key).await?.success())
}

fn private_key(text: &[u8]) -> Result<PrivateKey, RemoteError> {
    let text = std::str::from_utf8(text).map_err(|_| RemoteError::NoPrivateKey)?;
    // The reason could quote the key.
    decode_secret_key(text, None).map_err(|_| RemoteError::NoPrivateKey)
}
