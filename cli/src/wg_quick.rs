//! The file that `wg-quick` reads (wg-quick(8), wg(8)).

use std::fmt;

use cladnet_proto::cladnet::v1::{Peer, PlainPeerRemote};
use zeroize::Zeroizing;

use crate::output::one_line;

/// What WireGuard leaves of 1,500 bytes, over IPv6 as well.
const MTU: u16 = 1420;
/// Below the shortest time after which NATs forget a UDP mapping (wg(8)).
const PERSISTENT_KEEPALIVE_SECONDS: u16 = 25;

/// The private key of the machine.
pub(crate) enum OwnKey {
    /// Made here, base64.
    Made(Zeroizing<String>),
    /// Made on the machine; this is its public half.
    KeptElsewhere(String),
}

/// One machine's view of a network; its `Display` is the file.
pub(crate) struct Tunnel<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) network: &'a str,
    pub(crate) address_space: &'a str,
    pub(crate) own: OwnKey,
    pub(crate) remotes: &'a [PlainPeerRemote],
}

impl fmt::Display for Tunnel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, network) = (one_line(&self.peer.host_name), self.network);
        writeln!(f, "# {name} in cladnet network {network} ({})", self.address_space)?;
        writeln!(
            f,
            "# A snapshot: machines that join, move or leave later are not in it. Renew it, and keep the PrivateKey, with:"
        )?;
        let (name, key) = (name.replace('\'', r"'\''"), &self.peer.public_key);
        writeln!(f, "# cladnet peer export {network} '{name}' --public-key {key}")?;
        writeln!(f, "[Interface]")?;
        match &self.own {
            OwnKey::Made(key) => writeln!(f, "PrivateKey = {}", key.as_str())?,
            OwnKey::KeptElsewhere(public) => {
                writeln!(f, "# Put the private key here whose public half is {public}:\n# PrivateKey =")?;
            }
        }
        writeln!(f, "Address = {}/32\nMTU = {MTU}", self.peer.ipv4_address)?;
        self.remotes.iter().try_for_each(|remote| write_remote(f, remote))
    }
}

fn write_remote(f: &mut fmt::Formatter<'_>, remote: &PlainPeerRemote) -> fmt::Result {
    writeln!(f, "\n# {}\n[Peer]", one_line(&remote.host_name))?;
    writeln!(f, "PublicKey = {}\nAllowedIPs = {}", remote.public_key, remote.allowed_ips.join(", "))?;
    if !remote.endpoint.is_empty() {
        writeln!(f, "Endpoint = {}\nPersistentKeepalive = {PERSISTENT_KEEPALIVE_SECONDS}", remote.endpoint)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer {
            host_name: "laptop".into(),
            ipv4_address: "172.20.0.5".into(),
            public_key: "public=".into(),
            ..Peer::default()
        }
    }

    #[test]
    fn the_file_has_the_key_the_address_and_every_remote() {
        let remote = |name: &str, endpoint: &str| PlainPeerRemote {
            host_name: name.into(),
            public_key: "remote=".into(),
            allowed_ips: vec!["172.20.0.1/32".into()],
            endpoint: endpoint.into(),
        };
        let remotes = [remote("vm-a", "203.0.113.1:8055"), remote("nat\n[Peer]", "")];
        let own = OwnKey::Made(Zeroizing::new("secret=".into()));
        let tunnel = Tunnel { peer: &peer(), network: "prod", address_space: "172.20.0.0/24", own, remotes: &remotes };
        let expected = "\
# laptop in cladnet network prod (172.20.0.0/24)
# A snapshot: machines that join, move or leave later are not in it. Renew it, and keep the PrivateKey, with:
# cladnet peer export prod 'laptop' --public-key public=
[Interface]
PrivateKey = secret=
Address = 172.20.0.5/32
MTU = 1420

# vm-a
[Peer]
PublicKey = remote=
AllowedIPs = 172.20.0.1/32
Endpoint = 203.0.113.1:8055
PersistentKeepalive = 25

# nat\\n[Peer]
[Peer]
PublicKey = remote=
AllowedIPs = 172.20.0.1/32
";
        assert_eq!(tunnel.to_string(), expected);
    }

    #[test]
    fn a_key_that_stays_on_the_machine_leaves_a_place_for_it() {
        let own = OwnKey::KeptElsewhere("public=".into());
        let tunnel = Tunnel { peer: &peer(), network: "prod", address_space: "172.20.0.0/24", own, remotes: &[] };
        assert!(tunnel.to_string().contains("whose public half is public=:\n# PrivateKey =\n"));
    }
}
