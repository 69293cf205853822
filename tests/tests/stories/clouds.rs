//! Topologies of the stories, as small as each can be.

use cladnet_sandbox::Topology;

const CONTROL: &str = "internet:\n  - { name: control, region: seoul, host_access: true, ipv6: true }\n";

/// Two VMs in two subnets of one AWS VPC, and one in a GCP VPC with the same range; close to each other. In one zone, where
/// the private path is the cheaper one: between two, the round trips decide.
pub(crate) fn overlapping() -> Topology {
    overlapping_with("ap-northeast-2a")
}

/// The same with the AWS VMs in two zones, between which private bytes cost something.
pub(crate) fn overlapping_across_zones() -> Topology {
    overlapping_with("ap-northeast-2c")
}

fn overlapping_with(second_zone: &str) -> Topology {
    parse(&format!(
        "vpcs:
  - name: aws
    provider: aws
    region: ap-northeast-2
    account: \"111122223333\"
    cidrs: [10.0.0.0/16]
    subnets:
      - {{ name: aws-a, cidr: 10.0.1.0/24, zone: ap-northeast-2a }}
      - {{ name: aws-b, cidr: 10.0.3.0/24, zone: {second_zone} }}
  - name: gcp
    provider: gcp
    region: asia-northeast3
    account: stories
    cidrs: [10.0.0.0/16]
    subnets: [{{ name: gcp, cidr: 10.0.1.0/24, zone: asia-northeast3-a }}]
vms:
  - {{ name: aws-1, vpc: aws, subnet: aws-a }}
  - {{ name: aws-2, vpc: aws, subnet: aws-b }}
  - {{ name: gcp-1, vpc: gcp, subnet: gcp }}
",
    ))
}

/// Three VMs in one subnet of a VPC, and one in another cloud.
pub(crate) fn neighbours() -> Topology {
    parse(
        "vpcs:
  - name: aws
    provider: aws
    region: ap-northeast-2
    account: \"111122223333\"
    cidrs: [10.0.0.0/16]
    subnets: [{ name: aws-a, cidr: 10.0.1.0/24, zone: ap-northeast-2a }]
  - name: gcp
    provider: gcp
    region: asia-northeast3
    account: stories
    cidrs: [10.8.0.0/16]
    subnets: [{ name: gcp, cidr: 10.8.1.0/24, zone: asia-northeast3-a }]
vms:
  - { name: aws-1, vpc: aws, subnet: aws-a }
  - { name: aws-2, vpc: aws, subnet: aws-a }
  - { name: aws-3, vpc: aws, subnet: aws-a }
  - { name: gcp-1, vpc: gcp, subnet: gcp }
",
    )
}

/// A VPC of AWS with two subnets of one zone and a second zone, one in another region, and two peered VNets of Azure in one zone.
pub(crate) fn priced() -> Topology {
    parse(
        "vpcs:
  - name: aws
    provider: aws
    region: ap-northeast-2
    account: \"111122223333\"
    cidrs: [10.0.0.0/16]
    subnets:
      - { name: aws-a1, cidr: 10.0.1.0/24, zone: ap-northeast-2a }
      - { name: aws-a2, cidr: 10.0.2.0/24, zone: ap-northeast-2a }
      - { name: aws-c1, cidr: 10.0.3.0/24, zone: ap-northeast-2c }
  - name: abroad
    provider: aws
    region: ap-northeast-1
    account: \"111122223333\"
    cidrs: [10.3.0.0/16]
    subnets: [{ name: abroad, cidr: 10.3.1.0/24, zone: ap-northeast-1a }]
  - name: azure-one
    provider: azure
    region: koreacentral
    account: 00000000-1111-2222-3333-444444444444
    cidrs: [10.1.0.0/16]
    subnets: [{ name: azure-one, cidr: 10.1.1.0/24, zone: \"1\" }]
  - name: azure-two
    provider: azure
    region: koreacentral
    account: 00000000-1111-2222-3333-444444444444
    cidrs: [10.2.0.0/16]
    subnets: [{ name: azure-two, cidr: 10.2.1.0/24, zone: \"1\" }]
peerings:
  - [azure-one, azure-two]
vms:
  - { name: aws-1, vpc: aws, subnet: aws-a1 }
  - { name: aws-2, vpc: aws, subnet: aws-a2 }
  - { name: aws-3, vpc: aws, subnet: aws-c1 }
  - { name: abroad, vpc: abroad, subnet: abroad }
  - { name: azure-1, vpc: azure-one, subnet: azure-one }
  - { name: azure-2, vpc: azure-two, subnet: azure-two }
",
    )
}

/// A VM with a public address, and two behind port-restricted NAT in VPCs of their own.
pub(crate) fn behind_nat() -> Topology {
    parse(
        "vpcs:
  - name: open
    provider: aws
    region: ap-northeast-2
    cidrs: [10.0.0.0/16]
    subnets: [{ name: open, cidr: 10.0.0.0/24, zone: a }]
  - name: hidden-a
    provider: openstack
    region: site-a
    cidrs: [10.0.0.0/16]
    subnets: [{ name: hidden-a, cidr: 10.0.0.0/24 }]
  - name: hidden-b
    provider: openstack
    region: site-b
    cidrs: [10.0.0.0/16]
    subnets: [{ name: hidden-b, cidr: 10.0.0.0/24 }]
vms:
  - { name: open-1, vpc: open, subnet: open }
  - { name: hidden-1, vpc: hidden-a, subnet: hidden-a, nat: port-restricted, security_group: { tcp: [], udp: [] } }
  - { name: hidden-2, vpc: hidden-b, subnet: hidden-b, nat: port-restricted, security_group: { tcp: [], udp: [] } }
",
    )
}

/// Two VMs that meet over IPv6 only: neither has a way to the IPv4 internet.
pub(crate) fn ipv6_only() -> Topology {
    parse(
        "vpcs:
  - name: one
    provider: aws
    region: ap-northeast-2
    cidrs: [10.0.0.0/16]
    ipv6: 2001:db8:1::/48
    subnets: [{ name: one, cidr: 10.0.0.0/24, zone: a }]
  - name: two
    provider: gcp
    region: us-central1
    cidrs: [10.0.0.0/16]
    ipv6: 2001:db8:2::/48
    subnets: [{ name: two, cidr: 10.0.0.0/24, zone: b }]
vms:
  - { name: six-1, vpc: one, subnet: one, nat: none, ipv6: true }
  - { name: six-2, vpc: two, subnet: two, nat: none, ipv6: true }
",
    )
}

/// A control plane and nothing else.
pub(crate) fn control_only() -> Topology {
    parse("")
}

/// Two VMs of one VPC, and a second installation of cladnet on a machine of its own.
pub(crate) fn two_installations() -> Topology {
    let other = "  - { name: other, region: seoul }\n";
    Topology::from_yaml(&format!("{PAIR}{CONTROL}{other}")).expect("the topology is valid")
}

/// Two VMs of one VPC.
pub(crate) fn pair() -> Topology {
    parse(PAIR)
}

/// As [`pair`], and a third VM without `/dev/net/tun`.
pub(crate) fn pair_and_bare() -> Topology {
    parse(&format!("{PAIR}  - {{ name: bare, vpc: aws, subnet: aws-a, tun: false }}\n"))
}

/// As [`pair`], and a third VM, with disks that are soon full: that of the VM `small`, and that of the control plane.
pub(crate) fn small_disks() -> Topology {
    let mut topology = parse(&format!("{PAIR}  - {{ name: small, vpc: aws, subnet: aws-a, disk_mib: 128 }}\n"));
    topology.internet[0].disk_mib = 192;
    topology
}

const PAIR: &str = "vpcs:
  - name: aws
    provider: aws
    region: ap-northeast-2
    account: \"111122223333\"
    cidrs: [10.0.0.0/16]
    subnets: [{ name: aws-a, cidr: 10.0.1.0/24, zone: ap-northeast-2a }]
vms:
  - { name: one, vpc: aws, subnet: aws-a }
  - { name: two, vpc: aws, subnet: aws-a }
";

fn parse(text: &str) -> Topology {
    Topology::from_yaml(&format!("{text}{CONTROL}")).expect("the topology is valid")
}
