//! Setting up an interface of ours: address, MTU, up; and taking it away.

use ipnet::IpNet;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use tracing::debug;

use super::{InterfaceAddress, Netlink, NetlinkError, errno, failed};

/// With its terminator, what the kernel has room for (`IFNAMSIZ`).
const MAX_NAME: usize = 15;
/// What [`is_interface_name`] asks for.
pub(crate) const INTERFACE_NAME: &str =
    "a name of an interface has 1 to 15 characters, none of '/', '%', ':' and space";

/// Whether the kernel takes it for a name, and as it stands: `%` would be a pattern.
pub(crate) fn is_interface_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%' | b':');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_allowed) && !matches!(name, "." | "..")
}

impl Netlink {
    /// Gives an interface this address and no other of the same family, this MTU, and brings it up. The kernel adds the
    /// connected route. Safe to repeat.
    pub async fn configure(&self, name: &str, address: IpNet, mtu: u16) -> Result<(), NetlinkError> {
        let link = self.link(name).await?.ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))?;
        self.add_address(name, link.index, address).await?;
        self.remove_other_addresses(name, link.index, address).await?;
        self.forgo_link_local(link.index).await;
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).mtu(mtu.into()).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| failed(format!("bring up the interface {name} with MTU {mtu}"), &error))
    }

    /// Makes an interface ready for whoever gives it addresses and brings it up.
    pub async fn prepare(&self, index: u32, mtu: u16) -> Result<(), NetlinkError> {
        self.forgo_link_local(index).await;
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(mtu.into()).build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| failed(format!("give the interface an MTU of {mtu}"), &error))
    }

    /// Bounds how many packets the kernel makes one super-packet of. A kernel that cannot be told (before 4.16) goes on
    /// with its own bound.
    pub async fn limit_segments(&self, name: &str, count: usize) -> Result<(), NetlinkError> {
        let link = self.link(name).await?.ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))?;
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(link.index)
            .append_extra_attribute(LinkAttribute::GsoMaxSegs(count as u32))
            .build();
        if let Err(error) = self.handle.link().set(message).execute().await {
            debug!(name, %error, "super-packets not bounded");
        }
        Ok(())
    }

    /// Whether an interface is as [`Netlink::configure`] leaves it; false if there is none.
    pub async fn is_configured(&self, name: &str, address: IpNet, mtu: u16) -> Result<bool, NetlinkError> {
        let Some(link) = self.link(name).await? else { return Ok(false) };
        let addresses = self.addresses().await?;
        let has_address = addresses.iter().any(|found| found.interface == link.index && found.address == address);
        Ok(link.up && link.mtu == u32::from(mtu) && has_address)
    }

    /// Deletes an interface; content if there is none.
    pub async fn remove(&self, name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if errno(&error) != Some(libc::ENODEV) => {
                Err(failed(format!("delete the interface {name}"), &error))
            }
            _ => Ok(()),
        }
    }

    /// A tunnel has no neighbours: without a link-local address the kernel does not look for any. A kernel without IPv6
    /// refuses this, and needs it not.
    async fn forgo_link_local(&self, index: u32) {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![none]))
            .build();
        if let Err(error) = self.handle.link().set(message).execute().await {
            debug!(index, %error, "link-local addresses not turned off");
        }
    }

    async fn add_address(&self, name: &str, index: u32, address: IpNet) -> Result<(), NetlinkError> {
        let add = self.handle.address().add(index, address.addr(), address.prefix_len()).execute().await;
        match add {
            Err(error) if errno(&error) != Some(libc::EEXIST) => {
                Err(failed(format!("add the address {address} to {name}"), &error))
            }
            _ => Ok(()),
        }
    }

    async fn remove_other_addresses(&self, name: &str, index: u32, keep: IpNet) -> Result<(), NetlinkError> {
        for message in self.address_messages().await? {
            let Some(found) = InterfaceAddress::of(&message) else { continue };
            let is_ours = found.interface == index && found.is_global;
            let same_family = found.address.addr().is_ipv4() == keep.addr().is_ipv4();
            if !is_ours || !same_family || found.address == keep {
                continue;
            }
            let deleted = self.handle.address().del(message).execute().await;
            deleted.map_err(|error| failed(format!("remove the address {} from {name}", found.address), &error))?;
        }
        Ok(())
    }
}
