//! What packets wait in before they reach an interface's own queues.

use futures_util::StreamExt;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use tracing::debug;

use super::{Netlink, NetlinkError, failed};

impl Netlink {
    /// Has packets go to the queues of an interface at once, as they do in the end: a TUN device takes all it is given.
    /// What the kernel would put before them costs 3.5 MB for each device of many queues. To be called before the
    /// interface is up; a kernel that cannot do this spends them.
    pub async fn forgo_queueing(&self, name: &str) -> Result<(), NetlinkError> {
        let link = self.link(name).await?.ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))?;
        let mut message = TcMessage::with_index(link.index.cast_signed());
        message.header.parent = TcHandle::ROOT;
        message.attributes.push(TcAttribute::Kind("noqueue".to_owned()));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut answers = self
            .handle
            .clone()
            .request(request)
            .map_err(|error| failed(format!("set the queueing of {name}"), &error))?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                debug!(name, error = %error.to_io(), "queueing discipline not taken away");
            }
        }
        Ok(())
    }
}
