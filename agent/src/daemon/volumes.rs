//! What the data plane counted by the kind of path, as it is told.

use cladnet_model::Scope;
use cladnet_tunnel::PeerStats;

use crate::control::protocol::{Tally, Volume, Volumes};

/// Of some peers together.
pub(super) fn volumes<'a>(stats: impl IntoIterator<Item = &'a PeerStats>) -> Volumes {
    let mut volumes = Volumes::new();
    for stats in stats {
        for (scope, counted) in cladnet_tunnel::Scope::ALL.into_iter().zip(&stats.volumes) {
            let Volume { sent, received } = volumes.entry(told(scope)).or_default();
            add(sent, counted.sent);
            add(received, counted.received);
        }
    }
    volumes
}

fn add(sum: &mut Tally, counted: cladnet_tunnel::Tally) {
    let cladnet_tunnel::Tally { packets, bytes, clear_bytes, datagrams, wire_bytes } = counted;
    sum.packets += packets;
    sum.bytes += bytes;
    sum.clear_bytes += clear_bytes;
    sum.datagrams += datagrams;
    sum.wire_bytes += wire_bytes;
}

pub(super) fn told(scope: cladnet_tunnel::Scope) -> Scope {
    match scope {
        cladnet_tunnel::Scope::Private => Scope::Private,
        cladnet_tunnel::Scope::Public => Scope::Public,
        cladnet_tunnel::Scope::PublicV6 => Scope::PublicV6,
    }
}

#[cfg(test)]
mod tests {
    use cladnet_tunnel::{PrivateKey, Transport};

    use super::*;

    fn peer(public: u64) -> PeerStats {
        let tally = |by: u64| cladnet_tunnel::Tally {
            packets: by,
            bytes: 100 * by,
            clear_bytes: 50 * by,
            datagrams: 2 * by,
            wire_bytes: 200 * by,
        };
        let volume = |by: u64| cladnet_tunnel::Volume { sent: tally(by), received: tally(10 * by) };
        PeerStats {
            public_key: PrivateKey::generate(&mut rand::rng()).public_key(),
            number: 1,
            endpoint: None,
            last_handshake: None,
            tx_bytes: 0,
            rx_bytes: 0,
            volumes: [volume(0), volume(public), volume(0)],
            transport: Transport::Clear,
            mtu: 1420,
        }
    }

    #[test]
    fn programs_are_told_every_kind_of_path_with_the_sum_of_all_peers() {
        let told = serde_json::to_value(volumes(&[peer(1), peer(2)])).unwrap();
        let kinds: Vec<_> = told.as_object().unwrap().keys().collect();
        assert_eq!(kinds, ["private", "public", "public-v6"]);
        let sent =
            serde_json::json!({ "packets": 3, "bytes": 300, "clear_bytes": 150, "datagrams": 6, "wire_bytes": 600 });
        assert_eq!((&told["public"]["sent"], &told["public"]["received"]["packets"]), (&sent, &30.into()));
        assert_eq!(told["private"]["sent"]["datagrams"], 0);
    }
}
