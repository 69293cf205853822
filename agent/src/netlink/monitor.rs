//! Notices that links, addresses or routes of the host changed. What they changed to is asked anew: messages can be
//! lost.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use tokio::time::{Instant, timeout_at};

use super::NetlinkError;

/// No message for this long ends a burst of them.
const QUIET: Duration = Duration::from_millis(50);
/// A host that never rests is looked at this often.
const MAX_BURST: Duration = Duration::from_millis(500);

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

    /// Waits for a change and then for a moment of quiet: one address moving is several messages. False when the kernel
    /// closed the connection.
    pub async fn settled(&mut self) -> bool {
        if self.next().await.is_none() {
            return false;
        }
        let deadline = Instant::now() + MAX_BURST;
        while let Ok(Some(_)) = timeout_at(deadline.min(Instant::now() + QUIET), self.next()).await {}
        true
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
