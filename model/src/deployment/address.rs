//! Which addresses a deployment may connect to: what comes from a request never turns the control plane against itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a deployment does not connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefused {
    #[error("{0} is a loopback address; give the machine's own address")]
    Loopback(IpAddr),
    #[error("{0} is link-local, where clouds keep their metadata services; give the machine's own address")]
    LinkLocal(IpAddr),
    #[error("{0} is a metadata service of a cloud; give the machine's own address")]
    Metadata(IpAddr),
    #[error("{0} is a multicast, broadcast, reserved or unspecified address; give the machine's own address")]
    NotAMachine(IpAddr),
    #[error("{0} stands for an IPv4 address; give that one")]
    Translated(IpAddr),
    #[error("{0} belongs to the control plane itself; agents are deployed to other machines only")]
    ControlPlane(IpAddr),
}

/// From where the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// From the provisioner itself.
    Direct,
    /// From a bastion: the control plane's own private addresses mean other machines there.
    Bastion,
}

/// The rule for addresses that come from a request. Ask it with the very address that is connected to, after names are
/// resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Addresses of the control plane: of the provisioner's machine, the services, etcd.
    control_plane: Vec<IpAddr>,
}

/// Metadata services, and others that give credentials away, where they are not link-local. Those of the other clouds are:
/// Azure's IMDS, DigitalOcean, Hetzner, IBM, Tencent (169.254.0.23), ECS and EKS over IPv4.
const METADATA: [IpNet; 9] = [
    // EC2 (::254), EKS (::23): docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html and
    // docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html. All of it is Amazon's.
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32)),
    // docs.cloud.google.com/compute/docs/metadata/querying-metadata
    v6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Azure's wire server: learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
    v4(Ipv4Addr::new(168, 63, 129, 16)),
    // alibabacloud.com/help/en/ecs/user-guide/view-instance-metadata
    v4(Ipv4Addr::new(100, 100, 100, 200)),
    v6(Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200)),
    // Oracle over IPv6: docs.oracle.com/en-us/iaas/Content/Compute/Tasks/gettingmetadata.htm
    v6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    // Oracle Classic: docs.oracle.com/en/cloud/iaas/compute-iaas-cloud/stcsg/retrieving-instance-metadata.html
    v4(Ipv4Addr::new(192, 0, 0, 192)),
    // Scaleway: docs.cloud-init.io/en/latest/reference/datasources/scaleway.html
    v6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    // Akamai: docs.cloud-init.io/en/latest/reference/datasources/akamai.html
    v6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
];

/// RFC 6052: an IPv4 address behind a NAT64, in the last four bytes.
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// RFC 8215: the same behind a local prefix, whose length nobody but its network knows, nor where the address is in it.
const LOCAL_NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48);

/// RFC 2765: IPv4-translated addresses, which only a translator uses.
const TRANSLATED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96);

/// RFC 3879: site-local addresses, which are no longer given to anybody.
const SITE_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10);

/// RFC 3056: 6to4, which hides an IPv4 address in its second to third group.
const SIX_TO_FOUR: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// "This network", RFC 1122.
const THIS_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8);
/// Reserved, RFC 1112, with the broadcast address.
const RESERVED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4);

impl AddressPolicy {
    /// A policy that also spares these addresses of the control plane.
    pub fn new(control_plane: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { control_plane: control_plane.into_iter().map(plain).collect() }
    }

    /// Whether a deployment may connect to `address`.
    pub fn check(&self, address: IpAddr, via: Via) -> Result<(), AddressRefused> {
        let plain = plain(address);
        if METADATA.iter().any(|range| range.contains(&plain)) {
            return Err(AddressRefused::Metadata(address));
        }
        if plain.is_loopback() {
            return Err(AddressRefused::Loopback(address));
        }
        let (is_link_local, is_no_machine) = match plain {
            IpAddr::V4(v4) => {
                (v4.is_link_local(), v4.is_multicast() || THIS_NETWORK.contains(&v4) || RESERVED.contains(&v4))
            }
            IpAddr::V6(v6) if LOCAL_NAT64.contains(&v6) || TRANSLATED.contains(&v6) => {
                return Err(AddressRefused::Translated(address));
            }
            IpAddr::V6(v6) => {
                (v6.is_unicast_link_local(), v6.is_multicast() || v6.is_unspecified() || SITE_LOCAL.contains(&v6))
            }
        };
        if is_link_local {
            return Err(AddressRefused::LinkLocal(address));
        }
        if is_no_machine {
            return Err(AddressRefused::NotAMachine(address));
        }
        let is_ours = self.control_plane.contains(&plain) && (via == Via::Direct || !is_private(plain));
        if is_ours { Err(AddressRefused::ControlPlane(address)) } else { Ok(()) }
    }
}

/// The IPv4 address that an IPv6 address stands for, if it does for one.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let octets = v6.octets();
    let v4 = |at: usize| IpAddr::from([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
    if SIX_TO_FOUR.contains(&v6) {
        return v4(2);
    }
    let is_compatible = v6.segments()[..6] == [0; 6] && !v6.is_loopback() && !v6.is_unspecified();
    if is_compatible || NAT64.contains(&v6) { v4(12) } else { IpAddr::V6(v6) }
}

const fn v4(address: Ipv4Addr) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, 32))
}

const fn v6(address: Ipv6Addr) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(address, 128))
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, via: Via) -> Result<(), AddressRefused> {
        let own = ["192.0.2.1", "10.0.0.1", "2001:db8::1"].map(|own| own.parse().unwrap());
        AddressPolicy::new(own).check(address.parse().unwrap(), via)
    }

    #[test]
    fn machines_are_reached_directly_and_through_a_bastion() {
        for address in [
            "198.51.100.7",
            "10.0.0.2",
            "172.16.0.1",
            "100.64.0.9",
            "192.0.0.9",
            "2001:db8::2",
            "fd00::5",
            "fd20:ce::5",
        ] {
            for via in [Via::Direct, Via::Bastion] {
                assert_eq!(check(address, via), Ok(()), "{address}");
            }
        }
    }

    #[test]
    fn loopback_link_local_metadata_and_nobody_are_refused_in_every_disguise() {
        let refused = [
            "127.0.0.1",
            "127.255.0.9",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00:808:808",
            "64:ff9b:1::808:808",
            "::ffff:0:169.254.169.254",
            "fec0::1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "169.254.169.254",
            "169.254.1.1",
            "fe80::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:100::100:200",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "192.0.0.192",
            "169.254.42.42",
            "169.254.0.23",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "ff02::1",
        ];
        for address in refused {
            for via in [Via::Direct, Via::Bastion] {
                assert!(check(address, via).is_err(), "{address} {via:?}");
            }
        }
    }

    #[test]
    fn the_control_plane_is_spared() {
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "10.0.0.1", "2001:db8::1"] {
            assert!(matches!(check(address, Via::Direct), Err(AddressRefused::ControlPlane(_))), "{address}");
        }
        assert!(matches!(check("192.0.2.1", Via::Bastion), Err(AddressRefused::ControlPlane(_))));
        assert_eq!(check("10.0.0.1", Via::Bastion), Ok(()), "another cloud may use the same private range");
    }
}
