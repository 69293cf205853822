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
    let cladnet_tunnel::Tally { packets, bytes, datagrams, wire_bytes } = counted;
    sum.packets += packets;
    sum.bytes += bytes;
    sum.datagrams += datagrams;
    sum.wire_bytes += wire_bytes;
}

fn told(scope: cladnet_tunnel::Scope) -> Scope {
    match scope {
        cladnet_tunnel::Scope::Private => Scope::Private,
        cladnet_tunnel::Scope::Public => Scope::Public,
        cladnet_tunnel::Scope::PublicV6 => Scope::PublicV6,
    }
}
