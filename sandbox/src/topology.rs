//! What a sandbox is made of, as a person writes it (YAML or JSON): VPCs, peerings, VMs, machines on the internet, the WAN.
//!
//! Pure data and its validation (`validate`). Addresses that nobody chose are chosen by [`crate::state`].

mod validate;

pub(crate) use validate::{check_id, gateway, internet_ipv6_prefix, is_usable};

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};

/// Size of a VM's disk unless its topology says otherwise; it is memory that is used only when written.
const DEFAULT_DISK_MIB: u32 = 512;

/// The whole cloud.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    #[serde(default)]
    pub vpcs: Vec<Vpc>,
    #[serde(default)]
    pub peerings: Vec<Peering>,
    #[serde(default)]
    pub vms: Vec<VmSpec>,
    /// Machines that stand directly on the internet with a public address of their own, such as a control plane.
    #[serde(default)]
    pub internet: Vec<InternetVm>,
    #[serde(default)]
    pub wan: Wan,
    /// The SSH server of every machine that does not say otherwise; none if absent.
    #[serde(default)]
    pub ssh: Option<Ssh>,
}

/// A machine's SSH server: OpenSSH, public keys only, host keys of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// Who may log in; made inside the machine if need be. Only with `root` does root log in.
    pub user: String,
    /// Lines of `~/.ssh/authorized_keys`.
    pub authorized_keys: Vec<String>,
    /// Whether the user may become root without a password.
    #[serde(default = "yes")]
    pub sudo: bool,
}

/// What a machine says of SSH in the place of its topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SshChoice {
    /// Nothing listens.
    Off,
    #[serde(untagged)]
    On(Ssh),
}

/// Who runs a VPC; it decides which metadata service its VMs see and which public range they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Alibaba,
    Aws,
    Azure,
    Gcp,
    Ibm,
    Kt,
    Ncp,
    Nhn,
    Openstack,
    Oracle,
    Tencent,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alibaba => "alibaba",
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Gcp => "gcp",
            Self::Ibm => "ibm",
            Self::Kt => "kt",
            Self::Ncp => "ncp",
            Self::Nhn => "nhn",
            Self::Openstack => "openstack",
            Self::Oracle => "oracle",
            Self::Tencent => "tencent",
        })
    }
}

/// A virtual private cloud: one router, a network of its own. Several VPCs may use the same CIDRs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    pub name: String,
    pub provider: Provider,
    pub region: String,
    /// Account, project or subscription; only told by metadata services.
    #[serde(default)]
    pub account: Option<String>,
    pub cidrs: Vec<Ipv4Net>,
    /// A part of 2001:db8::/32, /48 to /64; the n-th subnet gets its n-th /64. Routed without NAT.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
    pub subnets: Vec<Subnet>,
    #[serde(default)]
    pub security_group: SecurityGroup,
    /// How long the router remembers an idle UDP flow; the kernel's defaults (30 s, 120 s when used both ways) if absent.
    #[serde(default)]
    pub udp_timeout_seconds: Option<u32>,
}

impl Vpc {
    /// Where the VPC meets the WAN: `provider/region`.
    pub fn site(&self) -> String {
        format!("{}/{}", self.provider, self.region)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    pub name: String,
    pub cidr: Ipv4Net,
    #[serde(default)]
    pub zone: Option<String>,
}

/// Two VPCs whose routers reach each other privately; as in the clouds it does not reach a third VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peering(pub String, pub String);

/// What may reach a VM from outside its VPC; answers to what the VM sent always may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityGroup {
    pub tcp: Vec<u16>,
    pub udp: Vec<u16>,
    pub icmp: bool,
}

impl Default for SecurityGroup {
    /// SSH and the tunnel's port.
    fn default() -> Self {
        Self { tcp: vec![22], udp: vec![8055], icmp: false }
    }
}

/// How a VM's packets reach the internet over IPv4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NatKind {
    /// A public address stands for the VM in both directions, as every cloud's public address does.
    #[default]
    OneToOne,
    /// A mapping keeps its port for every destination, and only an address and port that was sent to may answer.
    PortRestricted,
    /// No way to the internet.
    None,
}

/// Whether the instance metadata service answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetadataService {
    /// As the VPC's provider does; providers without a service here never answer.
    #[default]
    Provider,
    /// Packets to it disappear, as on a machine that is not in a cloud.
    None,
}

/// A VM in a subnet of a VPC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    pub name: String,
    pub vpc: String,
    pub subnet: String,
    /// Only where the subnet's zone is not the VM's (GCP's subnets span zones).
    #[serde(default)]
    pub zone: Option<String>,
    #[serde(default)]
    pub private_address: Option<Ipv4Addr>,
    #[serde(default)]
    pub nat: NatKind,
    #[serde(default)]
    pub ipv6: bool,
    /// The VPC's if absent.
    #[serde(default)]
    pub security_group: Option<SecurityGroup>,
    #[serde(default)]
    pub metadata: MetadataService,
    #[serde(default = "default_disk_mib")]
    pub disk_mib: u32,
    /// Whether there is a `/dev/net/tun`.
    #[serde(default = "yes")]
    pub tun: bool,
    /// The topology's if absent.
    #[serde(default)]
    pub ssh: Option<SshChoice>,
}

impl VmSpec {
    /// A VM with one-to-one NAT and everything else as usual.
    pub fn new(name: impl Into<String>, vpc: impl Into<String>, subnet: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            vpc: vpc.into(),
            subnet: subnet.into(),
            zone: None,
            private_address: None,
            nat: NatKind::default(),
            ipv6: false,
            security_group: None,
            metadata: MetadataService::default(),
            disk_mib: DEFAULT_DISK_MIB,
            tun: true,
            ssh: None,
        }
    }
}

/// A machine directly on the internet: no VPC, no NAT, no security group, no metadata service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InternetVm {
    pub name: String,
    /// Where it meets the WAN: its site is `internet/<region>`.
    pub region: String,
    /// A link to the host, so that programs outside the sandbox reach this machine (see [`crate::Vm::host_access`]).
    #[serde(default)]
    pub host_access: bool,
    #[serde(default)]
    pub ipv6: bool,
    #[serde(default = "default_disk_mib")]
    pub disk_mib: u32,
    #[serde(default = "yes")]
    pub tun: bool,
    /// The topology's if absent.
    #[serde(default)]
    pub ssh: Option<SshChoice>,
}

impl InternetVm {
    /// A machine without a link to the host and everything else as usual.
    pub fn new(name: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            region: region.into(),
            host_access: false,
            ipv6: false,
            disk_mib: DEFAULT_DISK_MIB,
            tun: true,
            ssh: None,
        }
    }

    pub fn site(&self) -> String {
        format!("internet/{}", self.region)
    }
}

/// Delay and loss between sites; a pair that is not listed gets a delay by distance (see [`crate::geography`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wan {
    #[serde(default)]
    pub links: Vec<WanLink>,
}

/// One pair of sites, both directions alike. A site may be paired with itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WanLink {
    pub between: [String; 2],
    /// One way: half of the round trip.
    pub delay_ms: f64,
    #[serde(default)]
    pub jitter_ms: f64,
    #[serde(default)]
    pub loss_percent: f64,
}

impl WanLink {
    pub fn quality(&self) -> LinkQuality {
        let Self { delay_ms, jitter_ms, loss_percent, .. } = *self;
        LinkQuality { delay_ms, jitter_ms, loss_percent, blackhole: false }
    }
}

/// How a pair of sites carries packets, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkQuality {
    /// One way: half of the round trip.
    pub delay_ms: f64,
    /// Added to the delay, evenly spread from nothing to this; packets of a pair never overtake each other.
    #[serde(default)]
    pub jitter_ms: f64,
    #[serde(default)]
    pub loss_percent: f64,
    /// Nothing passes.
    #[serde(default)]
    pub blackhole: bool,
}

impl Topology {
    /// The built-in example: three clouds, two of them with the same addresses, and a control plane.
    pub fn demo() -> Self {
        Self::from_yaml(include_str!("../topologies/demo.yaml")).expect("the built-in topology is valid")
    }

    /// Parses and validates YAML; JSON is YAML too.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let topology: Self =
            serde_norway::from_str(text).map_err(|error| Error::invalid("topology", error.to_string()))?;
        topology.validate()?;
        Ok(topology)
    }

    /// Reads a topology from a `.yaml` or `.json` file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
        Self::from_yaml(&text)
    }

    pub(crate) fn vpc(&self, name: &str) -> Option<&Vpc> {
        self.vpcs.iter().find(|vpc| vpc.name == name)
    }

    /// The SSH server of a machine that says `choice`.
    pub(crate) fn ssh<'a>(&'a self, choice: Option<&'a SshChoice>) -> Option<&'a Ssh> {
        match choice {
            Some(SshChoice::Off) => None,
            Some(SshChoice::On(ssh)) => Some(ssh),
            None => self.ssh.as_ref(),
        }
    }

    /// The SSH servers of all machines.
    pub(crate) fn ssh_servers(&self) -> impl Iterator<Item = &Ssh> {
        let choices = self.vms.iter().map(|vm| &vm.ssh).chain(self.internet.iter().map(|vm| &vm.ssh));
        choices.filter_map(|choice| self.ssh(choice.as_ref()))
    }

    /// The sites of the WAN, each once, sorted.
    pub(crate) fn sites(&self) -> Vec<String> {
        let vpcs = self.vpcs.iter().map(Vpc::site);
        let mut sites: Vec<String> = vpcs.chain(self.internet.iter().map(InternetVm::site)).collect();
        sites.sort();
        sites.dedup();
        sites
    }
}

fn default_disk_mib() -> u32 {
    DEFAULT_DISK_MIB
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topology_of_the_readme_is_valid() {
        let readme = include_str!("../README.md");
        let yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
        let topology = Topology::from_yaml(yaml.expect("the README shows a topology")).expect("it is valid");
        assert_eq!((topology.vpcs.len(), topology.vms.len(), topology.internet.len()), (2, 2, 1));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error =
            Topology::from_yaml("vms:\n  - { name: a, vpc: x, subnet: s, foo: 1 }\n").expect_err("foo is unknown");
        assert!(error.to_string().contains("unknown field `foo`") && error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn a_machine_may_say_otherwise_of_ssh_than_its_topology() {
        let text = "
ssh: { user: debian, authorized_keys: [ssh-ed25519 AAAA] }
internet:
  - { name: plain, region: seoul }
  - { name: closed, region: seoul, ssh: off }
  - { name: root, region: seoul, ssh: { user: root, authorized_keys: [ssh-ed25519 AAAA], sudo: false } }
";
        let topology = Topology::from_yaml(text).expect("it is valid");
        let ssh = |index: usize| topology.ssh(topology.internet[index].ssh.as_ref());
        assert_eq!(ssh(0).map(|ssh| (ssh.user.as_str(), ssh.sudo)), Some(("debian", true)));
        assert_eq!(ssh(1), None);
        assert_eq!(ssh(2).map(|ssh| (ssh.user.as_str(), ssh.sudo)), Some(("root", false)));
        let json = serde_json::to_string(&topology).expect("it can be written");
        assert_eq!(Topology::from_yaml(&json).expect("it is valid"), topology);
    }

    #[test]
    fn json_is_read_as_well() {
        let json = serde_json::to_string(&Topology::demo()).expect("it can be written");
        assert_eq!(Topology::from_yaml(&json).expect("it is valid"), Topology::demo());
    }
}
