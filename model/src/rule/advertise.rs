//! Which subnets are reached through which peer, and which of them cannot be.

use std::{collections::BTreeMap, net::Ipv4Addr};

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
    /// Of the rule, the one that holds the prefix.
    pub field: &'static str,
    pub prefix: IpNet,
    /// Who has it, in words.
    pub holder: String,
}

/// Addresses that mean another machine everywhere, or none (RFC 6890 §2.2.2): metadata of clouds is at one of them.
const NOBODYS: [Ipv4Net; 5] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::new(255, 255, 255, 255), 32),
];

/// Why a prefix is no subnet that a peer may stand before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSubnet {
    #[error("is {0}, a default route, which is never advertised; name the subnet")]
    Default(Ipv4Net),
    #[error(
        "is {subnet}, which holds addresses of {special}: those mean another machine everywhere; name a subnet without them"
    )]
    Special { subnet: Ipv4Net, special: Ipv4Net },
}

/// Whether a peer may stand before `subnet` at all.
pub fn check_subnet(subnet: Ipv4Net) -> Result<(), NoSubnet> {
    let special = NOBODYS.into_iter().find(|special| overlap(subnet.into(), (*special).into()));
    match special {
        _ if subnet.prefix_len() <= 1 => Err(NoSubnet::Default(subnet)),
        Some(special) => Err(NoSubnet::Special { subnet, special }),
        None => Ok(()),
    }
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
            field: if advertise.mapped.is_some() { "mapped" } else { "prefix" },
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
pub fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}
