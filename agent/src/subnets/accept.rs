//! Which subnets behind peers this host uses. None takes addresses that somebody else has: a route of the host, the
//! address space of a network, a subnet that came before, an endpoint that the tunnel's own packets go to, the service. What
//! is left out is told with the holder named; the others work.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use cladnet_model::{HostId, NetworkId};
use ipnet::{IpNet, Ipv4Net};

use super::Subnet;
use crate::netlink::Route;

/// Subnets of one peer that are looked at. The service allows fewer; a hostile one must not fill the kernel's tables.
const MAX_PER_PEER: usize = 64;
/// Of all peers of all networks.
const MAX: usize = 1_024;

/// A network that is up here, or is to be.
#[derive(Debug)]
pub(crate) struct Network<'a> {
    pub id: &'a NetworkId,
    pub space: Ipv4Net,
    /// What the others reach through this host.
    pub own: &'a [Subnet],
    /// Those that are up, in the order of host ids.
    pub peers: Vec<Peer<'a>>,
}

#[derive(Debug)]
pub(crate) struct Peer<'a> {
    pub host: &'a HostId,
    pub name: &'a str,
    pub subnets: &'a [Subnet],
    pub is_in_our_vpc: bool,
    /// Where the tunnel's packets to it may go: its public addresses, and inside our VPC its private ones.
    pub endpoints: Vec<SocketAddr>,
}

/// What of one network is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub by_host: BTreeMap<HostId, Vec<IpNet>>,
    /// What is left out and why, by prefix.
    pub problems: BTreeMap<Ipv4Net, String>,
}

/// Addresses that somebody has.
struct Claim {
    prefix: IpNet,
    holder: String,
}

/// Decides over all networks at once, earlier ones first. `routes` are the host's that lead elsewhere than into an
/// interface of ours, `services` the addresses of those that it hears what to do from.
pub(crate) fn accept(
    routes: &[Route],
    services: &BTreeSet<IpAddr>,
    networks: &[Network<'_>],
) -> BTreeMap<NetworkId, Accepted> {
    let mut claims = claims(routes, services, networks);
    let mut left = MAX;
    let mut all = BTreeMap::new();
    for network in networks {
        let accepted: &mut Accepted = all.entry(network.id.clone()).or_default();
        for peer in &network.peers {
            for (number, subnet) in peer.subnets.iter().enumerate() {
                let prefix = IpNet::V4(subnet.prefix);
                let holder = match () {
                    () if number >= MAX_PER_PEER || left == 0 => {
                        Some(format!("at most {MAX_PER_PEER} subnets of a peer, and {MAX} of all, are used"))
                    }
                    () if is_direct(prefix, peer, networks, routes) => continue,
                    () => claims
                        .iter()
                        .find(|claim| overlap(claim.prefix, prefix))
                        .map(|claim| format!("it overlaps {}", claim.holder))
                        .or_else(|| endpoint_inside(prefix, networks)),
                };
                let who = format!("{} of network {}", named(peer), network.id);
                match holder {
                    Some(holder) => {
                        let problem = format!("subnet {prefix} behind {who} is left out: {holder}");
                        accepted.problems.insert(subnet.prefix, problem);
                    }
                    None => {
                        left -= 1;
                        claims.push(Claim { prefix, holder: format!("{prefix} behind {who}") });
                        accepted.by_host.entry(peer.host.clone()).or_default().push(prefix);
                    }
                }
            }
        }
    }
    all
}

/// What is taken before any peer's subnet is looked at.
fn claims(routes: &[Route], services: &BTreeSet<IpAddr>, networks: &[Network<'_>]) -> Vec<Claim> {
    let of_host = routes
        .iter()
        .filter(|route| !route.is_default())
        .map(|route| Claim { prefix: route.destination, holder: format!("this host's own route {route}") });
    // A host that reached its service through the tunnel only would never hear that a tunnel is to change.
    let services = services.iter().map(|address| Claim {
        prefix: IpNet::from(*address),
        holder: format!("{address}, where this host's service is"),
    });
    let spaces = networks.iter().map(|network| Claim {
        prefix: network.space.into(),
        holder: format!("the address space {} of network {}", network.space, network.id),
    });
    let own: BTreeSet<Ipv4Net> =
        networks.iter().flat_map(|network| network.own).flat_map(|subnet| [subnet.prefix, subnet.real]).collect();
    let own = own.into_iter().map(|prefix| Claim {
        prefix: prefix.into(),
        holder: format!("{prefix}, which others reach through this host"),
    });
    of_host.chain(services).chain(spaces).chain(own).collect()
}

/// Whether this host reaches a subnet, or a part of it, in the VPC that it shares with the peer before it: there is
/// nothing to be told then.
fn is_direct(prefix: IpNet, peer: &Peer<'_>, networks: &[Network<'_>], routes: &[Route]) -> bool {
    let neighbours = || networks.iter().flat_map(|network| &network.peers).filter(|peer| peer.is_in_our_vpc);
    let leads_there = |route: &Route| !route.is_default() && route.interface.is_some();
    let has_own = || routes.iter().any(|route| leads_there(route) && overlap(route.destination, prefix));
    let has_neighbour = || neighbours().any(|peer| peer.endpoints.iter().any(|at| is_private_in(prefix, at.ip())));
    peer.is_in_our_vpc && (has_own() || has_neighbour())
}

fn is_private_in(prefix: IpNet, address: IpAddr) -> bool {
    prefix.contains(&address) && matches!(address, IpAddr::V4(address) if address.is_private())
}

/// An endpoint that the tunnel's packets would not reach any more: they would travel through the tunnel.
fn endpoint_inside(prefix: IpNet, networks: &[Network<'_>]) -> Option<String> {
    let peers = networks.iter().flat_map(|network| &network.peers);
    let mut endpoints = peers.flat_map(|peer| peer.endpoints.iter().map(move |endpoint| (peer, endpoint)));
    let (peer, endpoint) = endpoints.find(|(_, endpoint)| prefix.contains(&endpoint.ip()))?;
    Some(format!("it holds {endpoint}, an endpoint of {}", named(peer)))
}

fn named(peer: &Peer<'_>) -> String {
    match peer.name {
        "" => peer.host.to_string(),
        name => format!("{name} ({})", peer.host),
    }
}

fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        routes: Vec<Route>,
        services: BTreeSet<IpAddr>,
        own: Vec<Subnet>,
        /// Host, its subnets, whether it is in our VPC, its endpoint.
        peers: Vec<(HostId, Vec<Subnet>, bool, SocketAddr)>,
    }

    fn subnet(prefix: &str) -> Subnet {
        let prefix = prefix.parse().expect("a prefix");
        Subnet { prefix, real: prefix, snat: true }
    }

    impl World {
        fn new() -> Self {
            Self { routes: Vec::new(), services: BTreeSet::new(), own: Vec::new(), peers: Vec::new() }
        }

        fn route(mut self, destination: &str, interface: &str) -> Self {
            let destination = destination.parse().expect("a prefix");
            self.routes.push(Route {
                destination,
                gateway: None,
                interface: (!interface.is_empty()).then(|| interface.into()),
                metric: 0,
                mtu: None,
            });
            self
        }

        fn peer(mut self, subnets: &[&str], endpoint: &str) -> Self {
            let host = format!("host-{}", self.peers.len() + 1).parse().expect("an id");
            let subnets = subnets.iter().map(|prefix| subnet(prefix)).collect();
            self.peers.push((host, subnets, false, endpoint.parse().expect("an endpoint")));
            self
        }

        fn neighbour(mut self, subnets: &[&str], endpoint: &str) -> Self {
            self = self.peer(subnets, endpoint);
            self.peers.last_mut().expect("was pushed").2 = true;
            self
        }

        fn accepted(&self) -> Accepted {
            let id: NetworkId = "prod".parse().expect("an id");
            let peer = |(host, subnets, is_in_our_vpc, endpoint): &'_ (HostId, Vec<Subnet>, bool, SocketAddr)| {
                (host.clone(), subnets.clone(), *is_in_our_vpc, vec![*endpoint])
            };
            let peers: Vec<_> = self.peers.iter().map(peer).collect();
            let network = Network {
                id: &id,
                space: "10.77.0.0/16".parse().expect("a prefix"),
                own: &self.own,
                peers: peers
                    .iter()
                    .map(|(host, subnets, is_in_our_vpc, endpoints)| Peer {
                        host,
                        name: "vm",
                        subnets,
                        is_in_our_vpc: *is_in_our_vpc,
                        endpoints: endpoints.clone(),
                    })
                    .collect(),
            };
            accept(&self.routes, &self.services, &[network]).remove(&id).expect("every network is answered")
        }
    }

    fn told(accepted: &Accepted) -> Vec<(String, usize)> {
        accepted.by_host.iter().map(|(host, prefixes)| (host.to_string(), prefixes.len())).collect()
    }

    #[test]
    fn what_somebody_has_is_left_out_and_the_holder_named_and_the_others_work() {
        let world = World::new()
            .route("0.0.0.0/0", "eth0")
            .route("10.8.1.0/24", "eth0")
            .peer(&["10.1.0.0/16", "10.8.0.0/16", "10.77.3.0/24"], "203.0.113.1:8055")
            .peer(&["10.1.2.0/24", "192.168.0.0/24"], "203.0.113.2:8055");
        let accepted = world.accepted();
        assert_eq!(told(&accepted), [("host-1".to_owned(), 1), ("host-2".to_owned(), 1)]);
        let problems: Vec<_> = accepted.problems.values().collect();
        assert_eq!(problems.len(), 3);
        for (problem, holder) in problems.iter().zip([
            "10.1.2.0/24 behind vm (host-2) of network prod is left out: it overlaps 10.1.0.0/16 behind vm (host-1)",
            "10.8.0.0/16 behind vm (host-1) of network prod is left out: it overlaps this host's own route 10.8.1.0/24 on eth0",
            "10.77.3.0/24 behind vm (host-1) of network prod is left out: it overlaps the address space 10.77.0.0/16",
        ]) {
            assert!(problem.contains(holder), "{problem}");
        }
    }

    #[test]
    fn a_subnet_that_others_reach_through_us_is_not_reached_through_another() {
        let mut world = World::new().peer(&["10.1.0.0/24"], "203.0.113.1:8055");
        world.own = vec![subnet("10.1.0.0/16")];
        let accepted = world.accepted();
        assert!(accepted.by_host.is_empty());
        assert!(accepted.problems.values().all(|problem| problem.contains("which others reach through this host")));
    }

    #[test]
    fn the_tunnel_never_travels_through_itself() {
        let accepted = World::new().peer(&["203.0.113.0/24"], "203.0.113.1:8055").accepted();
        assert!(accepted.by_host.is_empty());
        let problem = accepted.problems.values().next().expect("a problem");
        assert!(problem.contains("it holds 203.0.113.1:8055, an endpoint of vm (host-1)"), "{problem}");
    }

    #[test]
    fn the_service_is_never_reached_through_the_tunnel() {
        let mut world = World::new().peer(&["192.0.2.0/24", "10.1.0.0/16"], "203.0.113.1:8055");
        world.services = ["192.0.2.7", "2001:db8::7"].map(|address| address.parse().expect("an address")).into();
        let accepted = world.accepted();
        assert_eq!((told(&accepted), accepted.problems.len()), (vec![("host-1".to_owned(), 1)], 1));
        let problem = accepted.problems.values().next().expect("a problem");
        assert!(problem.contains("it overlaps 192.0.2.7, where this host's service is"), "{problem}");
    }

    #[test]
    fn what_the_host_discards_is_its_own_also_in_its_vpc() {
        let discarding = || World::new().route("10.1.0.0/16", "");
        let endpoint = "203.0.113.1:8055";
        for world in [discarding().peer(&["10.1.2.0/24"], endpoint), discarding().neighbour(&["10.1.2.0/24"], endpoint)]
        {
            let accepted = world.accepted();
            assert!(accepted.by_host.is_empty());
            let problem = accepted.problems.values().next().expect("a problem");
            assert!(problem.contains("it overlaps this host's own route 10.1.0.0/16 to nowhere"), "{problem}");
        }
    }

    #[test]
    fn a_vpc_that_we_are_in_is_no_problem_and_pods_in_it_are_reached() {
        let world =
            World::new().route("10.0.1.0/24", "eth0").neighbour(&["10.0.0.0/16", "172.20.0.0/16"], "10.0.3.4:8055");
        let accepted = world.accepted();
        assert_eq!(told(&accepted), [("host-1".to_owned(), 1)]);
        assert!(accepted.problems.is_empty(), "{:?}", accepted.problems);
        let elsewhere = World::new().neighbour(&["10.0.3.0/24"], "10.0.3.4:8055").accepted();
        assert_eq!((told(&elsewhere), elsewhere.problems.len()), (vec![], 0), "no route of ours, and yet in our VPC");
    }

    #[test]
    fn no_peer_fills_the_tables_of_the_host() {
        let many: Vec<String> = (0..70).map(|number| format!("10.1.{number}.0/24")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let accepted = World::new().peer(&many, "203.0.113.1:8055").accepted();
        assert_eq!((told(&accepted), accepted.problems.len()), (vec![("host-1".to_owned(), 64)], 6));
    }
}
