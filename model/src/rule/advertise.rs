//! Which subnets are reached through which peer, and which of them cannot be.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net};

use super::{AdvertiseRule, Member, Rule, RuleSet};
use crate::{HostId, NetworkId, RuleId};

/// A subnet that is reached through a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// Where the others route to.
    pub prefix: IpNet,
    /// Whether what goes there takes the peer's own address on.
    pub snat: bool,
    /// The subnet as it is, if the others know it by another prefix.
    pub mapped_from: Option<IpNet>,
    /// The first rule that it comes from.
    pub rule: RuleId,
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

/// What is behind each peer by the rules that are in force, in as few prefixes as say the same. Each has one peer, however
/// many a rule selects.
pub fn advertised(rules: &RuleSet, members: &[Member]) -> BTreeMap<HostId, Vec<Advertised>> {
    let mut behind: BTreeMap<HostId, Vec<Advertised>> = BTreeMap::new();
    for (rule, advertise) in rules.advertise_rules() {
        let Some(owner) = owner(advertise, members) else { continue };
        behind.entry(owner.host.clone()).or_default().push(Advertised {
            prefix: advertise.visible(),
            snat: advertise.snat,
            mapped_from: advertise.mapped.map(|_| advertise.prefix),
            rule: rule.id.clone(),
        });
    }
    behind.into_iter().map(|(host, advertised)| (host, joined(advertised))).collect()
}

/// Adjacent prefixes become one, if the same is done with them.
fn joined(all: Vec<Advertised>) -> Vec<Advertised> {
    let (mapped, plain): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.mapped_from.is_some());
    let mut result = mapped;
    for snat in [true, false] {
        let alike: Vec<&Advertised> = plain.iter().filter(|one| one.snat == snat).collect();
        let prefixes: Vec<IpNet> = alike.iter().map(|one| one.prefix).collect();
        result.extend(IpNet::aggregate(&prefixes).into_iter().filter_map(|prefix| {
            let first = alike.iter().find(|one| prefix.contains(&one.prefix))?;
            Some(Advertised { prefix, ..(*first).clone() })
        }));
    }
    result.sort_by_key(|one| one.prefix);
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
            prefix: advertise.visible(),
            holder,
        };
        let mut clashes = Vec::new();
        for (index, (rule, advertise)) in rules.iter().enumerate() {
            if overlap(advertise.visible(), overlay.into()) {
                clashes.push(clash(rule, advertise, format!("the network's own address space {overlay}")));
            }
            if let Some((other, space)) = others.iter().find(|(_, space)| overlap(advertise.visible(), (*space).into()))
            {
                clashes.push(clash(rule, advertise, format!("the address space {space} of network {other}")));
            }
            let earlier = rules[..index].iter().find(|(_, earlier)| overlap(advertise.visible(), earlier.visible()));
            if let Some((holder, held)) = earlier {
                let holder = format!("{} of rule {}, behind {}", held.visible(), holder.id, held.via);
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
