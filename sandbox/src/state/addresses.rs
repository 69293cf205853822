//! Which address a machine gets: private ones from its subnet, public ones from the documentation ranges (RFC 5737),
//! links to the host from the benchmarking range (RFC 2544).

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Place, State};
use crate::error::{Error, Result};
use crate::topology::{Provider, Subnet, is_usable};

/// Automatic private addresses start here, as the clouds keep the first ones for themselves.
const FIRST_HOST: u32 = 10;

const TEST_NET_1: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24);
const TEST_NET_2: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24);
const TEST_NET_3: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24);
const BENCHMARKING: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);

impl State {
    /// A public address that nobody had before; one that was given up long ago only when a range is used up.
    pub(crate) fn next_public_address(&mut self, provider: Option<Provider>) -> Result<Ipv4Addr> {
        let preferred = match provider {
            Some(Provider::Aws) => TEST_NET_1,
            Some(Provider::Azure) => TEST_NET_2,
            _ => TEST_NET_3,
        };
        let ranges = || [preferred, TEST_NET_1, TEST_NET_2, TEST_NET_3].into_iter().flat_map(|range| range.hosts());
        let in_use: Vec<Ipv4Addr> = self.public_addresses().collect();
        let never_used = ranges().find(|address| !self.used_public.contains(address));
        let free = never_used.or_else(|| ranges().find(|address| !in_use.contains(address)));
        let address = free.ok_or_else(|| Error::invalid("topology", "all 762 public addresses are in use"))?;
        self.used_public.insert(address);
        Ok(address)
    }

    fn public_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let vms = self.vms.values().filter_map(super::Machine::public_address);
        vms.chain(self.routers.values().map(|router| router.public_address))
    }

    pub(super) fn free_private_address(&self, vpc: &str, subnet: &Subnet) -> Result<Ipv4Addr> {
        let chosen = self.topology.vms.iter().filter(|vm| vm.vpc == vpc).filter_map(|vm| vm.private_address);
        let taken: Vec<Ipv4Addr> = chosen.chain(self.vms_of(vpc).filter_map(|(_, vm)| vm.private_address())).collect();
        let free = |address: &Ipv4Addr| is_usable(&subnet.cidr, *address) && !taken.contains(address);
        let network = u32::from(subnet.cidr.network());
        let usual = subnet.cidr.hosts().filter(|address| u32::from(*address) - network >= FIRST_HOST);
        let found = usual.chain(subnet.cidr.hosts()).find(free);
        found.ok_or_else(|| Error::invalid(format!("subnet {:?}", subnet.name), format!("{} is full", subnet.cidr)))
    }

    /// Gives every machine that asks for it a /30 to the host, from those that `free` approves of.
    pub(crate) fn choose_host_access(&mut self, free: impl Fn(&Ipv4Net) -> bool) -> Result<()> {
        let mut candidates = host_access_candidates().filter(free);
        for spec in self.topology.internet.iter().filter(|spec| spec.host_access) {
            let Some(Place::Internet { host_access, .. }) = self.vms.get_mut(&spec.name).map(|vm| &mut vm.place) else {
                continue;
            };
            let found = candidates.next();
            let missing = || Error::Conflict("no /30 of 198.18.0.0/15 is free on this host for host_access".into());
            *host_access = Some(found.ok_or_else(missing)?);
        }
        Ok(())
    }
}

/// Every /30 that a link to the host may use.
pub(crate) fn host_access_candidates() -> impl Iterator<Item = Ipv4Net> {
    BENCHMARKING.subnets(30).expect("30 is longer than 15")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    fn demo() -> State {
        State::plan("demo", &Topology::demo(), || "0".repeat(32)).expect("the demo can be planned")
    }

    #[test]
    fn every_public_address_is_unique_and_of_its_providers_range() {
        let state = demo();
        let mut all: Vec<Ipv4Addr> = state.public_addresses().collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        let public = |name: &str| state.vms[name].public_address().expect("it has one");
        assert!(TEST_NET_1.contains(&public("aws-1")));
        assert!(TEST_NET_2.contains(&public("azure-1")));
        assert!(TEST_NET_3.contains(&public("gcp-1")) && TEST_NET_3.contains(&public("control")));
    }

    #[test]
    fn private_addresses_may_be_equal_in_different_vpcs_only() {
        let state = demo();
        let private = |name: &str| state.vms[name].private_address().expect("it has one");
        assert_eq!(private("aws-1"), Ipv4Addr::new(10, 0, 1, 10));
        assert_eq!(private("gcp-1"), private("aws-1"));
        assert_ne!(private("aws-2"), private("aws-1"));
    }

    #[test]
    fn a_new_public_address_was_never_used_before() {
        let mut state = demo();
        let mut seen: Vec<Ipv4Addr> = state.public_addresses().collect();
        for _ in 0..300 {
            let next = state.next_public_address(Some(Provider::Gcp)).expect("there are enough");
            assert!(!seen.contains(&next));
            seen.push(next);
        }
    }

    #[test]
    fn a_small_subnet_is_filled_to_its_last_address() {
        let mut topology = Topology::demo();
        topology.vpcs[0].subnets[0].cidr = "10.0.1.0/29".parse().expect("a CIDR");
        let template = topology.vms[0].clone();
        topology.vms.extend((0..4).map(|n| crate::topology::VmSpec { name: format!("more-{n}"), ..template.clone() }));
        State::plan("small", &topology, String::new).expect("five hosts fit into a /29 beside the gateway");
        topology.vms.push(crate::topology::VmSpec { name: "last".into(), ..template });
        let error = State::plan("small", &topology, String::new).expect_err("the sixth does not fit");
        assert_eq!(error.to_string(), "subnet \"aws-a1\": 10.0.1.0/29 is full");
    }
}
