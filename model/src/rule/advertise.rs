//! Which subnets are reached through which peer, and which of them cannot be.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};

use super::{AdvertiseRule, Member, Rule, RuleSet};
use crate::{HostId, NetworkId, RuleId};

/// What is reached through a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertised {
    /// As few prefixes as say the same.
    pub prefixes: Vec<IpNet>,
    /// Those of them whose packets take the peer's own address on.
    pub snat: Vec<IpNet>,
}

/// Two would own one address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {prefix}, which overlaps {holder}")]
pub struct Clash {
    pub rule: RuleId,
    pub prefix: IpNet,
    /// Who has it, in words.
    pub holder: String,
}

/// What is behind each peer by the rules that are in force. Each prefix has one peer, however many a rule selects.
pub fn advertised(rules: &RuleSet, members: &[Member]) -> BTreeMap<HostId, Advertised> {
    let mut result: BTreeMap<HostId, Advertised> = BTreeMap::new();
    for (_, rule) in rules.advertise_rules() {
        let Some(owner) = owner(rule, members) else { continue };
        let known = result.entry(owner.host.clone()).or_default();
        known.prefixes.push(rule.prefix);
        if rule.snat {
            known.snat.push(rule.prefix);
        }
    }
    for known in result.values_mut() {
        known.prefixes = IpNet::aggregate(&known.prefixes);
        known.snat = IpNet::aggregate(&known.snat);
    }
    result
}

/// The peer that stands before a rule's subnet.
fn owner<'a>(rule: &AdvertiseRule, members: &'a [Member]) -> Option<&'a Member> {
    let selected = members.iter().filter(|member| rule.via.matches(&member.labels));
    selected.min_by_key(|member| &member.host)
}

impl RuleSet {
    /// The advertised prefixes that would take addresses from the overlay itself, from another network, or from another
    /// rule.
    pub fn clashes(&self, overlay: Ipv4Net, others: &[(NetworkId, Ipv4Net)]) -> Vec<Clash> {
        let rules: Vec<(&Rule, &AdvertiseRule)> = self.advertise_rules().collect();
        let clash = |rule: &Rule, advertise: &AdvertiseRule, holder: String| Clash {
            rule: rule.id.clone(),
            prefix: advertise.prefix,
            holder,
        };
        let mut clashes = Vec::new();
        for (index, (rule, advertise)) in rules.iter().enumerate() {
            if overlap(advertise.prefix, overlay.into()) {
                clashes.push(clash(rule, advertise, format!("the network's own address space {overlay}")));
            }
            if let Some((other, space)) = others.iter().find(|(_, space)| overlap(advertise.prefix, (*space).into())) {
                clashes.push(clash(rule, advertise, format!("the address space {space} of network {other}")));
            }
            let earlier = rules[..index].iter().find(|(_, earlier)| overlap(advertise.prefix, earlier.prefix));
            if let Some((holder, held)) = earlier {
                let holder = format!("{} of rule {}, behind {}", held.prefix, holder.id, held.via);
                clashes.push(clash(rule, advertise, holder));
            }
        }
        clashes
    }
}

/// Whether two prefixes share an address.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

impl Advertised {
    /// Whether an address is behind the peer.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.prefixes.iter().any(|prefix| prefix.contains(&IpAddr::V4(address)))
    }
}
