//! The kernel's links, addresses and routes, over rtnetlink; no `ip` command, no list of interface names.

use std::{io, pin::pin, sync::Arc};

use futures_util::{Stream, TryStreamExt};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, new_connection};
use tokio::sync::Mutex;

mod address;
mod default_interface;
mod forwarding;
mod interface;
mod monitor;
mod mtu;
mod queueing;
mod route;
mod subnet;

pub use address::InterfaceAddress;
pub use default_interface::DefaultInterface;
pub use forwarding::{Forwarding, host_forwards};
pub(crate) use interface::{INTERFACE_NAME, is_interface_name};
pub use monitor::Monitor;
pub use route::{Route, conflicting_route};
pub use subnet::{METRIC as SUBNET_METRIC, PROTOCOL as SUBNET_PROTOCOL};

#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    #[error("cannot {operation}")]
    Request { operation: String, source: io::Error },
    #[error("no privilege to {operation}: run as root or with CAP_NET_ADMIN")]
    NoPrivilege { operation: String },
    #[error("no interface {0}")]
    NoInterface(String),
}

/// A connection to the kernel; clones share it.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
    /// Held while a list is read: the kernel refuses a second one on the same socket (`EBUSY`).
    listing: Arc<Mutex<()>>,
}

/// A network interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub up: bool,
    /// Whether IPv4 packets that arrive there for others are forwarded.
    pub forwards: bool,
}

impl Netlink {
    /// To be called inside a tokio runtime, which drives the connection, in the network namespace it is about.
    pub fn connect() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = new_connection().map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle, listing: Arc::default() })
    }

    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let _one_at_a_time = self.listing.lock().await;
        let links = self.handle.link().get().execute();
        links.map_ok(Link::from).try_collect().await.map_err(|error| failed("list interfaces", &error))
    }

    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let found = self.handle.link().get().match_name(name.to_owned()).execute();
        first(found).await.map_err(|error| failed(format!("look up the interface {name}"), &error))
    }

    pub async fn link_at(&self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let found = self.handle.link().get().match_index(index).execute();
        first(found).await.map_err(|error| failed(format!("look up the interface number {index}"), &error))
    }
}

async fn first(
    links: impl Stream<Item = Result<LinkMessage, rtnetlink::Error>>,
) -> Result<Option<Link>, rtnetlink::Error> {
    match pin!(links).try_next().await {
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
        found => Ok(found?.map(Link::from)),
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            forwards: forwarding::is_on(&message),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                _ => {}
            }
        }
        link
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}

fn failed(operation: impl Into<String>, error: &rtnetlink::Error) -> NetlinkError {
    let operation = operation.into();
    match errno(error) {
        Some(libc::EPERM | libc::EACCES) => NetlinkError::NoPrivilege { operation },
        Some(code) => NetlinkError::Request { operation, source: io::Error::from_raw_os_error(code) },
        None => NetlinkError::Request { operation, source: io::Error::other(error.clone()) },
    }
}
