//! Refuses a topology that could not be built, naming the field and what would be right.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::{Peering, Ssh, SshChoice, Subnet, Topology, VmSpec, Vpc, WanLink};
use crate::error::{Error, Result};

/// Longest name of a VM or VPC: the path of a VM's socket must fit into a socket address (108 bytes).
pub(crate) const MAX_NAME: usize = 32;

/// Longest id of a sandbox, for the same reason.
pub(crate) const MAX_ID: usize = 24;

/// The documentation prefix, from which every VPC's IPv6 prefix is cut (RFC 3849).
const IPV6_DOCUMENTATION: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32);

impl Topology {
    /// Checks everything that can be known before anything is made.
    pub fn validate(&self) -> Result<()> {
        if let Some(ssh) = &self.ssh {
            check_ssh("ssh", ssh)?;
        }
        let mut vpc_names = BTreeSet::new();
        for (index, vpc) in self.vpcs.iter().enumerate() {
            let field = format!("vpcs[{index}]");
            check_name(&field, &vpc.name)?;
            check_unique(&field, &mut vpc_names, &vpc.name)?;
            check_vpc(&field, vpc)?;
        }
        self.check_ipv6_prefixes()?;
        for (index, peering) in self.peerings.iter().enumerate() {
            self.check_peering(&format!("peerings[{index}]"), index, peering)?;
        }
        self.check_machines()?;
        for (index, link) in self.wan.links.iter().enumerate() {
            self.check_link(&format!("wan.links[{index}]"), link)?;
        }
        Ok(())
    }

    fn check_machines(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for (index, vm) in self.vms.iter().enumerate() {
            let field = format!("vms[{index}]");
            check_name(&field, &vm.name)?;
            check_unique(&field, &mut names, &vm.name)?;
            check_disk(&field, vm.disk_mib)?;
            check_ssh_choice(&field, vm.ssh.as_ref())?;
            self.check_vm(&field, vm)?;
            let fixed = vm.private_address.map(|address| (vm.vpc.as_str(), address));
            if let Some((_, address)) = fixed.filter(|fixed| !taken.insert(*fixed)) {
                return Err(Error::invalid(
                    format!("{field}.private_address"),
                    format!("{address} is taken in its VPC"),
                ));
            }
        }
        for (index, vm) in self.internet.iter().enumerate() {
            let field = format!("internet[{index}]");
            check_name(&field, &vm.name)?;
            check_unique(&field, &mut names, &vm.name)?;
            check_word(&format!("{field}.region"), &vm.region)?;
            check_disk(&field, vm.disk_mib)?;
            check_ssh_choice(&field, vm.ssh.as_ref())?;
        }
        Ok(())
    }

    fn check_vm(&self, field: &str, vm: &VmSpec) -> Result<()> {
        let Some(vpc) = self.vpc(&vm.vpc) else {
            return Err(Error::invalid(format!("{field}.vpc"), format!("there is no VPC {:?}", vm.vpc)));
        };
        let Some(subnet) = vpc.subnets.iter().find(|subnet| subnet.name == vm.subnet) else {
            let problem = format!("VPC {:?} has no subnet {:?}", vpc.name, vm.subnet);
            return Err(Error::invalid(format!("{field}.subnet"), problem));
        };
        if vm.ipv6 && vpc.ipv6.is_none() {
            return Err(Error::invalid(format!("{field}.ipv6"), format!("VPC {:?} has no ipv6 prefix", vpc.name)));
        }
        if let Some(address) = vm.private_address.filter(|address| !is_usable(&subnet.cidr, *address)) {
            let problem =
                format!("{address} is not a host address of {} (the first one is the gateway's)", subnet.cidr);
            return Err(Error::invalid(format!("{field}.private_address"), problem));
        }
        Ok(())
    }

    fn check_peering(&self, field: &str, index: usize, Peering(a, b): &Peering) -> Result<()> {
        let mut ends = Vec::new();
        for name in [a, b] {
            let vpc = self.vpc(name);
            ends.push(vpc.ok_or_else(|| Error::invalid(field, format!("there is no VPC {name:?}")))?);
        }
        if a == b {
            return Err(Error::invalid(field, "a VPC cannot be peered with itself"));
        }
        if self.peerings[..index].iter().any(|other| (&other.0, &other.1) == (a, b) || (&other.1, &other.0) == (a, b)) {
            return Err(Error::invalid(field, format!("{a} and {b} are peered already")));
        }
        match overlap(&ends[0].cidrs, &ends[1].cidrs) {
            Some((x, y)) => {
                Err(Error::invalid(field, format!("{x} of {a} overlaps {y} of {b}: they cannot be peered")))
            }
            None => Ok(()),
        }
    }

    fn check_ipv6_prefixes(&self) -> Result<()> {
        let mut seen: Vec<(&str, Ipv6Net)> = Vec::new();
        for (index, vpc) in self.vpcs.iter().enumerate() {
            let Some(prefix) = vpc.ipv6 else { continue };
            let field = format!("vpcs[{index}].ipv6");
            if !IPV6_DOCUMENTATION.contains(&prefix) || !(48..=64).contains(&prefix.prefix_len()) {
                return Err(Error::invalid(field, format!("{prefix} is not a /48 to /64 of {IPV6_DOCUMENTATION}")));
            }
            if Ipv6Net::contains(&internet_ipv6_prefix(), &prefix) {
                return Err(Error::invalid(field, format!("{prefix} belongs to the machines on the internet")));
            }
            if vpc.subnets.len() as u64 > 1 << (64 - prefix.prefix_len()) {
                return Err(Error::invalid(field, format!("{prefix} has no /64 for each of its subnets")));
            }
            if let Some((other, _)) = seen.iter().find(|(_, other)| other.contains(&prefix) || prefix.contains(other)) {
                return Err(Error::invalid(field, format!("{prefix} overlaps the prefix of {other}; IPv6 has no NAT")));
            }
            seen.push((&vpc.name, prefix));
        }
        Ok(())
    }

    fn check_link(&self, field: &str, link: &WanLink) -> Result<()> {
        let sites = self.sites();
        for site in &link.between {
            if !sites.contains(site) {
                let problem = format!("{site:?} is not a site of this topology: {}", sites.join(", "));
                return Err(Error::invalid(format!("{field}.between"), problem));
            }
        }
        link.quality().validate(field)
    }
}

impl super::LinkQuality {
    pub(crate) fn validate(&self, field: &str) -> Result<()> {
        for (name, value) in [("delay_ms", self.delay_ms), ("jitter_ms", self.jitter_ms)] {
            if !(0.0..=10_000.0).contains(&value) {
                return Err(Error::invalid(format!("{field}.{name}"), format!("{value} is not 0 to 10000")));
            }
        }
        if !(0.0..=100.0).contains(&self.loss_percent) {
            let problem = format!("{} is not 0 to 100", self.loss_percent);
            return Err(Error::invalid(format!("{field}.loss_percent"), problem));
        }
        Ok(())
    }
}

/// The prefix that machines on the internet take their IPv6 addresses from.
pub(crate) const fn internet_ipv6_prefix() -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0), 48)
}

/// Whether a VM may have this address: inside, and neither network, broadcast nor gateway.
pub(crate) fn is_usable(subnet: &Ipv4Net, address: Ipv4Addr) -> bool {
    subnet.contains(&address)
        && address != subnet.network()
        && address != subnet.broadcast()
        && Some(address) != gateway(subnet)
}

/// The router's address in a subnet: the first host address, as in most clouds.
pub(crate) fn gateway(subnet: &Ipv4Net) -> Option<Ipv4Addr> {
    subnet.hosts().next()
}

/// Checks the id of a sandbox: it becomes a directory and a part of interface names.
pub(crate) fn check_id(id: &str) -> Result<()> {
    check_word("id", id)?;
    match id.len() {
        0..=MAX_ID => Ok(()),
        length => Err(Error::invalid("id", format!("has {length} characters, at most {MAX_ID} fit"))),
    }
}

fn check_vpc(field: &str, vpc: &Vpc) -> Result<()> {
    check_word(&format!("{field}.region"), &vpc.region)?;
    if vpc.cidrs.is_empty() {
        return Err(Error::invalid(format!("{field}.cidrs"), "needs at least one CIDR, such as 10.0.0.0/16"));
    }
    let mut names = BTreeSet::new();
    for (index, subnet) in vpc.subnets.iter().enumerate() {
        let field = format!("{field}.subnets[{index}]");
        check_name(&field, &subnet.name)?;
        check_unique(&field, &mut names, &subnet.name)?;
        check_subnet(&field, vpc, subnet)?;
        if let Some(other) = vpc.subnets[..index].iter().find(|other| overlaps(&other.cidr, &subnet.cidr)) {
            return Err(Error::invalid(format!("{field}.cidr"), format!("overlaps subnet {:?}", other.name)));
        }
    }
    Ok(())
}

fn check_subnet(field: &str, vpc: &Vpc, subnet: &Subnet) -> Result<()> {
    let field = format!("{field}.cidr");
    if subnet.cidr.trunc() != subnet.cidr {
        return Err(Error::invalid(field, format!("has host bits set; write {}", subnet.cidr.trunc())));
    }
    if subnet.cidr.prefix_len() > 29 {
        return Err(Error::invalid(field, format!("{} is too small; /29 is the smallest", subnet.cidr)));
    }
    if !vpc.cidrs.iter().any(|cidr| cidr.contains(&subnet.cidr)) {
        return Err(Error::invalid(field, format!("{} lies in no CIDR of its VPC", subnet.cidr)));
    }
    Ok(())
}

fn check_name(field: &str, name: &str) -> Result<()> {
    let field = format!("{field}.name");
    check_word(&field, name)?;
    match name.len() {
        0..=MAX_NAME => Ok(()),
        length => Err(Error::invalid(field, format!("has {length} characters, at most {MAX_NAME} fit"))),
    }
}

fn check_word(field: &str, word: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if word.is_empty() || word.starts_with('-') || !word.bytes().all(allowed) {
        return Err(Error::invalid(field, format!("{word:?} is not made of a-z, 0-9 and - (not first)")));
    }
    Ok(())
}

fn check_unique<'a>(field: &str, seen: &mut BTreeSet<&'a str>, name: &'a str) -> Result<()> {
    match seen.insert(name) {
        true => Ok(()),
        false => Err(Error::invalid(format!("{field}.name"), format!("{name:?} is used twice"))),
    }
}

fn check_disk(field: &str, mib: u32) -> Result<()> {
    match mib {
        1.. => Ok(()),
        0 => Err(Error::invalid(format!("{field}.disk_mib"), "a disk needs at least 1 MiB")),
    }
}

fn check_ssh_choice(field: &str, choice: Option<&SshChoice>) -> Result<()> {
    match choice {
        Some(SshChoice::On(ssh)) => check_ssh(&format!("{field}.ssh"), ssh),
        Some(SshChoice::Off) | None => Ok(()),
    }
}

fn check_ssh(field: &str, ssh: &Ssh) -> Result<()> {
    check_word(&format!("{field}.user"), &ssh.user)?;
    for (index, line) in ssh.authorized_keys.iter().enumerate() {
        if line.contains('\n') || line.split_whitespace().count() < 2 {
            let problem = "is not a line of an authorized_keys file, such as \"ssh-ed25519 AAAA…\"";
            return Err(Error::invalid(format!("{field}.authorized_keys[{index}]"), problem));
        }
    }
    Ok(())
}

fn overlaps(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

fn overlap(a: &[Ipv4Net], b: &[Ipv4Net]) -> Option<(Ipv4Net, Ipv4Net)> {
    a.iter().find_map(|x| b.iter().find(|y| overlaps(x, y)).map(|y| (*x, *y)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Topology)) -> String {
        let mut topology = Topology::demo();
        change(&mut topology);
        topology.validate().expect_err("the topology must be refused").to_string()
    }

    #[test]
    fn the_same_cidr_may_be_in_two_vpcs() {
        let demo = Topology::demo();
        assert_eq!(demo.vpc("aws-seoul").map(|vpc| &vpc.cidrs), demo.vpc("gcp-iowa").map(|vpc| &vpc.cidrs));
        demo.validate().expect("overlapping VPCs are the point");
    }

    #[test]
    fn errors_name_the_field_and_the_remedy() {
        assert_eq!(refused(|t| t.vms[1].vpc = "nowhere".into()), "vms[1].vpc: there is no VPC \"nowhere\"");
        assert!(refused(|t| t.vms[0].name = "A B".into()).starts_with("vms[0].name: \"A B\" is not made of"));
        assert!(refused(|t| t.vms[1].name = t.vms[0].name.clone()).contains("used twice"));
        assert!(refused(|t| t.vms[0].subnet = "x".into()).starts_with("vms[0].subnet"));
        assert!(refused(|t| t.vms[0].ipv6 = true).starts_with("vms[0].ipv6"));
        assert!(refused(|t| t.internet[0].disk_mib = 0).starts_with("internet[0].disk_mib"));
        let ssh = |user: &str, key: &str| Ssh { user: user.into(), authorized_keys: vec![key.into()], sudo: true };
        assert!(refused(|t| t.ssh = Some(ssh("A B", "ssh-ed25519 AAAA"))).starts_with("ssh.user"));
        let problem = refused(|t| t.vms[2].ssh = Some(SshChoice::On(ssh("debian", "AAAA"))));
        assert!(problem.starts_with("vms[2].ssh.authorized_keys[0]: is not a line"), "{problem}");
        assert!(refused(|t| t.wan.links[0].between[0] = "mars/olympus".into()).contains("is not a site"));
        assert!(refused(|t| t.wan.links[0].loss_percent = 101.0).contains("loss_percent"));
    }

    #[test]
    fn a_subnet_must_lie_in_its_vpc_and_apart_from_its_neighbours() {
        let set = |cidr: &str| {
            let cidr: Ipv4Net = cidr.parse().expect("a CIDR");
            refused(|t| t.vpcs[0].subnets[1].cidr = cidr)
        };
        assert!(set("10.0.1.0/25").contains("overlaps subnet"));
        assert!(set("192.168.0.0/24").contains("lies in no CIDR"));
        assert!(set("10.0.9.1/24").contains("write 10.0.9.0/24"));
        assert!(set("10.0.9.0/30").contains("too small"));
    }

    #[test]
    fn vpcs_that_overlap_cannot_be_peered() {
        let problem = refused(|t| t.peerings.push(Peering("aws-seoul".into(), "gcp-iowa".into())));
        assert!(problem.contains("overlaps 10.0.0.0/16 of gcp-iowa"), "{problem}");
    }

    #[test]
    fn a_fixed_address_is_a_host_address_of_its_subnet() {
        let set = |address: &str| {
            let address: Ipv4Addr = address.parse().expect("an address");
            refused(|t| t.vms[0].private_address = Some(address))
        };
        for address in ["10.0.1.0", "10.0.1.1", "10.0.1.255", "10.0.2.5"] {
            assert!(set(address).contains("not a host address"), "{address}");
        }
    }
}
