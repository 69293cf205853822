//! What this host knows of itself: name, addresses and routes from the kernel, the cloud from its metadata service and
//! the operator's file, the public address from outside. Everything is looked at again and again; nothing waits for any
//! of it.

pub(crate) mod endpoints;
pub(crate) mod location_file;
pub(crate) mod machine;
pub(crate) mod metadata;
mod observer;
mod pause;
mod survey;

use std::{collections::BTreeSet, net::SocketAddr};

use cladnet_model::{CloudLocation, HostFacts};

pub(crate) use observer::{Observer, Trigger};
pub(crate) use survey::{Nat, Observed};

use crate::netlink::DefaultInterface;

/// A look at the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Facts {
    /// What the service is told.
    pub host: HostFacts,
    /// Port of the tunnel.
    pub port: u16,
    /// The interface of the default route; none while the host has no way out.
    pub underlay: Option<DefaultInterface>,
    /// Addresses seen from outside.
    pub observed: Observed,
    /// What the names of the services stand for.
    pub services: BTreeSet<SocketAddr>,
    /// Whether the metadata service answered, and who it is.
    pub metadata: metadata::Answer,
    /// What the operator's file says.
    pub operator: CloudLocation,
    /// What of the host could not be read.
    pub problems: Vec<String>,
}

impl Facts {
    /// Whether a NAT stands between us and the world, as far as is known.
    pub(crate) fn nat(&self) -> Nat {
        let local: Vec<_> = self.underlay.iter().flat_map(|u| &u.addresses).map(ipnet::IpNet::addr).collect();
        self.observed.nat(&local, self.port)
    }
}
