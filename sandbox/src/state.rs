//! The record of one sandbox: its topology, what was chosen for each machine, and what has been changed since.
//!
//! Pure: how a record is kept on disk is [`crate::directory`]'s business. Rules, routes and metadata all follow from a
//! record alone, so every change is "edit the record, apply it".

mod addresses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

pub(crate) use addresses::host_access_candidates;

use crate::error::{Error, Result};
use crate::geography::default_quality;
use crate::topology::{
    InternetVm, LinkQuality, MetadataService, NatKind, Provider, SecurityGroup, Ssh, Subnet, Topology, VmSpec, Vpc,
};

/// Everything known of a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub id: String,
    pub topology: Topology,
    pub routers: BTreeMap<String, Router>,
    pub vms: BTreeMap<String, Machine>,
    /// From one site to another, where the quality is not the default by distance.
    pub links: Vec<Link>,
    pub blocks: BTreeSet<Block>,
    /// File that receives everything on the WAN.
    pub capture: Option<String>,
    /// Every public address ever given, so that a new one is new.
    used_public: BTreeSet<Ipv4Addr>,
}

/// The router of a VPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    /// Source of its ICMP errors.
    pub public_address: Ipv4Addr,
    pub security_group: SecurityGroup,
}

/// A VM or a machine on the internet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Unique in the sandbox; interface names and the MAC follow from it.
    pub index: u32,
    pub machine_id: String,
    pub disk_mib: u32,
    pub tun: bool,
    pub suspended: bool,
    pub ipv6_address: Option<Ipv6Addr>,
    pub ssh: Option<Ssh>,
    /// What happens to its TCP connections, by its own port.
    #[serde(default)]
    pub tcp_faults: BTreeMap<u16, TcpFault>,
    pub place: Place,
}

/// What happens to the connections to a port of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpFault {
    /// Nothing passes either way, and nobody is told.
    BlackHole,
    /// Whatever the other side sends is answered with a reset.
    Reset,
}

/// Where a machine stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    Vpc {
        vpc: String,
        subnet: String,
        zone: Option<String>,
        private_address: Ipv4Addr,
        nat: NatKind,
        /// None without NAT.
        public_address: Option<Ipv4Addr>,
        /// None: its VPC's.
        security_group: Option<SecurityGroup>,
        metadata: MetadataService,
    },
    Internet {
        site: String,
        public_address: Ipv4Addr,
        /// The /30 of its link to the host: the host has the first address, the machine the second.
        host_access: Option<Ipv4Net>,
    },
}

/// How one site's packets reach another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub from: String,
    pub to: String,
    pub quality: LinkQuality,
}

/// Packets of one machine that never reach another, one way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub from: String,
    pub to: String,
    pub path: BlockedPath,
}

/// Which addresses of the other machine are out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockedPath {
    Private,
    Public,
}

impl State {
    /// Chooses every address of a valid topology. `machine_id` gives a fresh machine id each time.
    pub fn plan(id: &str, topology: &Topology, mut machine_id: impl FnMut() -> String) -> Result<Self> {
        let mut state = Self {
            id: id.to_owned(),
            topology: topology.clone(),
            routers: BTreeMap::new(),
            vms: BTreeMap::new(),
            links: Vec::new(),
            blocks: BTreeSet::new(),
            capture: None,
            used_public: BTreeSet::new(),
        };
        for vpc in &topology.vpcs {
            let public_address = state.next_public_address(Some(vpc.provider))?;
            let router = Router { public_address, security_group: vpc.security_group.clone() };
            state.routers.insert(vpc.name.clone(), router);
        }
        for link in &topology.wan.links {
            let [a, b] = &link.between;
            state.set_link(a, b, link.quality());
            state.set_link(b, a, link.quality());
        }
        for vm in &topology.vms {
            state.plan_vm(vm, machine_id())?;
        }
        for vm in &topology.internet {
            state.plan_internet_vm(vm, machine_id())?;
        }
        Ok(state)
    }

    pub(crate) fn plan_vm(&mut self, vm: &VmSpec, machine_id: String) -> Result<()> {
        let vpc = self.topology.vpc(&vm.vpc).expect("the topology is valid").clone();
        let subnet_index =
            vpc.subnets.iter().position(|subnet| subnet.name == vm.subnet).expect("the topology is valid");
        let subnet = &vpc.subnets[subnet_index];
        let private_address = match vm.private_address {
            Some(address) => address,
            None => self.free_private_address(&vpc.name, subnet)?,
        };
        let public_address = match vm.nat {
            NatKind::None => None,
            NatKind::OneToOne | NatKind::PortRestricted => Some(self.next_public_address(Some(vpc.provider))?),
        };
        let index = self.next_index();
        let ipv6_address =
            vm.ipv6.then(|| vpc.ipv6_subnet(subnet_index)).flatten().map(|net| host_of(net, index + 0x10));
        let place = Place::Vpc {
            vpc: vpc.name.clone(),
            subnet: subnet.name.clone(),
            zone: vm.zone.clone().or_else(|| subnet.zone.clone()),
            private_address,
            nat: vm.nat,
            public_address,
            security_group: vm.security_group.clone(),
            metadata: vm.metadata,
        };
        let VmSpec { disk_mib, tun, .. } = *vm;
        let ssh = self.topology.ssh(vm.ssh.as_ref()).cloned();
        let tcp_faults = BTreeMap::new();
        let machine =
            Machine { index, machine_id, disk_mib, tun, suspended: false, ipv6_address, ssh, tcp_faults, place };
        self.vms.insert(vm.name.clone(), machine);
        Ok(())
    }

    fn plan_internet_vm(&mut self, vm: &InternetVm, machine_id: String) -> Result<()> {
        let public_address = self.next_public_address(None)?;
        let index = self.next_index();
        let prefix = crate::topology::internet_ipv6_prefix();
        let ipv6_address = vm.ipv6.then(|| host_of(prefix, index + 0x10));
        let place = Place::Internet { site: vm.site(), public_address, host_access: None };
        let InternetVm { disk_mib, tun, .. } = *vm;
        let ssh = self.topology.ssh(vm.ssh.as_ref()).cloned();
        let tcp_faults = BTreeMap::new();
        let machine =
            Machine { index, machine_id, disk_mib, tun, suspended: false, ipv6_address, ssh, tcp_faults, place };
        self.vms.insert(vm.name.clone(), machine);
        Ok(())
    }

    /// Forgets a VM of a VPC, and what was said of it.
    pub(crate) fn remove_vm(&mut self, name: &str) -> Result<()> {
        if let Place::Internet { .. } = self.vm(name)?.place {
            return Err(Error::Conflict(format!("{name} stands on the internet and stays as long as the sandbox")));
        }
        self.vms.remove(name);
        self.topology.vms.retain(|vm| vm.name != name);
        self.blocks.retain(|block| block.from != name && block.to != name);
        Ok(())
    }

    fn next_index(&self) -> u32 {
        (0..).find(|index| self.vms.values().all(|vm| vm.index != *index)).unwrap_or_default()
    }

    pub(crate) fn vm(&self, name: &str) -> Result<&Machine> {
        self.vms.get(name).ok_or_else(|| self.no_vm(name))
    }

    pub(crate) fn vm_mut(&mut self, name: &str) -> Result<&mut Machine> {
        let missing = self.no_vm(name);
        self.vms.get_mut(name).ok_or(missing)
    }

    fn no_vm(&self, name: &str) -> Error {
        let known = self.vms.keys().cloned().collect::<Vec<_>>().join(", ");
        Error::NotFound { sandbox: self.id.clone(), kind: "VM", name: name.to_owned(), known }
    }

    /// The machines of a VPC with their names.
    pub(crate) fn vms_of<'a>(&'a self, vpc: &'a str) -> impl Iterator<Item = (&'a str, &'a Machine)> {
        let of_vpc = move |vm: &Machine| matches!(&vm.place, Place::Vpc { vpc: its, .. } if its == vpc);
        self.vms.iter().filter(move |(_, vm)| of_vpc(vm)).map(|(name, vm)| (name.as_str(), vm))
    }

    /// The security group in force for a VM of a VPC.
    pub(crate) fn security_group<'a>(&'a self, vm: &'a Machine) -> Option<&'a SecurityGroup> {
        match &vm.place {
            Place::Vpc { security_group: Some(group), .. } => Some(group),
            Place::Vpc { vpc, .. } => Some(&self.routers[vpc].security_group),
            Place::Internet { .. } => None,
        }
    }

    /// The sites of the WAN (`provider/region`), each once, sorted.
    pub fn sites(&self) -> Vec<String> {
        self.topology.sites()
    }

    /// How one site's packets reach another now.
    pub fn link(&self, from: &str, to: &str) -> LinkQuality {
        let stated = self.links.iter().find(|link| link.from == from && link.to == to);
        stated.map_or_else(|| default_quality(from, to), |link| link.quality)
    }

    pub(crate) fn set_link(&mut self, from: &str, to: &str, quality: LinkQuality) {
        self.links.retain(|link| link.from != from || link.to != to);
        self.links.push(Link { from: from.to_owned(), to: to.to_owned(), quality });
    }

    /// The peerings of a VPC: index of the peering, which end (0 or 1) the VPC is, and the other VPC.
    pub(crate) fn peerings_of<'a>(&'a self, vpc: &'a str) -> impl Iterator<Item = (usize, u8, &'a Vpc)> {
        self.topology.peerings.iter().enumerate().filter_map(move |(index, peering)| {
            let (end, other) = match (peering.0 == vpc, peering.1 == vpc) {
                (true, _) => (0, &peering.1),
                (_, true) => (1, &peering.0),
                _ => return None,
            };
            Some((index, end, self.topology.vpc(other).expect("the topology is valid")))
        })
    }
}

impl Machine {
    /// The address other machines of its VPC know.
    pub fn private_address(&self) -> Option<Ipv4Addr> {
        match &self.place {
            Place::Vpc { private_address, .. } => Some(*private_address),
            Place::Internet { .. } => None,
        }
    }

    /// The address it is seen with on the WAN now.
    pub fn public_address(&self) -> Option<Ipv4Addr> {
        match &self.place {
            Place::Vpc { public_address, .. } => *public_address,
            Place::Internet { public_address, .. } => Some(*public_address),
        }
    }

    /// Whether the public address is its own, rather than that of a NAT gateway.
    pub(crate) fn has_public_address(&self) -> bool {
        match self.place {
            Place::Vpc { nat, .. } => nat == NatKind::OneToOne,
            Place::Internet { .. } => true,
        }
    }

    /// Every address it is reached at over the WAN.
    pub(crate) fn public_addresses(&self) -> Vec<IpAddr> {
        let v4 = self.public_address().map(IpAddr::V4);
        v4.into_iter().chain(self.ipv6_address.map(IpAddr::V6)).collect()
    }

    /// The router's interface that leads to it.
    pub(crate) fn port(&self) -> String {
        format!("vm{}", self.index)
    }

    /// The hardware address of its `eth0`: locally administered, unique in the sandbox.
    pub fn mac_address(&self) -> [u8; 6] {
        let [a, b, c, d] = self.index.to_be_bytes();
        [0x02, 0xcb, a, b, c, d]
    }
}

impl Vpc {
    /// The /64 of the subnet with this index, if the VPC has IPv6.
    pub(crate) fn ipv6_subnet(&self, index: usize) -> Option<Ipv6Net> {
        let prefix = self.ipv6?;
        prefix.subnets(64).ok()?.nth(index)
    }

    /// What the VPC's router routes: its CIDRs and its IPv6 prefix.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.cidrs.iter().copied().map(IpNet::V4).chain(self.ipv6.map(IpNet::V6))
    }

    pub(crate) fn subnet(&self, name: &str) -> Option<(usize, &Subnet)> {
        self.subnets.iter().enumerate().find(|(_, subnet)| subnet.name == name)
    }
}

/// The host with this number in an IPv6 prefix.
pub(crate) fn host_of(net: Ipv6Net, number: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(net.network()) | u128::from(number))
}

/// The provider whose public range an address comes from is a reading aid only: see `addresses`.
pub(crate) fn provider_of(state: &State, vm: &Machine) -> Option<Provider> {
    match &vm.place {
        Place::Vpc { vpc, .. } => state.topology.vpc(vpc).map(|vpc| vpc.provider),
        Place::Internet { .. } => None,
    }
}
