//! The way to the service behind, and how much of it each client may take. Everybody's requests go over the same few
//! connections, so none of them may hold what others need: not their streams, by what a client has in flight, nor their
//! flow control, by windows that all streams together cannot fill.

use std::{net::IpAddr, sync::Arc};

use cladnet_pki::channel::{self, ServiceUrl};
use http::StatusCode;
use ipnet::IpNet;
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::Channel;

use crate::{
    rest::problem::Problem,
    shares::{Share, Shares},
};

/// Connections to the service, opened as they are needed. Together they carry some two thousand requests at a time, which are
/// nine hundred windows of the page with two streams each.
const LANES: usize = 8;
/// Requests of one connection at a time: fewer than a service takes, so that none waits inside for another one to end.
const LANE: usize = 240;
/// Requests in flight of one address, or of one /64: a browser has one or two for every window and a few more while it
/// loads; behind one NAT there may be twenty.
const OF_ADDRESS: usize = 64;
/// Those of one /24, or of one /48: less than a tenth of all.
const OF_NETWORK: usize = 128;

/// The service behind; reconnects by itself.
#[derive(Clone)]
pub(super) struct Upstream {
    lanes: Arc<[Lane]>,
    addresses: Shares<IpNet>,
    networks: Shares<IpNet>,
}

struct Lane {
    channel: Channel,
    free: Arc<Semaphore>,
}

/// The right to one request in flight; ends when this is dropped.
pub(super) struct Pass {
    _of_address: Share<IpNet>,
    _of_network: Share<IpNet>,
    _lane: OwnedSemaphorePermit,
}

impl Upstream {
    /// To whichever of `services` answers first; none of them need be there yet.
    pub(super) fn new(services: &[ServiceUrl], tls: &ClientConfig) -> Self {
        let lane = || Lane {
            channel: channel::connect_lazy_for_many(services, tls.clone(), LANE as u32),
            free: Arc::new(Semaphore::new(LANE)),
        };
        Self {
            lanes: (0..LANES).map(|_| lane()).collect(),
            addresses: Shares::new(OF_ADDRESS),
            networks: Shares::new(OF_NETWORK),
        }
    }

    /// Lets one more request of a client through, over the connection that has most room.
    pub(super) fn enter(&self, from: IpAddr) -> Result<(Channel, Pass), Problem> {
        let too_many = || {
            let detail = "too many requests from your network are in flight; wait until some of them have ended";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
        };
        let of_address = self.addresses.take(around(from, 32, 64)).ok_or_else(too_many)?;
        let of_network = self.networks.take(around(from, 24, 48)).ok_or_else(too_many)?;
        let full = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are in flight; wait a moment");
        let lane = self.lanes.iter().rev().max_by_key(|lane| lane.free.available_permits()).ok_or_else(full)?;
        let in_lane = lane.free.clone().try_acquire_owned().map_err(|_| full())?;
        Ok((lane.channel.clone(), Pass { _of_address: of_address, _of_network: of_network, _lane: in_lane }))
    }
}

/// The network around an address, by the length of its prefix.
fn around(address: IpAddr, ipv4: u8, ipv6: u8) -> IpNet {
    let address = address.to_canonical();
    let length = if address.is_ipv4() { ipv4 } else { ipv6 };
    IpNet::new_assert(address, length).trunc()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        let authority = cladnet_pki::Authority::create(jiff::Timestamp::now()).expect("an authority");
        let tls = cladnet_pki::client_config(authority.certificate_pem(), None).expect("a configuration");
        Upstream::new(&["https://192.0.2.1".parse().expect("a URL")], &tls)
    }

    fn enter(upstream: &Upstream, from: &str) -> Result<Pass, StatusCode> {
        let entered = upstream.enter(from.parse().expect("an address"));
        entered.map(|(_, pass)| pass).map_err(|problem| problem.status)
    }

    #[tokio::test]
    async fn an_address_and_a_network_have_their_share_and_give_it_back() {
        for (greedy, itself, neighbour, last, other) in [
            ("198.51.100.1", "::ffff:198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.101.1"),
            ("2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:1::1"),
        ] {
            let upstream = upstream();
            let mut held: Vec<_> = (0..OF_ADDRESS).map(|_| enter(&upstream, greedy).expect("a share")).collect();
            assert_eq!(enter(&upstream, itself).err(), Some(StatusCode::TOO_MANY_REQUESTS));
            held.extend((OF_ADDRESS..OF_NETWORK).map(|_| enter(&upstream, neighbour).expect("a share")));
            assert_eq!(enter(&upstream, last).err(), Some(StatusCode::TOO_MANY_REQUESTS), "it is the same network");
            assert!(enter(&upstream, other).is_ok());
            drop(held);
            assert!(enter(&upstream, last).is_ok());
        }
    }

    #[tokio::test]
    async fn whoever_comes_goes_over_the_connection_with_most_room() {
        let upstream = upstream();
        let held: Vec<_> =
            (0..4 * LANES).map(|number| enter(&upstream, &format!("198.51.{number}.1")).expect("a share")).collect();
        assert!(upstream.lanes.iter().all(|lane| lane.free.available_permits() == LANE - 4));
        drop(held);
        assert!(upstream.lanes.iter().all(|lane| lane.free.available_permits() == LANE));
    }
}
