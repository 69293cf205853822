//! Machines in the twenty measured regions, as the pure model knows them: places, endpoints, round trips.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use cladnet_model::{
    CloudLocation, Endpoint, EndpointSource, Located, LocationSource, Scope,
    path::{Candidate, Health, HostView, Measurements, candidates},
    tariff::{Book, PoolUsage, Price, cost},
};
use cladnet_sandbox::regions::{Region, measured};
use jiff::civil::{Date, date};

/// The day of all prices, so that figures of different days can be compared.
pub(super) const DAY: Date = date(2026, 12, 1);

/// One machine.
pub(super) struct Machine {
    /// Its place among the regions.
    pub(super) region: usize,
    pub(super) location: CloudLocation,
    pub(super) endpoints: Vec<Endpoint>,
}

/// Machines, and the round trips between their regions.
pub(super) struct Fleet {
    pub(super) regions: Vec<Region>,
    pub(super) machines: Vec<Machine>,
}

/// Where a region's machines stand, over and over: two subnets of one zone, and another zone.
const PLACES: [(&str, &str); 3] = [("a", "subnet-1"), ("a", "subnet-2"), ("c", "subnet-3")];

impl Fleet {
    /// So many machines, three to a region before the next three.
    pub(super) fn of(count: usize) -> Result<Self> {
        let regions = measured();
        let machines = (0..count).map(|n| machine(&regions, n)).collect::<Result<_>>()?;
        Ok(Self { regions, machines })
    }

    /// The candidates of a pair, priced.
    pub(super) fn candidates(&self, book: &Book, from: usize, to: usize) -> Vec<Candidate> {
        let (from, to) = (&self.machines[from], &self.machines[to]);
        candidates(from.view(), to.view(), |endpoint| price(book, from, to, endpoint.scope))
    }

    /// What an agent has measured once it has tried all: what leads somewhere answers, after the round trip of the regions.
    pub(super) fn measurements(&self, from: usize, candidates: &[Candidate], to: usize) -> Measurements {
        let (from, to) = (self.machines[from].region, self.machines[to].region);
        let rtt = Duration::from_secs_f64(self.regions[from].round_trips_ms[to] / 1e3);
        let health = |candidate: &Candidate| match candidate.route {
            Ok(route) if !route.needs_proof() => Health::Answers { rtt, loss_permille: 0 },
            _ => Health::Silent,
        };
        let health = candidates.iter().map(|candidate| (candidate.endpoint.address, health(candidate))).collect();
        Measurements { in_use: None, health }
    }
}

impl Machine {
    fn view(&self) -> HostView<'_> {
        HostView { location: &self.location, endpoints: &self.endpoints }
    }
}

/// What a gigabyte costs from one to the other.
pub(super) fn price(book: &Book, from: &Machine, to: &Machine, scope: Scope) -> Option<Price> {
    cost(book, &from.location, &to.location, scope, DAY, &PoolUsage::FirstPaid).per_gb
}

fn machine(regions: &[Region], number: usize) -> Result<Machine> {
    let region_number = number / PLACES.len() % regions.len();
    let (region, (zone, subnet)) = (&regions[region_number], PLACES[number % PLACES.len()]);
    let known = |value: String| Some(Located { value, source: LocationSource::Operator });
    let zone = match region.provider {
        cladnet_sandbox::Provider::Aws => format!("{}-az{zone}", region.region),
        _ => format!("{}-{zone}", region.region),
    };
    let location = CloudLocation {
        provider: known(region.provider.to_string()),
        account: known("bench".to_owned()),
        region: known(region.region.clone()),
        zone: known(zone),
        vpc: known(region.name.clone()),
        subnet: known(subnet.to_owned()),
        instance: None,
    };
    let [_, _, high, low] = u32::try_from(number).context("too many machines")?.to_be_bytes();
    let endpoint = |address: String, scope, source| -> Result<Endpoint> {
        let address: SocketAddr = address.parse().with_context(|| format!("{address} is no address"))?;
        Ok(Endpoint { address, scope, source })
    };
    let endpoints = vec![
        endpoint(format!("10.{region_number}.{high}.{low}:8055"), Scope::Private, EndpointSource::Interface)?,
        endpoint(format!("172.16.{high}.{low}:8055"), Scope::Private, EndpointSource::Interface)?,
        endpoint(format!("198.18.{high}.{low}:8055"), Scope::Public, EndpointSource::Stun)?,
        endpoint(format!("[2001:db8::{high:x}:{low:x}]:8055"), Scope::PublicV6, EndpointSource::Interface)?,
    ];
    Ok(Machine { region: region_number, location, endpoints })
}
