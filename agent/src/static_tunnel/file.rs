//! The TOML file of a static tunnel, parsed into what a device takes. Paths in it are relative to it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use cladnet_tunnel::{KeyError, PeerConfig, PublicKey, Roaming};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

mod access;

use access::AccessTable;

use crate::device::{DEFAULT_MTU, DEFAULT_PORT, InterfaceConfig};
use crate::netlink;

/// IPv4's smallest: RFC 791 §3.2.
const MIN_MTU: u16 = 576;
/// What a datagram can carry of a packet, sealed.
const MAX_MTU: u16 = 65_400;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is refused", path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{} is no key file", path.display())]
    Key { path: PathBuf, source: KeyError },
}

pub(super) struct StaticTunnel {
    pub(super) listen_port: u16,
    pub(super) interface: InterfaceConfig,
}

pub(super) fn read(path: &Path) -> Result<StaticTunnel, FileError> {
    let text = fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let file: File =
        toml::from_str(&text).map_err(|source| FileError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    let directory = path.parent().unwrap_or(Path::new(""));
    file.resolve(directory)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "default_interface", deserialize_with = "interface_name")]
    interface: String,
    private_key_file: PathBuf,
    address: IpNet,
    #[serde(default = "default_port")]
    listen_port: u16,
    #[serde(default = "default_mtu", deserialize_with = "mtu")]
    mtu: u16,
    #[serde(default)]
    peers: Vec<Peer>,
    access: Option<AccessTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    #[serde(deserialize_with = "text")]
    public_key: PublicKey,
    preshared_key_file: Option<PathBuf>,
    allowed_ips: Vec<IpNet>,
    endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    #[serde(default)]
    persistent_keepalive: u16,
    /// The other end is a cladnet agent too, which answers probes.
    #[serde(default)]
    probes: bool,
    /// Its endpoints to which packets travel in clear, if its file says the same of ours; it must answer probes for it.
    #[serde(default)]
    trusted_endpoints: Vec<SocketAddr>,
}

impl File {
    fn resolve(self, directory: &Path) -> Result<StaticTunnel, FileError> {
        let peers = self.peers.into_iter().map(|peer| peer.resolve(directory)).collect::<Result<_, _>>()?;
        let interface = InterfaceConfig {
            name: self.interface,
            private_key: key(&directory.join(self.private_key_file))?,
            address: self.address,
            mtu: self.mtu,
            peers,
            subnets: Vec::new(),
            access: self.access.map(Into::into),
        };
        Ok(StaticTunnel { listen_port: self.listen_port, interface })
    }
}

impl Peer {
    fn resolve(self, directory: &Path) -> Result<PeerConfig, FileError> {
        let preshared_key = self.preshared_key_file.map(|path| key(&directory.join(path))).transpose()?;
        let keepalive = Duration::from_secs(self.persistent_keepalive.into());
        Ok(PeerConfig {
            public_key: self.public_key,
            preshared_key,
            allowed_ips: self.allowed_ips,
            endpoint: self.endpoint,
            persistent_keepalive: Some(keepalive).filter(|interval| !interval.is_zero()),
            roaming: Roaming::ByPackets,
            probes: self.probes,
            trusted_endpoints: self.trusted_endpoints,
        })
    }
}

fn key<K: FromStr<Err = KeyError>>(path: &Path) -> Result<K, FileError> {
    let text = fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Zeroizing::new(text).parse().map_err(|source| FileError::Key { path: path.to_owned(), source })
}

fn default_interface() -> String {
    "cbnet0".to_owned()
}

fn default_port() -> u16 {
    DEFAULT_PORT
}

fn default_mtu() -> u16 {
    DEFAULT_MTU
}

fn text<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn interface_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if netlink::is_interface_name(&name) { Ok(name) } else { Err(de::Error::custom(netlink::INTERFACE_NAME)) }
}

fn mtu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let mtu = u16::deserialize(deserializer)?;
    if (MIN_MTU..=MAX_MTU).contains(&mtu) {
        Ok(mtu)
    } else {
        Err(de::Error::custom(format!("an MTU is between {MIN_MTU} and {MAX_MTU}")))
    }
}

#[cfg(test)]
mod tests {
    use cladnet_tunnel::{Action, PresharedKey, PrivateKey, Traffic};

    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let mut rng = rand::rng();
        fs::write(directory.path().join("private.key"), &*PrivateKey::generate(&mut rng).reveal()).unwrap();
        fs::write(directory.path().join("pre.key"), &*PresharedKey::generate(&mut rng).reveal()).unwrap();
        let path = directory.path().join("tunnel.toml");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    fn refusal(text: &str) -> String {
        let (_directory, path) = written(text);
        match read(&path) {
            Err(FileError::Parse { source, .. }) => source.to_string(),
            Err(other) => other.to_string(),
            Ok(_) => panic!("accepted: {text}"),
        }
    }

    const MINIMAL: &str = "private_key_file = 'private.key'\naddress = '10.9.0.1/24'\n";

    #[test]
    fn defaults_are_those_of_an_agent() {
        let (_directory, path) = written(MINIMAL);
        let tunnel = read(&path).unwrap();
        assert_eq!((tunnel.listen_port, tunnel.interface.mtu), (DEFAULT_PORT, DEFAULT_MTU));
        assert_eq!(tunnel.interface.name, "cbnet0");
    }

    #[test]
    fn a_peer_is_taken_as_written() {
        let public_key = PrivateKey::generate(&mut rand::rng()).public_key();
        let (_directory, path) = written(&format!(
            "{MINIMAL}[[peers]]\npublic_key = '{public_key}'\npreshared_key_file = 'pre.key'\n\
             allowed_ips = ['10.9.0.2/32']\nendpoint = '192.0.2.1:8055'\npersistent_keepalive = 25\n"
        ));
        let peers = read(&path).unwrap().interface.peers;
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].public_key, public_key);
        assert!(peers[0].preshared_key.is_some());
        assert_eq!(peers[0].persistent_keepalive, Some(Duration::from_secs(25)));
    }

    #[test]
    fn rules_are_taken_in_their_order() {
        let (_directory, path) = written(&format!(
            "{MINIMAL}[access]\ndefault = 'deny'\n\
             [[access.rules]]\naction = 'allow'\nsources = ['10.9.0.2/32']\ntraffic = 'tcp'\nports = ['22', '8000-8100']\n\
             [[access.rules]]\naction = 'allow'\ntraffic = 'icmp'\n"
        ));
        let access = read(&path).unwrap().interface.access.unwrap();
        assert_eq!(access.default, Action::Deny);
        assert_eq!(access.rules[0].traffic, Traffic::Ports { protocol: 6, ports: vec![22..=22, 8000..=8100] });
        assert_eq!(access.rules[0].sources, ["10.9.0.2/32".parse().unwrap()]);
        assert_eq!(access.rules[1].traffic, Traffic::Protocol(1));
        assert_eq!(access.rules[1].sources.len(), 2, "everyone, by either protocol");
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        let unknown = refusal(&format!("{MINIMAL}mut = 1420\n"));
        assert!(unknown.contains("line 3") && unknown.contains("`mut`"), "{unknown}");
        let address = refusal("private_key_file = 'private.key'\naddress = '10.9.0.1/99'\n");
        assert!(address.contains("line 2"), "{address}");
        let key = refusal(&format!("{MINIMAL}[[peers]]\npublic_key = 'short'\nallowed_ips = []\n"));
        assert!(key.contains("line 4") && key.contains("44 characters"), "{key}");
        let ports = refusal(&format!(
            "{MINIMAL}[access]\ndefault = 'deny'\n[[access.rules]]\naction = 'allow'\nports = ['9-8']\n"
        ));
        assert!(ports.contains("line 7") && ports.contains("8000-8100"), "{ports}");
        let mtu = refusal(&format!("{MINIMAL}mtu = 100\n"));
        assert!(mtu.contains("line 3") && mtu.contains("between 576"), "{mtu}");
    }

    #[test]
    fn a_missing_key_file_is_named() {
        let missing = refusal("private_key_file = 'absent.key'\naddress = '10.9.0.1/24'\n");
        assert!(missing.contains("absent.key"), "{missing}");
    }
}
