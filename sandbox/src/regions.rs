//! Twenty regions as they were measured: a VPC with one VM in each, the round trips of the measurement between them, and a control
//! plane beside the first.
//!
//! Where the figures come from stands in `topologies/regions.yaml`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::Deserialize;

use crate::topology::{InternetVm, Provider, SecurityGroup, Subnet, Topology, VmSpec, Vpc, Wan, WanLink};

/// One of the regions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Also of its VPC and its VM.
    pub name: String,
    pub provider: Provider,
    pub region: String,
    /// To each region in their order, itself included.
    pub round_trips_ms: Vec<f64>,
}

/// The control plane's place: beside the first region.
const CONTROL_SITE: &str = "tokyo";
const CONTROL_DELAY_MS: f64 = 1.6;

/// The regions, in the order of the measurement.
pub fn measured() -> Vec<Region> {
    serde_norway::from_str(include_str!("../topologies/regions.yaml")).expect("the built-in measurement can be read")
}

impl Region {
    fn site(&self) -> String {
        format!("{}/{}", self.provider, self.region)
    }

    fn zone(&self) -> String {
        match self.provider {
            Provider::Gcp => format!("{}-a", self.region),
            _ => format!("{}a", self.region),
        }
    }
}

impl Topology {
    /// The twenty regions of [`measured`].
    pub fn regions() -> Self {
        let regions = measured();
        let control = InternetVm { host_access: true, ..InternetVm::new("control", CONTROL_SITE) };
        Self {
            vpcs: regions.iter().zip(1..).map(|(region, number)| vpc(region, number)).collect(),
            vms: regions.iter().map(|region| VmSpec::new(&region.name, &region.name, &region.name)).collect(),
            wan: Wan { links: links(&regions, &control) },
            internet: vec![control],
            ..Self::default()
        }
    }
}

fn vpc(region: &Region, number: u8) -> Vpc {
    let network = |length| Ipv4Net::new_assert(Ipv4Addr::new(10, number, 0, 0), length);
    Vpc {
        name: region.name.clone(),
        provider: region.provider,
        region: region.region.clone(),
        account: None,
        cidrs: vec![network(16)],
        ipv6: None,
        subnets: vec![Subnet { name: region.name.clone(), cidr: network(24), zone: Some(region.zone()) }],
        security_group: SecurityGroup::default(),
        udp_timeout_seconds: None,
    }
}

/// Both directions of a pair were measured; a link has the mean of them.
fn links(regions: &[Region], control: &InternetVm) -> Vec<WanLink> {
    let link =
        |a: String, b: String, delay_ms| WanLink { between: [a, b], delay_ms, jitter_ms: 0.0, loss_percent: 0.0 };
    let pairs = regions.iter().enumerate().flat_map(|(n, a)| {
        regions.iter().enumerate().skip(n).map(move |(m, b)| (a, b, (a.round_trips_ms[m] + b.round_trips_ms[n]) / 2.0))
    });
    let between = pairs.map(|(a, b, round_trip_ms)| link(a.site(), b.site(), round_trip_ms / 2.0));
    let to_control = regions.iter().map(|region| {
        let from_first = region.round_trips_ms[0] / 2.0;
        link(region.site(), control.site(), from_first.max(CONTROL_DELAY_MS))
    });
    between.chain(to_control).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measurement_is_whole_and_its_topology_valid() {
        let regions = measured();
        assert_eq!(regions.len(), 20);
        assert!(regions.iter().all(|region| region.round_trips_ms.len() == 20));
        let topology = Topology::regions();
        topology.validate().expect("it is valid");
        assert_eq!(topology.sites().len(), 21);
        assert_eq!(topology.wan.links.len(), 20 * 21 / 2 + 20);
    }

    #[test]
    fn a_link_takes_half_of_the_mean_round_trip() {
        let links = Topology::regions().wan.links;
        let between = ["aws/ap-northeast-1", "gcp/asia-northeast3"].map(str::to_owned);
        let link = links.iter().find(|link| link.between == between).expect("there is one");
        assert!((link.delay_ms - (35.0 + 34.8) / 4.0).abs() < 1e-9, "{}", link.delay_ms);
    }
}
