//! Where peers' packets may go on this host. The kernel would take them for any address that it has, whatever the rules say
//! of the one in the network, and forward them to wherever it has a route; the packet filter lets in what is for this host's
//! own address in the network, or for a subnet that an admin has approved.

use cladnet_tunnel::{Access, AccessRule, Action, Traffic};
use ipnet::IpNet;

/// The access rules, for these destinations only.
pub(crate) fn confine(access: Access, own: IpNet, subnets: &[IpNet]) -> Access {
    let reachable: Vec<IpNet> = std::iter::once(own).chain(subnets.iter().copied()).collect();
    let Access { rules, default } = access;
    let confined = |rule: AccessRule| AccessRule { destinations: common(&rule.destinations, &reachable), ..rule };
    let mut rules: Vec<_> = rules.into_iter().map(confined).filter(|rule| !rule.destinations.is_empty()).collect();
    if default == Action::Allow {
        rules.push(AccessRule {
            action: Action::Allow,
            sources: vec![ipnet::Ipv4Net::default().into(), ipnet::Ipv6Net::default().into()],
            destinations: reachable,
            traffic: Traffic::All,
        });
    }
    Access { rules, default: Action::Deny }
}

/// What both lists hold. Of two prefixes that share an address one holds the other.
fn common(ones: &[IpNet], others: &[IpNet]) -> Vec<IpNet> {
    let shared = |one: &IpNet, other: &IpNet| match () {
        () if one.contains(other) => Some(*other),
        () if other.contains(one) => Some(*one),
        () => None,
    };
    ones.iter().flat_map(|one| others.iter().filter_map(move |other| shared(one, other))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    fn rule(action: Action, destinations: &[&str]) -> AccessRule {
        let (sources, destinations) = (prefixes(&["0.0.0.0/0"]), prefixes(destinations));
        AccessRule { action, sources, destinations, traffic: Traffic::All }
    }

    const EVERYTHING: Access = Access { rules: Vec::new(), default: Action::Allow };

    fn confined(access: Access) -> Access {
        confine(access, "10.77.0.1/32".parse().expect("a prefix"), &prefixes(&["10.1.0.0/16"]))
    }

    #[test]
    fn without_subnets_the_own_address_is_all_that_is_reached() {
        let Access { rules, default } = confine(EVERYTHING, "10.77.0.1/32".parse().expect("a prefix"), &[]);
        assert_eq!((rules.len(), default), (1, Action::Deny));
        assert_eq!(rules[0].destinations, prefixes(&["10.77.0.1/32"]));
    }

    #[test]
    fn what_is_neither_ours_nor_a_subnet_is_refused_whatever_the_rules_allow() {
        let Access { rules, default } = confined(EVERYTHING);
        assert_eq!((rules.len(), default), (1, Action::Deny));
        assert_eq!(rules[0].destinations, prefixes(&["10.77.0.1/32", "10.1.0.0/16"]));

        let everywhere = rule(Action::Allow, &["0.0.0.0/0", "::/0"]);
        let part = rule(Action::Deny, &["10.1.2.0/24"]);
        let elsewhere = rule(Action::Allow, &["192.0.2.0/24"]);
        let Access { rules, default } =
            confined(Access { rules: vec![part.clone(), everywhere, elsewhere], default: Action::Deny });
        assert_eq!((rules.len(), default), (2, Action::Deny));
        assert_eq!(rules[0], part);
        assert_eq!(rules[1].destinations, prefixes(&["10.77.0.1/32", "10.1.0.0/16"]));
    }
}
