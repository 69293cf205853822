//! Where the tunnel's socket may be reached, from all that is known. Pure.

use std::net::{IpAddr, SocketAddr};

use cladnet_model::{Endpoint, EndpointSource, Scope, endpoint::MAX_ENDPOINTS};

use super::Observed;

/// What endpoints are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// Global addresses of the default route's interface, in the kernel's order.
    pub interface: &'a [IpAddr],
    /// Port the tunnel listens on.
    pub port: u16,
    /// From the provider's metadata.
    pub metadata: Option<IpAddr>,
    pub observed: &'a Observed,
    /// Where we were seen until the last change.
    pub left: &'a [IpAddr],
    /// From the configuration.
    pub extra: &'a [SocketAddr],
}

/// The endpoints in order of trust: the operator's, seen from outside, metadata, interface; each address and scope
/// once.
pub(crate) fn endpoints(known: Known<'_>) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    let mut add = |address: SocketAddr, scope: Option<Scope>, source| {
        if let Some(scope) = scope
            && !found.iter().any(|e| e.address == address && e.scope == scope)
        {
            found.push(Endpoint { address, scope, source });
        }
    };
    for address in known.extra {
        add(*address, scope_of(address.ip()), EndpointSource::Operator);
    }
    for address in known.observed.addresses() {
        add(address, observed_scope(address.ip(), &known), EndpointSource::Stun);
    }
    if let Some(address) = known.metadata.filter(|address| !known.left.contains(address)) {
        add(SocketAddr::new(address, known.port), scope_of(address), EndpointSource::Metadata);
    }
    for address in known.interface {
        add(SocketAddr::new(*address, known.port), scope_of(*address), EndpointSource::Interface);
    }
    found.truncate(MAX_ENDPOINTS);
    found
}

/// A private address that is seen from outside comes from beside us, or through a NAT that is private too: it is the
/// most public address there is, unless the provider names a better one.
fn observed_scope(address: IpAddr, known: &Known<'_>) -> Option<Scope> {
    match scope_of(address) {
        Some(Scope::Private) if known.metadata.and_then(scope_of) == Some(Scope::Public) => None,
        Some(Scope::Private) if address.is_ipv4() => Some(Scope::Public),
        scope => scope,
    }
}

/// From where an address can be reached, by what it is; none for those that nobody else can use.
pub(crate) fn scope_of(address: IpAddr) -> Option<Scope> {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // RFC 6598: between a provider and its customers.
            let shared = first == 100 && (64..128).contains(&second);
            match () {
                () if v4.is_loopback() || v4.is_link_local() || v4.is_multicast() => None,
                () if v4.is_unspecified() || v4.is_broadcast() => None,
                () if v4.is_private() || shared => Some(Scope::Private),
                () => Some(Scope::Public),
            }
        }
        IpAddr::V6(v6) => match () {
            () if v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() => None,
            () if v6.is_unicast_link_local() => None,
            () if v6.is_unique_local() => Some(Scope::Private),
            () => Some(Scope::PublicV6),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<'a>(interface: &'a [IpAddr], observed: &'a Observed) -> Known<'a> {
        Known { interface, port: 8055, metadata: None, observed, left: &[], extra: &[] }
    }

    fn text(endpoints: &[Endpoint]) -> Vec<String> {
        endpoints.iter().map(|e| format!("{} {} {}", e.address, e.scope, e.source)).collect()
    }

    fn seen(address: &str) -> Observed {
        Observed::only(address.parse().expect("address"))
    }

    #[test]
    fn behind_a_nat_the_address_seen_from_outside_is_public_and_the_own_one_private() {
        let interface = ["10.0.1.4".parse().expect("address"), "2001:db8::4".parse().expect("address")];
        let observed = seen("203.0.113.9:40000");
        let found = endpoints(known(&interface, &observed));
        assert_eq!(
            text(&found),
            [
                "203.0.113.9:40000 public stun",
                "10.0.1.4:8055 private interface",
                "[2001:db8::4]:8055 public-v6 interface"
            ]
        );
    }

    #[test]
    fn the_metadata_address_stays_beside_a_private_one_seen_by_a_service_next_door() {
        let interface = ["10.0.1.4".parse().expect("address")];
        let observed = seen("10.0.1.4:8055");
        let metadata = Some("198.51.100.7".parse().expect("address"));
        let found = endpoints(Known { metadata, ..known(&interface, &observed) });
        assert_eq!(text(&found), ["198.51.100.7:8055 public metadata", "10.0.1.4:8055 private interface"]);
    }

    #[test]
    fn a_metadata_address_that_we_were_seen_at_and_are_no_more_is_not_told() {
        let interface = ["10.0.1.4".parse().expect("address")];
        let observed = seen("203.0.113.9:8055");
        let former: IpAddr = "203.0.113.1".parse().expect("address");
        let found = endpoints(Known { metadata: Some(former), left: &[former], ..known(&interface, &observed) });
        assert_eq!(text(&found), ["203.0.113.9:8055 public stun", "10.0.1.4:8055 private interface"]);
    }

    #[test]
    fn without_any_public_address_the_one_the_service_sees_counts_as_public() {
        let interface = ["192.168.7.4".parse().expect("address")];
        let observed = seen("192.168.7.4:8055");
        let found = endpoints(known(&interface, &observed));
        assert_eq!(text(&found), ["192.168.7.4:8055 public stun", "192.168.7.4:8055 private interface"]);
    }

    #[test]
    fn what_the_operator_adds_comes_first_and_nothing_comes_twice() {
        let interface = ["203.0.113.9".parse().expect("address")];
        let observed = seen("203.0.113.9:8055");
        let extra = ["198.51.100.1:4500".parse().expect("address"), "127.0.0.1:1".parse().expect("address")];
        let found = endpoints(Known { extra: &extra, ..known(&interface, &observed) });
        assert_eq!(text(&found), ["198.51.100.1:4500 public operator", "203.0.113.9:8055 public stun"]);
    }

    #[test]
    fn scopes_of_addresses() {
        for (address, scope) in [
            ("10.255.0.1", Some(Scope::Private)),
            ("100.64.0.1", Some(Scope::Private)),
            ("100.128.0.1", Some(Scope::Public)),
            ("172.32.0.1", Some(Scope::Public)),
            ("169.254.169.254", None),
            ("fd00::1", Some(Scope::Private)),
            ("fe80::1", None),
            ("2001:db8::1", Some(Scope::PublicV6)),
            ("::ffff:192.168.0.1", Some(Scope::Private)),
        ] {
            assert_eq!(scope_of(address.parse().expect("address")), scope, "{address}");
        }
    }
}
