//! What a metadata service knows of the VM that asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::state::{Place, State};
use crate::topology::gateway;

/// One VM, as its provider sees it.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) machine_id: String,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) zone: Option<String>,
    pub(super) vpc: String,
    pub(super) vpc_cidrs: Vec<Ipv4Net>,
    pub(super) vpc_ipv6: Option<Ipv6Net>,
    pub(super) subnet: String,
    pub(super) subnet_cidr: Ipv4Net,
    pub(super) subnet_ipv6: Option<Ipv6Net>,
    pub(super) private_address: Ipv4Addr,
    pub(super) public_address: Option<Ipv4Addr>,
    pub(super) ipv6_address: Option<Ipv6Addr>,
    pub(super) mac: [u8; 6],
}

impl Facts {
    /// The facts of the VM with this address in a VPC.
    pub(super) fn of(state: &State, vpc: &str, client: IpAddr) -> Option<Self> {
        let (name, vm) = state.vms_of(vpc).find(|(_, vm)| vm.private_address().map(IpAddr::V4) == Some(client))?;
        let Place::Vpc { subnet, zone, private_address, public_address, .. } = &vm.place else { return None };
        let vpc = state.topology.vpc(vpc)?;
        let (index, subnet) = vpc.subnet(subnet)?;
        Some(Self {
            name: name.to_owned(),
            machine_id: vm.machine_id.clone(),
            account: vpc.account.clone().unwrap_or_else(|| "000000000000".to_owned()),
            region: vpc.region.clone(),
            zone: zone.clone(),
            vpc: vpc.name.clone(),
            vpc_cidrs: vpc.cidrs.clone(),
            vpc_ipv6: vpc.ipv6,
            subnet: subnet.name.clone(),
            subnet_cidr: subnet.cidr,
            subnet_ipv6: vpc.ipv6_subnet(index),
            private_address: *private_address,
            // A NAT gateway's address is not the VM's, and no provider tells it.
            public_address: public_address.filter(|_| vm.has_public_address()),
            ipv6_address: vm.ipv6_address,
            mac: vm.mac_address(),
        })
    }

    pub(super) fn gateway(&self) -> Option<Ipv4Addr> {
        gateway(&self.subnet_cidr)
    }

    /// `02:cb:00:00:00:01`.
    pub(super) fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The machine's id in the shape of a UUID.
    pub(super) fn uuid(&self) -> String {
        uuid(&self.machine_id)
    }
}

/// 32 hexadecimal digits in the shape of a UUID.
fn uuid(digits: &str) -> String {
    let part = |range| digits.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

/// A number that stands for a name, the same on every machine and every day (FNV-1a).
pub(super) fn number(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An id as AWS makes them: `vpc-` and 17 digits.
pub(super) fn identifier(prefix: &str, name: &str) -> String {
    format!("{prefix}-{:017x}", number(name))
}

/// A UUID that stands for a name.
pub(super) fn name_uuid(name: &str) -> String {
    uuid(&format!("{:016x}{:016x}", number(name), number(&format!("{name}/"))))
}
