//! The network's access rules as the packet filter takes them: addresses in place of labels, numbers in place of
//! protocols. Pure; what the rules mean is `model`'s, what happens to a packet is `tunnel`'s.

use std::ops::RangeInclusive;

use cladnet_model::rule::{self, PortRange, Protocol};
use cladnet_tunnel::{Access, AccessRule, Action, Traffic};

use crate::configuration::Configuration;

/// Numbers of IP protocols, as IANA assigns them.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Who may reach this host. Rules that refuse nothing are none, and flows are followed all the same: who opened them must
/// be known as soon as there is one that does.
pub(crate) fn access(configuration: &Configuration) -> Access {
    let settings = configuration.settings();
    let refusing = match settings.rules.allows_all() {
        true => None,
        false => rule::access(&settings.rules, &configuration.me(), &configuration.members()),
    };
    match refusing {
        Some(filter) => {
            Access { rules: filter.rules.iter().flat_map(compiled).collect(), default: action(filter.default) }
        }
        None => Access { rules: Vec::new(), default: Action::Allow },
    }
}

/// One rule for each protocol number.
fn compiled(rule: &rule::FilterRule) -> Vec<AccessRule> {
    let of = |traffic| AccessRule {
        action: action(rule.action),
        sources: rule.sources.clone(),
        destinations: rule.destinations.clone(),
        traffic,
    };
    let ported = |protocol| match rule.traffic.ports() {
        [] => Traffic::Protocol(protocol),
        ports => Traffic::Ports { protocol, ports: ports.iter().copied().map(range).collect() },
    };
    match rule.traffic.protocol() {
        Protocol::Any => vec![of(Traffic::All)],
        Protocol::Tcp => vec![of(ported(TCP))],
        Protocol::Udp => vec![of(ported(UDP))],
        Protocol::Icmp => vec![of(Traffic::Protocol(ICMP)), of(Traffic::Protocol(ICMPV6))],
    }
}

fn range(ports: PortRange) -> RangeInclusive<u16> {
    ports.first()..=ports.last()
}

fn action(action: rule::Action) -> Action {
    match action {
        rule::Action::Allow => Action::Allow,
        rule::Action::Deny => Action::Deny,
    }
}

#[cfg(test)]
mod tests {
    use cladnet_proto::cladnet::v1::{Rule, RuleDocument};

    use super::*;
    use crate::configuration::testing::Service;

    fn rule(from: &str, to: &str, protocol: &str, ports: &[&str]) -> Rule {
        Rule {
            kind: "access".into(),
            action: Some("allow".into()),
            from: Some(from.into()),
            to: Some(to.into()),
            protocol: Some(protocol.into()),
            ports: ports.iter().map(ToString::to_string).collect(),
            ..Rule::default()
        }
    }

    fn service(rules: Vec<Rule>) -> Service {
        let mut service = Service::new().with([1, 2, 3]);
        service.membership.rules = Some(RuleDocument { default_access: "deny".into(), rules });
        service.membership.labels = [("role".into(), "db".into())].into();
        service
    }

    #[test]
    fn without_rules_nothing_is_refused() {
        let everything = Access { rules: Vec::new(), default: Action::Allow };
        assert_eq!(access(&Service::new().with([1]).taken()), everything);
    }

    #[test]
    fn labels_become_the_addresses_of_those_who_bear_them() {
        let mut service = service(vec![
            rule("role=web", "role=db", "tcp", &["5432", "8000-8100"]),
            rule("any", "role=web", "any", &[]),
            rule("any", "any", "icmp", &[]),
        ]);
        let before = service.clone();
        let mut taken = service.taken();
        let access_of_none = access(&taken);
        assert_eq!(access_of_none.default, Action::Deny);
        assert_eq!(access_of_none.rules.len(), 2, "ICMP by either number; nobody is web, and we are not");

        service.put(2, 9);
        service.peers.get_mut("host-2").unwrap().labels = [("role".into(), "web".into())].into();
        service.revision += 1;
        taken.apply(service.delta_from(&before)).unwrap();
        let first = &access(&taken).rules[0];
        assert_eq!(first.sources, ["10.77.1.2/32".parse().unwrap()]);
        assert_eq!(first.destinations, ["10.77.0.1/32".parse().unwrap()]);
        assert_eq!(first.traffic, Traffic::Ports { protocol: TCP, ports: vec![5432..=5432, 8000..=8100] });
    }
}
