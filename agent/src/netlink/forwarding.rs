//! IPv4 forwarding of single interfaces, which is `net.ipv4.conf.NAME.forwarding`. Over netlink: that works as well where
//! `/proc/sys` may only be read.

use std::{fs, io};

use rtnetlink::packet_core::{DefaultNla, Emitable as _, NLA_F_NESTED};
use rtnetlink::packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Netlink, NetlinkError, failed};

/// `linux/if_link.h`.
const IFLA_INET_CONF: u16 = 1;
/// `linux/ip.h`.
const IPV4_DEVCONF_FORWARDING: u16 = 1;

/// What an interface does with what arrives there for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    Off,
    On,
}

impl Netlink {
    /// Has an interface forward what arrives there for others, or drop it.
    pub async fn set_forwarding(&self, name: &str, forwarding: Forwarding) -> Result<(), NetlinkError> {
        let link = self.existing(name).await?;
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(link.index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![request(forwarding)])]))
            .build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| failed(format!("turn IPv4 forwarding {forwarding:?} for the interface {name}"), &error))
    }
}

/// Whether the host as a whole forwards IPv4 packets: somebody said so for every interface.
pub fn host_forwards() -> io::Result<bool> {
    fs::read_to_string("/proc/sys/net/ipv4/ip_forward").map(|text| text.trim() != "0")
}

/// Made by hand because [`AfSpecInet::DevConfRequest`] leaves out what is 0.
fn request(forwarding: Forwarding) -> AfSpecInet {
    let setting = vec![DefaultNla::new(IPV4_DEVCONF_FORWARDING, (forwarding as u32).to_ne_bytes().to_vec())];
    let mut bytes = vec![0; setting.as_slice().buffer_len()];
    setting.as_slice().emit(&mut bytes);
    AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, bytes))
}

/// Whether packets that arrive at an interface for others are forwarded.
pub(super) fn is_on(message: &LinkMessage) -> bool {
    let families = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(families) => Some(families),
        _ => None,
    });
    let ipv4 = families.flatten().filter_map(|family| match family {
        AfSpecUnspec::Inet(settings) => Some(settings),
        _ => None,
    });
    ipv4.flatten().any(|settings| matches!(settings, AfSpecInet::DevConf(settings) if settings.forwarding != 0))
}
