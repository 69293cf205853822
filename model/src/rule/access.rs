//! Access rules, decided for one flow and resolved for one receiver. Both must always agree.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Action, Member, Party, Protocol, RuleSet, Side, Traffic};
use crate::RuleId;

/// What the rules say about a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub action: Action,
    /// None: no rule matches, and the network's default decided.
    pub rule: Option<RuleId>,
}

/// Whether `from` may open a flow to `to`; the port of a protocol without ports is 0.
pub fn decide(rules: &RuleSet, from: &Party<'_>, to: &Party<'_>, protocol: Protocol, port: u16) -> Decision {
    let found = rules.access_rules().find(|(_, access)| {
        access.from.matches(from) && access.to.matches(to) && access.traffic.matches(protocol, port)
    });
    match found {
        Some((rule, access)) => Decision { action: access.action, rule: Some(rule.id.clone()) },
        None => Decision { action: rules.default_access, rule: None },
    }
}

/// What one receiver enforces: addresses instead of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The first that matches decides.
    pub rules: Vec<FilterRule>,
    pub default: Action,
}

/// No list is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    pub action: Action,
    pub sources: Vec<IpNet>,
    pub destinations: Vec<IpNet>,
    pub traffic: Traffic,
}

/// The rules as `me` enforces them against `peers`; `None` if they refuse nothing.
pub fn access(rules: &RuleSet, me: &Member, peers: &[Member]) -> Option<Filter> {
    if rules.allows_all() {
        return None;
    }
    let resolved = rules.access_rules().filter_map(|(_, access)| {
        // First whether it is about us: most are not, and looking for senders takes long.
        let destinations = Some(addresses(&access.to, std::slice::from_ref(me))).filter(|found| !found.is_empty())?;
        let sources = Some(addresses(&access.from, peers)).filter(|found| !found.is_empty())?;
        Some(FilterRule { action: access.action, sources, destinations, traffic: access.traffic.clone() })
    });
    let filter = Filter { rules: resolved.collect(), default: rules.default_access };
    let refuses = filter.default == Action::Deny || filter.rules.iter().any(|rule| rule.action == Action::Deny);
    refuses.then_some(filter)
}

/// The addresses of those of `members` that a side means, or the prefixes that it names.
fn addresses(side: &Side, members: &[Member]) -> Vec<IpNet> {
    match side {
        Side::Any => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        Side::Prefixes(prefixes) => prefixes.clone(),
        Side::Peers(selector) => {
            let selected = members.iter().filter(|member| selector.matches(&member.labels));
            selected.filter_map(|member| member.address).map(|address| Ipv4Net::from(address).into()).collect()
        }
    }
}

#[cfg(test)]
impl Filter {
    /// As the receiver's packet filter decides.
    pub(super) fn decide(
        &self,
        source: std::net::IpAddr,
        destination: std::net::IpAddr,
        protocol: Protocol,
        port: u16,
    ) -> Action {
        let found = self.rules.iter().find(|rule| {
            rule.sources.iter().any(|prefix| prefix.contains(&source))
                && rule.destinations.iter().any(|prefix| prefix.contains(&destination))
                && rule.traffic.matches(protocol, port)
        });
        found.map_or(self.default, |rule| rule.action)
    }
}
