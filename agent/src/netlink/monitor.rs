//! Notices that links, addresses or routes of the host changed. What they changed to is asked anew: messages can be lost.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use super::NetlinkError;

/// What kind of thing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Link,
    Address,
    Route,
}

/// A stream of changes, from its making on.
pub struct Monitor(BoxStream<'static, Change>);

impl Monitor {
    /// To be called inside a tokio runtime, in the network namespace it is about.
    pub fn open() -> Result<Self, NetlinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, _, messages) = new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self(messages.filter_map(async |(message, _)| change(&message.payload)).boxed()))
    }

    /// Waits for the next change; none when the kernel closed the connection.
    pub async fn next(&mut self) -> Option<Change> {
        self.0.next().await
    }
}

fn change(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(message) = payload else { return None };
    match message {
        RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => Some(Change::Link),
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Some(Change::Address),
        RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => Some(Change::Route),
        _ => None,
    }
}
