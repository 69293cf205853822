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

/// Hears of every change from its making on.
pub struct Monitor {
    changes: BoxStream<'static, ()>,
    /// A burst has begun and nobody was told yet.
    unsettled: bool,
}

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
        Self::of(&groups)
    }

    /// One that hears of links only.
    pub fn of_links() -> Result<Self, NetlinkError> {
        Self::of(&[MulticastGroup::Link])
    }

    fn of(groups: &[MulticastGroup]) -> Result<Self, NetlinkError> {
        let (connection, _, messages) = new_multicast_connection(groups).map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        let changes = messages.filter_map(async |(message, _)| is_change(&message.payload).then_some(())).boxed();
        Ok(Self { changes, unsettled: false })
    }

    /// Waits for a change. False when the kernel closed the connection.
    pub async fn changed(&mut self) -> bool {
        self.changes.next().await.is_some()
    }

    /// Waits for a change and then for a moment of quiet: one address moving is several messages. False when the kernel
    /// closed the connection. A wait that is dropped loses nothing.
    pub async fn settled(&mut self) -> bool {
        if !self.unsettled && self.changes.next().await.is_none() {
            return false;
        }
        self.unsettled = true;
        let deadline = Instant::now() + MAX_BURST;
        while let Ok(Some(())) = timeout_at(deadline.min(Instant::now() + QUIET), self.changes.next()).await {}
        self.unsettled = false;
        true
    }
}

fn is_change(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(message) => matches!(
            message,
            RouteNetlinkMessage::NewLink(_)
                | RouteNetlinkMessage::DelLink(_)
                | RouteNetlinkMessage::NewAddress(_)
                | RouteNetlinkMessage::DelAddress(_)
                | RouteNetlinkMessage::NewRoute(_)
                | RouteNetlinkMessage::DelRoute(_)
        ),
        // Messages were lost: any of these may have been among them.
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}
