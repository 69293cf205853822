//! Ranges that are known without asking: what providers keep for themselves, what common software takes when nobody
//! tells it otherwise, and what everybody picks first. Cilium's and Docker Swarm's default pool is all of 10.0.0.0/8:
//! naming it would rule everything out and help nobody.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A range and whose it is.
pub(super) type Known = (Ipv4Net, &'static str);

/// Ranges of providers: the provider's name as in a cloud location, the range, and what it is used for.
pub(super) const RESERVED: &[(&str, Ipv4Net, &str)] = &[
    ("alibaba", net([100, 64, 0, 0], 10), "Alibaba's own services"),
    ("aws", net([172, 17, 0, 0], 16), "AWS Cloud9 and SageMaker"),
    ("gcp", net([172, 17, 0, 0], 16), "the Docker bridge of Google's images"),
];

/// Instance metadata and name servers of every provider.
pub(super) const LINK_LOCAL: Known = (net([169, 254, 0, 0], 16), "link-local addresses");

/// Defaults of software that may run on the hosts, now or later. A network there works until it does.
pub(super) const SOFT: &[Known] = &[
    (net([172, 17, 0, 0], 16), "Docker's default bridge"),
    (net([172, 18, 0, 0], 15), "Docker's further bridges"),
    (net([172, 20, 0, 0], 14), "Docker's further bridges"),
    (net([172, 24, 0, 0], 13), "Docker's further bridges"),
    (net([172, 20, 0, 0], 16), "Amazon EKS services"),
    (net([172, 30, 0, 0], 16), "OpenShift services"),
    (net([10, 96, 0, 0], 12), "Kubernetes services (kubeadm)"),
    (net([10, 244, 0, 0], 16), "Kubernetes pods (Flannel, kind, AKS)"),
    (net([192, 168, 0, 0], 16), "Kubernetes pods (Calico) and Docker's further bridges"),
    (net([10, 42, 0, 0], 15), "k3s pods and services"),
    (net([10, 32, 0, 0], 12), "Kubernetes pods (Weave Net)"),
    (net([10, 128, 0, 0], 14), "OpenShift pods"),
    (net([10, 1, 0, 0], 16), "MicroK8s pods"),
    (net([10, 152, 183, 0], 24), "MicroK8s services"),
    (net([10, 0, 0, 0], 16), "AKS services"),
    (net([10, 88, 0, 0], 16), "Podman"),
    (net([10, 0, 3, 0], 24), "LXC"),
    (net([192, 168, 122, 0], 24), "libvirt"),
];

/// What people and providers pick first: the next VPC, office or home to be joined is likely to be there.
pub(super) const COMMON: &[Known] = &[
    (net([10, 0, 0, 0], 15), "first choice for VPCs, and Azure's default"),
    (net([10, 10, 0, 0], 16), "common choice for VPCs"),
    (net([10, 128, 0, 0], 9), "GCP's auto-mode VPCs"),
    (net([172, 16, 0, 0], 16), "common choice for VPCs"),
    (net([172, 31, 0, 0], 16), "AWS's default VPC"),
    (net([192, 168, 0, 0], 23), "home and office routers"),
];

const fn net([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_is_in_its_right_spelling_and_leaves_most_of_the_space_free() {
        let reserved = RESERVED.iter().map(|(_, range, _)| *range);
        let all = SOFT.iter().chain(COMMON).map(|(range, _)| *range).chain(reserved);
        assert!(all.clone().all(|range| range.trunc() == range));
        assert!(all.clone().all(|range| range.prefix_len() > 8), "a whole block would rule everything out");
    }
}
