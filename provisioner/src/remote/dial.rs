//! From an address to a key exchange with a trusted key: names are resolved, the policy asked, the key looked at.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use cladnet_model::deployment::{SshTarget, Via};
use russh::{
    AlgorithmKind, ChannelOpenFailure, Preferred,
    client::{self, Handle},
    keys::Algorithm,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{AddressRule, Gate, KEEP_ALIVE, KEEP_ALIVES, Pin, RemoteError, Route, ShownKey, Trust};

/// A name server that does not answer is asked twice by the resolver in this time.
const RESOLVE: Duration = Duration::from_secs(10);
/// Three SYNs: at 0, 1 and 3 s; and time for the answer to the last.
const CONNECT: Duration = Duration::from_secs(7);
/// A key exchange costs a small machine a second at most, and five round trips.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Two machines at one address tell themselves apart by nothing; more addresses than this are no machine.
const ADDRESSES: usize = 8;

pub(super) async fn dial(
    target: &SshTarget,
    trust: Trust,
    route: Route<'_>,
    rule: &dyn AddressRule,
) -> Result<(Handle<Gate>, ShownKey), RemoteError> {
    let mut failed = None;
    for at in addresses(target, route, rule).await? {
        match exchange(at, &trust, route).await {
            Err(error @ (RemoteError::Unreachable { .. } | RemoteError::Bastion { .. })) => failed = Some(error),
            settled => return settled,
        }
    }
    Err(failed.unwrap_or_else(|| RemoteError::Resolve { name: target.address.clone(), reason: "no address".into() }))
}

/// The addresses to connect to; every one of them may be.
async fn addresses(
    target: &SshTarget,
    route: Route<'_>,
    rule: &dyn AddressRule,
) -> Result<Vec<SocketAddr>, RemoteError> {
    let literal = target.address.parse::<IpAddr>().map(|address| SocketAddr::new(address, target.port));
    let (found, via) = match (literal, route) {
        (Ok(literal), Route::Direct) => (vec![literal], Via::Direct),
        (Ok(literal), Route::Through(_)) => (vec![literal], Via::Bastion),
        (Err(_), Route::Direct) => (resolve(target).await?, Via::Direct),
        // What a name means over there cannot be asked about here, so the policy could not be either.
        (Err(_), Route::Through(_)) => return Err(RemoteError::NameBehindBastion(target.address.clone())),
    };
    for at in &found {
        rule.check(at.ip(), via).await?;
    }
    Ok(found)
}

async fn resolve(target: &SshTarget) -> Result<Vec<SocketAddr>, RemoteError> {
    let failed = |reason: String| RemoteError::Resolve { name: target.address.clone(), reason };
    match timeout(RESOLVE, lookup_host((target.address.as_str(), target.port))).await {
        Ok(Ok(found)) => Ok(found.take(ADDRESSES).collect()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("the name servers do not answer".to_owned())),
    }
}

/// A server shows the key that we ask for first: of the pinned kind, where that is known. One with several keys is asked for
/// the others before a pin is called changed, and only a server that has no more says so: one that falls silent proves
/// nothing.
async fn exchange(at: SocketAddr, trust: &Trust, route: Route<'_>) -> Result<(Handle<Gate>, ShownKey), RemoteError> {
    let mut kinds: Vec<Algorithm> = acceptable().collect();
    if let Trust::Pinned(Pin { algorithm: Some(pinned), .. }) = trust {
        kinds.sort_by_key(|kind| family(kind) != *pinned);
    }
    let mut first = None;
    loop {
        match shake(at, trust, route, &kinds).await {
            Ok(trusted) => return Ok(trusted),
            Err(Shake::Untrusted(shown)) => {
                kinds.retain(|kind| family(kind) != shown.algorithm);
                let first = first.get_or_insert(shown);
                match trust {
                    Trust::Pinned(pin) if kinds.is_empty() => {
                        return Err(RemoteError::ChangedKey { expected: pin.fingerprint, offered: first.clone() });
                    }
                    Trust::Pinned(_) => {}
                    Trust::FirstSight | Trust::Unknown => return Err(RemoteError::UnknownKey(first.clone())),
                }
            }
            Err(Shake::NoCommonKey(error)) => match (first, trust) {
                (Some(offered), Trust::Pinned(pin)) => {
                    return Err(RemoteError::ChangedKey { expected: pin.fingerprint, offered });
                }
                _ => return Err(error),
            },
            Err(Shake::Failed(error)) => return Err(error),
        }
    }
}

/// What russh would ask for, without SHA-1.
fn acceptable() -> impl Iterator<Item = Algorithm> {
    Preferred::DEFAULT
        .key
        .iter()
        .filter(|kind| **kind != Algorithm::Rsa { hash: None })
        .cloned()
        .collect::<Vec<_>>()
        .into_iter()
}

/// The name of a key, which for RSA is not that of the signature.
fn family(kind: &Algorithm) -> String {
    match kind {
        Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None }.as_str().to_owned(),
        kind => kind.as_str().to_owned(),
    }
}

/// How one key exchange can fail.
enum Shake {
    Untrusted(ShownKey),
    /// It has no key of the kinds that were asked for.
    NoCommonKey(RemoteError),
    Failed(RemoteError),
}

async fn shake(
    at: SocketAddr,
    trust: &Trust,
    route: Route<'_>,
    kinds: &[Algorithm],
) -> Result<(Handle<Gate>, ShownKey), Shake> {
    let shown = Arc::new(OnceLock::new());
    let gate = Gate { trust: trust.clone(), shown: shown.clone() };
    let config = Arc::new(config(kinds));
    let session = match route {
        Route::Direct => {
            let stream = direct(at).await.map_err(Shake::Failed)?;
            timeout(HANDSHAKE, client::connect_stream(config, stream, gate)).await
        }
        Route::Through(bastion) => {
            let stream = bastion.forward(at).await.map_err(Shake::Failed)?;
            timeout(HANDSHAKE, client::connect_stream(config, stream, gate)).await
        }
    };
    match (session, shown.get().cloned()) {
        (Ok(Ok(session)), Some(shown)) => Ok((session, shown)),
        (Ok(Err(russh::Error::UnknownKey)), Some(shown)) => Err(Shake::Untrusted(shown)),
        (Ok(Err(error @ russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, .. })), _) => {
            Err(Shake::NoCommonKey(RemoteError::Handshake { at, reason: error.to_string() }))
        }
        (Ok(Err(error)), _) => Err(Shake::Failed(RemoteError::Handshake { at, reason: error.to_string() })),
        (Ok(Ok(_)), None) => Err(Shake::Failed(RemoteError::Handshake { at, reason: "it showed no key".to_owned() })),
        (Err(_), _) => {
            let reason = format!("no answer within {} s", HANDSHAKE.as_secs());
            Err(Shake::Failed(RemoteError::Handshake { at, reason }))
        }
    }
}

async fn direct(at: SocketAddr) -> Result<TcpStream, RemoteError> {
    let unreachable = |reason: String| RemoteError::Unreachable { at, reason };
    match timeout(CONNECT, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => {
            // Small requests and answers; a socket that cannot is a slower one.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
    }
}

impl super::Remote {
    /// A connection from this machine to another.
    async fn forward(
        &self,
        at: SocketAddr,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, RemoteError> {
        // Where it came from is for the bastion's log; the port means nothing.
        let opened = self.session.channel_open_direct_tcpip(at.ip().to_string(), at.port().into(), "127.0.0.1", 0);
        match timeout(CONNECT, opened).await {
            Ok(Ok(channel)) => Ok(channel.into_stream()),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                let reason = match reason {
                    ChannelOpenFailure::AdministrativelyProhibited => "it forbids forwarding".to_owned(),
                    ChannelOpenFailure::ConnectFailed => "nothing answers there".to_owned(),
                    other => format!("{other:?}"),
                };
                Err(RemoteError::Bastion { at, reason })
            }
            Ok(Err(error)) => Err(RemoteError::lost("connect through the bastion", error)),
            Err(_) => Err(RemoteError::Bastion { at, reason: format!("no answer within {} s", CONNECT.as_secs()) }),
        }
    }
}

fn config(kinds: &[Algorithm]) -> client::Config {
    client::Config {
        preferred: Preferred { key: Cow::Owned(kinds.to_vec()), ..Preferred::DEFAULT },
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: KEEP_ALIVES,
        ..client::Config::default()
    }
}
