//! Which endpoints a host may advertise. Every agent of its networks sends packets to them, so a host must not be
//! able to point the others at themselves, at the metadata service of their cloud, or back into an overlay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::Ipv4Net;

use crate::{Endpoint, Scope};

/// More than any machine needs; each is tried by every peer.
pub const MAX_ENDPOINTS: usize = 16;

/// Instance metadata services outside link-local space: Alibaba's, and that of AWS over IPv6.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Why an endpoint is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    #[error("its port is 0")]
    Port,
    #[error("it is a loopback address")]
    Loopback,
    #[error("it is a link-local address")]
    LinkLocal,
    #[error("it is a multicast or broadcast address")]
    Multicast,
    #[error("it is an unspecified or reserved address")]
    Unspecified,
    #[error("it is the address of a metadata service")]
    Metadata,
    #[error("it lies in {0}, an overlay network")]
    Overlay(Ipv4Net),
    #[error("its scope is {scope}, but it is IPv{version}")]
    Scope { scope: Scope, version: u8 },
    #[error("it is advertised twice")]
    Repeated,
    #[error("more than {MAX_ENDPOINTS} are advertised")]
    TooMany,
}

/// The endpoints that may be passed on, in their order, and the others with their faults. `overlays` are the address
/// spaces of all networks.
pub fn advertisable(endpoints: &[Endpoint], overlays: &[Ipv4Net]) -> (Vec<Endpoint>, Vec<(Endpoint, EndpointFault)>) {
    let (mut kept, mut refused) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        let endpoint = Endpoint { address: canonical(endpoint.address), ..*endpoint };
        match check(&endpoint, overlays) {
            Err(fault) => refused.push((endpoint, fault)),
            Ok(()) if is_repeated(&endpoint, &kept) => refused.push((endpoint, EndpointFault::Repeated)),
            Ok(()) if kept.len() == MAX_ENDPOINTS => refused.push((endpoint, EndpointFault::TooMany)),
            Ok(()) => kept.push(endpoint),
        }
    }
    (kept, refused)
}

/// One endpoint on its own.
pub fn check(endpoint: &Endpoint, overlays: &[Ipv4Net]) -> Result<(), EndpointFault> {
    let address = canonical(endpoint.address);
    if address.port() == 0 {
        return Err(EndpointFault::Port);
    }
    match (address.ip(), endpoint.scope) {
        (IpAddr::V4(_), scope @ Scope::PublicV6) => return Err(EndpointFault::Scope { scope, version: 4 }),
        (IpAddr::V6(_), scope @ Scope::Public) => return Err(EndpointFault::Scope { scope, version: 6 }),
        _ => {}
    }
    match address.ip() {
        IpAddr::V4(v4) => check_v4(v4, overlays),
        IpAddr::V6(v6) => check_v6(v6),
    }
}

fn check_v4(v4: Ipv4Addr, overlays: &[Ipv4Net]) -> Result<(), EndpointFault> {
    let first = v4.octets()[0];
    match () {
        () if v4.is_loopback() => Err(EndpointFault::Loopback),
        () if v4.is_link_local() => Err(EndpointFault::LinkLocal),
        () if v4.is_multicast() || v4.is_broadcast() => Err(EndpointFault::Multicast),
        () if first == 0 || first >= 240 => Err(EndpointFault::Unspecified),
        () if v4 == METADATA_V4 => Err(EndpointFault::Metadata),
        () => match overlays.iter().find(|overlay| overlay.contains(&v4)) {
            Some(overlay) => Err(EndpointFault::Overlay(*overlay)),
            None => Ok(()),
        },
    }
}

fn check_v6(v6: Ipv6Addr) -> Result<(), EndpointFault> {
    match () {
        () if v6.is_loopback() => Err(EndpointFault::Loopback),
        () if v6.is_unicast_link_local() => Err(EndpointFault::LinkLocal),
        () if v6.is_multicast() => Err(EndpointFault::Multicast),
        () if v6.is_unspecified() => Err(EndpointFault::Unspecified),
        () if v6 == METADATA_V6 => Err(EndpointFault::Metadata),
        () => Ok(()),
    }
}

/// An IPv4 address in IPv6 clothes goes the way of the IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_repeated(endpoint: &Endpoint, kept: &[Endpoint]) -> bool {
    kept.iter().any(|other| other.address == endpoint.address && other.scope == endpoint.scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EndpointSource;

    fn endpoint(address: &str, scope: Scope) -> Endpoint {
        Endpoint { address: address.parse().unwrap(), scope, source: EndpointSource::Interface }
    }

    fn fault(address: &str) -> Option<EndpointFault> {
        let scope = if address.starts_with('[') { Scope::PublicV6 } else { Scope::Public };
        check(&endpoint(address, scope), &["10.77.0.0/16".parse().unwrap()]).err()
    }

    #[test]
    fn an_address_that_others_can_use_passes() {
        for address in ["203.0.113.9:8055", "10.0.0.4:8055", "100.64.3.4:1", "[2001:db8::1]:8055", "[fd00:ec2::253]:9"]
        {
            assert_eq!(fault(address), None, "{address}");
        }
    }

    #[test]
    fn nobody_can_be_pointed_at_himself_at_metadata_or_into_an_overlay() {
        let overlay = "10.77.0.0/16".parse().unwrap();
        for (address, expected) in [
            ("203.0.113.9:0", EndpointFault::Port),
            ("127.0.0.1:8055", EndpointFault::Loopback),
            ("127.9.9.9:8055", EndpointFault::Loopback),
            ("[::1]:8055", EndpointFault::Loopback),
            ("169.254.169.254:80", EndpointFault::LinkLocal),
            ("[fe80::1]:8055", EndpointFault::LinkLocal),
            ("224.0.0.1:8055", EndpointFault::Multicast),
            ("255.255.255.255:8055", EndpointFault::Multicast),
            ("[ff02::1]:8055", EndpointFault::Multicast),
            ("0.0.0.0:8055", EndpointFault::Unspecified),
            ("0.1.2.3:8055", EndpointFault::Unspecified),
            ("241.0.0.1:8055", EndpointFault::Unspecified),
            ("[::]:8055", EndpointFault::Unspecified),
            ("100.100.100.200:80", EndpointFault::Metadata),
            ("[fd00:ec2::254]:80", EndpointFault::Metadata),
            ("10.77.3.4:8055", EndpointFault::Overlay(overlay)),
        ] {
            assert_eq!(fault(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_cannot_hide_in_ipv6() {
        let (kept, refused) = advertisable(
            &[endpoint("[::ffff:127.0.0.1]:8055", Scope::Private), endpoint("[::ffff:10.0.0.4]:8055", Scope::Private)],
            &[],
        );
        assert_eq!(kept, [endpoint("10.0.0.4:8055", Scope::Private)]);
        assert_eq!(refused[0].1, EndpointFault::Loopback);
    }

    #[test]
    fn a_scope_fits_its_address() {
        let refused = |address, scope| check(&endpoint(address, scope), &[]).unwrap_err().to_string();
        assert_eq!(refused("203.0.113.9:1", Scope::PublicV6), "its scope is public-v6, but it is IPv4");
        assert_eq!(refused("[2001:db8::1]:1", Scope::Public), "its scope is public, but it is IPv6");
    }

    #[test]
    fn the_first_sixteen_different_ones_are_kept_in_their_order() {
        let many: Vec<_> = (1..=20).map(|port| endpoint(&format!("203.0.113.9:{port}"), Scope::Public)).collect();
        let mut twice = vec![many[0]];
        twice.extend(&many);
        let (kept, refused) = advertisable(&twice, &[]);
        assert_eq!(kept, many[..16]);
        assert_eq!((refused[0].1, refused[1].1), (EndpointFault::Repeated, EndpointFault::TooMany));
        assert_eq!(refused.len(), 5);
    }
}
