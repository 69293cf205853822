//! IPv4 forwarding of single interfaces, which is `net.ipv4.conf.NAME.forwarding`. Over netlink: that works as well where
//! `/proc/sys` may only be read.

use rtnetlink::packet_route::link::{AfSpecInet, AfSpecUnspec, InetDevConf, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::{Netlink, NetlinkError, failed};

impl Netlink {
    /// Has an interface forward what arrives there for others.
    pub async fn set_forwarding(&self, name: &str) -> Result<(), NetlinkError> {
        let link = self.existing(name).await?;
        // What is left at 0 is not sent.
        let mut settings = InetDevConf::default();
        settings.forwarding = 1;
        let settings = vec![AfSpecInet::DevConfRequest(settings)];
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(link.index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(settings)]))
            .build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| failed(format!("turn IPv4 forwarding on for the interface {name}"), &error))
    }
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
