//! Paths: what a network states of them, what agents measured, and what they cost.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use cladnet_model::{
    Scope,
    path::{Candidate, Health, Limits, Measurements, PathSettings, Ranked},
    tariff::Price,
};

use crate::cladnet::v1;

/// More than all is not lost.
const MAX_LOSS_PERMILLE: u16 = 1000;

impl From<&PathSettings> for v1::PathSettings {
    fn from(settings: &PathSettings) -> Self {
        Self {
            price_per_ms: settings.price_per_ms.0,
            price_per_loss_percent: settings.price_per_loss_percent.0,
            max_rtt_ms: settings.limits.max_rtt.map(milliseconds),
            max_price_per_gb: settings.limits.max_price_per_gb.map(|limit| limit.0),
            forbid: settings.limits.forbid.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A scope that is not known here has no endpoints here either.
impl From<&v1::PathSettings> for PathSettings {
    fn from(wire: &v1::PathSettings) -> Self {
        Self {
            price_per_ms: Price(wire.price_per_ms),
            price_per_loss_percent: Price(wire.price_per_loss_percent),
            limits: Limits {
                max_rtt: wire.max_rtt_ms.map(|limit| Duration::from_millis(u64::from(limit))),
                max_price_per_gb: wire.max_price_per_gb.map(Price),
                forbid: wire.forbid.iter().filter_map(|word| word.parse::<Scope>().ok()).collect(),
            },
        }
    }
}

/// In whole milliseconds.
pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// What an agent knows of a candidate's address.
pub fn measurement(candidate: &Candidate, seen: &Measurements) -> v1::CandidateMeasurement {
    let address = candidate.endpoint.address;
    v1::CandidateMeasurement {
        address: address.to_string(),
        reach: seen.health.get(&address).map(|_| seen.reach(address).to_string()).unwrap_or_default(),
        rtt_us: seen.rtt(address).map_or(0, microseconds),
        loss_permille: u32::from(seen.loss_permille(address).unwrap_or(0)),
        price_per_gb: candidate.price.map(|price| price.0),
    }
}

/// What an agent measured, and what each address costs by its book. What cannot be read is as if it was never tried.
pub fn measurements(report: &v1::PathReport) -> (Measurements, BTreeMap<SocketAddr, Option<Price>>) {
    let mut seen = Measurements { in_use: report.endpoint.parse().ok(), health: BTreeMap::new() };
    let mut prices = BTreeMap::new();
    for wire in &report.measurements {
        let Ok(address) = wire.address.parse() else { continue };
        prices.insert(address, wire.price_per_gb.map(Price));
        seen.health.extend(health(wire).map(|health| (address, health)));
    }
    (seen, prices)
}

fn health(wire: &v1::CandidateMeasurement) -> Option<Health> {
    let rtt = Duration::from_micros(u64::from(wire.rtt_us));
    let loss_permille = u16::try_from(wire.loss_permille).unwrap_or(u16::MAX).min(MAX_LOSS_PERMILLE);
    match wire.reach.as_str() {
        "answers" => Some(Health::Answers { rtt, loss_permille }),
        "proving" => Some(Health::Proving { rtt, loss_permille }),
        "silent" => Some(Health::Silent),
        _ => None,
    }
}

/// A candidate in its place, with what was measured of it.
pub fn candidate(ranked: &Ranked, seen: &Measurements) -> v1::PathCandidate {
    let endpoint = ranked.candidate.endpoint;
    v1::PathCandidate {
        endpoint: endpoint.address.to_string(),
        scope: endpoint.scope.to_string(),
        state: ranked.state.to_string(),
        rank: ranked.rank.unwrap_or_default(),
        rtt_us: seen.rtt(endpoint.address).map_or(0, microseconds),
        reason: ranked.reason.to_string(),
        loss_percent: f64::from(seen.loss_permille(endpoint.address).unwrap_or(0)) / 10.0,
    }
}

#[cfg(test)]
mod tests {
    use cladnet_model::{Endpoint, EndpointSource, path::Route};

    use super::*;

    fn candidate(address: &str, price: Option<u64>) -> Candidate {
        let address = address.parse().unwrap();
        let endpoint = Endpoint { address, scope: Scope::Public, source: EndpointSource::Stun };
        Candidate { endpoint, route: Ok(Route::Internet), price: price.map(Price) }
    }

    #[test]
    fn what_an_agent_measured_arrives_as_it_was() {
        let (rtt, loss_permille) = (Duration::from_micros(12_345), 7);
        let all = [
            candidate("203.0.113.1:1", Some(0)),
            candidate("203.0.113.2:1", None),
            candidate("[2001:db8::1]:1", Some(9)),
        ];
        let health = [Health::Answers { rtt, loss_permille }, Health::Proving { rtt, loss_permille }, Health::Silent];
        for kind in health {
            let health = BTreeMap::from([(all[0].endpoint.address, kind)]);
            let seen = Measurements { in_use: Some(all[1].endpoint.address), health };
            let report = v1::PathReport {
                endpoint: "203.0.113.2:1".into(),
                measurements: all.iter().map(|candidate| measurement(candidate, &seen)).collect(),
                ..v1::PathReport::default()
            };
            let (told, prices) = measurements(&report);
            assert_eq!(told, seen);
            assert!(all.iter().all(|candidate| prices[&candidate.endpoint.address] == candidate.price));
        }
    }

    #[test]
    fn settings_arrive_as_they_were_and_an_unknown_scope_is_left_out() {
        let settings = PathSettings {
            price_per_ms: Price(3),
            price_per_loss_percent: Price(4),
            limits: Limits {
                max_rtt: Some(Duration::from_millis(80)),
                max_price_per_gb: Some(Price(5)),
                forbid: [Scope::PublicV6].into(),
            },
        };
        let mut wire = v1::PathSettings::from(&settings);
        assert_eq!(PathSettings::from(&wire), settings);
        wire.forbid.push("relay".into());
        assert_eq!(PathSettings::from(&wire), settings);
    }
}
