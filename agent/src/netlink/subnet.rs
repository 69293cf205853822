//! Routes to subnets behind peers. They bear a protocol number and a metric of ours: by these they are told from
//! everybody else's, and only such are ever removed.

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};

use super::{Link, Netlink, NetlinkError, errno, failed, mtu::route};

/// `proto 85` in what `ip route` prints; rtnetlink(7) leaves the numbers that `/etc/iproute2/rt_protos` does not name to
/// whoever wants one.
pub const PROTOCOL: u8 = 85;
/// Behind any route that somebody made by hand: nothing is taken from it.
pub const METRIC: u32 = 8055;

impl Netlink {
    /// Routes a subnet through an interface, with an MTU of its own. Safe to repeat.
    pub async fn add_subnet(&self, name: &str, subnet: IpNet, mtu: u16) -> Result<(), NetlinkError> {
        let link = self.existing(name).await?;
        let added = self.handle.route().add(ours(&link, subnet, Some(mtu))).replace().execute().await;
        added.map_err(|error| failed(format!("add a route to {subnet} through {name}"), &error))
    }

    /// Takes such a route away; content if there is none.
    pub async fn remove_subnet(&self, name: &str, subnet: IpNet) -> Result<(), NetlinkError> {
        let Some(link) = self.link(name).await? else { return Ok(()) };
        match self.handle.route().del(ours(&link, subnet, None)).execute().await {
            Err(error) if errno(&error) != Some(libc::ESRCH) => {
                Err(failed(format!("remove the route to {subnet} through {name}"), &error))
            }
            _ => Ok(()),
        }
    }
}

fn ours(link: &Link, subnet: IpNet, mtu: Option<u16>) -> RouteMessage {
    let mut route = route(link, subnet, mtu);
    route.header.protocol = RouteProtocol::from(PROTOCOL);
    route.attributes.push(RouteAttribute::Priority(METRIC));
    route
}
