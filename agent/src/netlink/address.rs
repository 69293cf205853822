//! Addresses of interfaces.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};

use super::{Netlink, NetlinkError, failed};

/// An address of an interface, with the prefix length of its subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    pub interface: u32,
    pub address: IpNet,
    /// Neither link-local nor host-local.
    pub is_global: bool,
}

impl Netlink {
    pub async fn addresses(&self) -> Result<Vec<InterfaceAddress>, NetlinkError> {
        let messages = self.address_messages().await?;
        Ok(messages.iter().filter_map(InterfaceAddress::of).collect())
    }

    pub(super) async fn address_messages(&self) -> Result<Vec<AddressMessage>, NetlinkError> {
        let _one_at_a_time = self.listing.lock().await;
        let addresses = self.handle.address().get().execute();
        addresses.try_collect().await.map_err(|error| failed("list addresses", &error))
    }
}

impl InterfaceAddress {
    pub(super) fn of(message: &AddressMessage) -> Option<Self> {
        Some(Self {
            interface: message.header.index,
            address: IpNet::new(local_address(message)?, message.header.prefix_len).ok()?,
            is_global: message.header.scope == AddressScope::Universe,
        })
    }
}

/// `IFA_LOCAL` is the own address where `IFA_ADDRESS` is the other end of a point-to-point link (rtnetlink(7)).
fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let pick = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    pick(true).or_else(|| pick(false))
}
