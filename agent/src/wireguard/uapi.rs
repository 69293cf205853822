//! The words that `wg` and a WireGuard interface exchange: lines of `key=value`, ended by an empty one
//! (<https://www.wireguard.com/xplatform/>). Text in, values out, and back; where they come from and what becomes of
//! them is not here.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use cladnet_tunnel::{PresharedKey, PrivateKey, PublicKey};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ipnet::IpNet;
use nix::errno::Errno;
use zeroize::Zeroizing;

/// A key in a line is twice as long.
const KEY_LEN: usize = 32;
/// Room that most answers about a peer fit into.
const PEER_LEN: usize = 512;

/// What is asked of an interface.
#[derive(Debug)]
pub(super) enum Request {
    Get,
    Set(Set),
}

/// Changes, in their order. What is none stays as it is.
#[derive(Debug, Default)]
pub(super) struct Set {
    /// None inside takes the key away.
    pub(super) private_key: Option<Option<PrivateKey>>,
    /// 0 is any.
    pub(super) listen_port: Option<u16>,
    /// 0 is none.
    pub(super) fwmark: Option<u32>,
    pub(super) replace_peers: bool,
    pub(super) peers: Vec<PeerChange>,
}

/// Changes of one peer, which is added if it is not there.
#[derive(Debug)]
pub(super) struct PeerChange {
    pub(super) public_key: PublicKey,
    pub(super) update_only: bool,
    pub(super) remove: bool,
    /// None inside takes the key away.
    pub(super) preshared_key: Option<Option<PresharedKey>>,
    pub(super) endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub(super) persistent_keepalive: Option<u16>,
    pub(super) allowed_ips: Vec<AllowedIpChange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AllowedIpChange {
    RemoveAll,
    /// Takes it from the peer that has it.
    Add(IpNet),
    Remove(IpNet),
}

/// What an interface tells of itself.
#[derive(Debug)]
pub(super) struct State<'a> {
    pub(super) private_key: Option<&'a PrivateKey>,
    pub(super) listen_port: u16,
    pub(super) fwmark: u32,
    pub(super) peers: Vec<PeerState<'a>>,
}

#[derive(Debug)]
pub(super) struct PeerState<'a> {
    pub(super) public_key: PublicKey,
    pub(super) preshared_key: Option<&'a PresharedKey>,
    pub(super) endpoint: Option<SocketAddr>,
    /// Since 1970; zero if there was none.
    pub(super) last_handshake: Duration,
    pub(super) tx_bytes: u64,
    pub(super) rx_bytes: u64,
    pub(super) persistent_keepalive: u16,
    pub(super) allowed_ips: Vec<IpNet>,
}

/// Why a request cannot be read. Values are not repeated: some are secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UapiError {
    #[error("a request begins with get=1 or set=1")]
    UnknownRequest,
    #[error("line {line} is not key=value")]
    NoPair { line: usize },
    #[error("line {line}: no key of this name is known here")]
    UnknownKey { line: usize },
    #[error("line {line}: no value of {key}")]
    BadValue { line: usize, key: &'static str },
}

impl UapiError {
    pub(super) fn errno(&self) -> Errno {
        match self {
            Self::UnknownRequest | Self::NoPair { .. } => Errno::EPROTO,
            Self::UnknownKey { .. } | Self::BadValue { .. } => Errno::EINVAL,
        }
    }
}

/// Reads one request, without the empty line at its end.
pub(super) fn parse(request: &str) -> Result<Request, UapiError> {
    let mut lines = (1..).zip(request.lines());
    match lines.next() {
        Some((_, "get=1")) => match lines.next() {
            None => Ok(Request::Get),
            Some((line, _)) => Err(UapiError::UnknownKey { line }),
        },
        Some((_, "set=1")) => {
            let mut set = Set::default();
            lines.try_for_each(|(line, text)| set.take(Pair::of(line, text)?))?;
            Ok(Request::Set(set))
        }
        _ => Err(UapiError::UnknownRequest),
    }
}

/// One line of a request.
struct Pair<'a> {
    line: usize,
    key: &'a str,
    value: &'a str,
}

impl<'a> Pair<'a> {
    fn of(line: usize, text: &'a str) -> Result<Self, UapiError> {
        let (key, value) = text.split_once('=').ok_or(UapiError::NoPair { line })?;
        Ok(Self { line, key, value })
    }

    /// `key` is its name again, from the source: what a person reads is never what came in.
    fn bad(&self, key: &'static str) -> UapiError {
        UapiError::BadValue { line: self.line, key }
    }

    fn number<T: FromStr>(&self, key: &'static str) -> Result<T, UapiError> {
        // `from_str` would take a sign.
        let digits = self.value.bytes().all(|byte| byte.is_ascii_digit());
        self.value.parse().ok().filter(|_| digits).ok_or_else(|| self.bad(key))
    }

    fn word(&self, key: &'static str, word: &str) -> Result<(), UapiError> {
        if self.value == word { Ok(()) } else { Err(self.bad(key)) }
    }

    fn bytes(&self, key: &'static str) -> Result<Zeroizing<[u8; KEY_LEN]>, UapiError> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        if self.value.len() != 2 * KEY_LEN {
            return Err(self.bad(key));
        }
        let decoded = HEXLOWER_PERMISSIVE.decode_mut(self.value.as_bytes(), bytes.as_mut());
        decoded.map(|_| bytes).map_err(|_| self.bad(key))
    }

    /// All zeros are no key.
    fn secret<K>(&self, key: &'static str, make: impl Fn([u8; KEY_LEN]) -> K) -> Result<Option<K>, UapiError> {
        let bytes = self.bytes(key)?;
        Ok(Some(*bytes).filter(|bytes| *bytes != [0; KEY_LEN]).map(make))
    }

    fn parsed<T: FromStr>(&self, key: &'static str, text: &str) -> Result<T, UapiError> {
        text.parse().map_err(|_| self.bad(key))
    }
}

impl Set {
    /// Lines before the first peer are about the interface, those behind a `public_key` about that peer.
    fn take(&mut self, pair: Pair<'_>) -> Result<(), UapiError> {
        if pair.key == "public_key" {
            self.peers.push(PeerChange::of(PublicKey::from_bytes(*pair.bytes("public_key")?)));
            return Ok(());
        }
        if let Some(peer) = self.peers.last_mut() {
            return peer.take(&pair);
        }
        match pair.key {
            "private_key" => self.private_key = Some(pair.secret("private_key", PrivateKey::from_bytes)?),
            "listen_port" => self.listen_port = Some(pair.number("listen_port")?),
            "fwmark" if pair.value.is_empty() => self.fwmark = Some(0),
            "fwmark" => self.fwmark = Some(pair.number("fwmark")?),
            "replace_peers" => {
                pair.word("replace_peers", "true")?;
                self.replace_peers = true;
            }
            _ => return Err(UapiError::UnknownKey { line: pair.line }),
        }
        Ok(())
    }
}

impl PeerChange {
    pub(super) fn of(public_key: PublicKey) -> Self {
        Self {
            public_key,
            update_only: false,
            remove: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            allowed_ips: Vec::new(),
        }
    }

    fn take(&mut self, pair: &Pair<'_>) -> Result<(), UapiError> {
        match pair.key {
            "update_only" => {
                pair.word("update_only", "true")?;
                self.update_only = true;
            }
            "remove" => {
                pair.word("remove", "true")?;
                self.remove = true;
            }
            "preshared_key" => {
                self.preshared_key = Some(pair.secret("preshared_key", PresharedKey::from_bytes)?);
            }
            "endpoint" => self.endpoint = Some(pair.parsed("endpoint", pair.value)?),
            "persistent_keepalive_interval" => {
                self.persistent_keepalive = Some(pair.number("persistent_keepalive_interval")?);
            }
            "replace_allowed_ips" => {
                pair.word("replace_allowed_ips", "true")?;
                self.allowed_ips.push(AllowedIpChange::RemoveAll);
            }
            "allowed_ip" => self.allowed_ips.push(match pair.value.strip_prefix('-') {
                Some(removed) => AllowedIpChange::Remove(pair.parsed::<IpNet>("allowed_ip", removed)?.trunc()),
                None => AllowedIpChange::Add(pair.parsed::<IpNet>("allowed_ip", pair.value)?.trunc()),
            }),
            "protocol_version" => pair.word("protocol_version", "1")?,
            _ => return Err(UapiError::UnknownKey { line: pair.line }),
        }
        Ok(())
    }
}

/// What is answered when there is nothing to tell but how it went; `wg` expects a negative number.
pub(super) fn verdict(errno: Option<Errno>) -> String {
    format!("errno={}\n\n", errno.map_or(0, |errno| -(errno as i32)))
}

/// What answers [`Request::Get`].
pub(super) fn describe(state: &State<'_>) -> Zeroizing<String> {
    // Memory that is outgrown is not zeroed.
    let prefixes: usize = state.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
    let mut text = Zeroizing::new(String::with_capacity(PEER_LEN * (state.peers.len() + 1) + 64 * prefixes));
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{key}={value}");
    };
    let hex = |bytes: &[u8; KEY_LEN]| Zeroizing::new(HEXLOWER.encode(bytes));
    if let Some(key) = state.private_key {
        line("private_key", &*hex(&key.reveal_bytes()));
    }
    line("listen_port", &state.listen_port);
    if state.fwmark != 0 {
        line("fwmark", &state.fwmark);
    }
    for peer in &state.peers {
        line("public_key", &*hex(peer.public_key.as_bytes()));
        let preshared_key = peer.preshared_key.map(PresharedKey::reveal_bytes).unwrap_or_default();
        line("preshared_key", &*hex(&preshared_key));
        line("protocol_version", &1);
        if let Some(endpoint) = peer.endpoint {
            line("endpoint", &endpoint);
        }
        line("last_handshake_time_sec", &peer.last_handshake.as_secs());
        line("last_handshake_time_nsec", &peer.last_handshake.subsec_nanos());
        line("tx_bytes", &peer.tx_bytes);
        line("rx_bytes", &peer.rx_bytes);
        line("persistent_keepalive_interval", &peer.persistent_keepalive);
        peer.allowed_ips.iter().for_each(|prefix| line("allowed_ip", prefix));
    }
    text.push_str(&verdict(None));
    text
}

#[cfg(test)]
mod tests;
