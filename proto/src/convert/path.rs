//! Paths: what a network states of them, what agents measured, and what they cost.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use cladnet_model::{
    Scope,
    path::{Health, Limits, Measurements, PathSettings, Ranked},
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

/// What an agent measured, and what each address costs by its book. What cannot be read is as if it was never tried.
pub fn measurements(report: &v1::PathReport) -> (Measurements, BTreeMap<SocketAddr, Option<Price>>) {
    let mut seen = Measurements { in_use: report.endpoint.parse().ok(), health: BTreeMap::new() };
    let mut prices = BTreeMap::new();
    for wire in &report.measurements {
        let Ok(address) = wire.address.parse() else { continue };
        prices.insert(address, wire.price_per_gb.map(Price));
        seen.health.extend(health(wire).map(|health| (address, health)));
    }
    if let (Some(used), true, 1..) = (seen.in_use, report.measurements.is_empty(), report.rtt_us) {
        let rtt = Duration::from_micros(u64::from(report.rtt_us));
        seen.health.insert(used, Health::Answers { rtt, loss_permille: 0 });
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

/// A candidate in its place, with what was measured of it; without prices.
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
        ..v1::PathCandidate::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_measured_is_read_and_what_is_strange_was_never_tried() {
        let line = |address: &str, reach: &str, price_per_gb| v1::CandidateMeasurement {
            address: address.into(),
            reach: reach.into(),
            rtt_us: 12_345,
            loss_permille: 7000,
            price_per_gb,
        };
        let report = v1::PathReport {
            endpoint: "203.0.113.2:1".into(),
            measurements: vec![
                line("203.0.113.1:1", "answers", Some(0)),
                line("203.0.113.2:1", "proving", None),
                line("203.0.113.3:1", "silent", Some(9)),
                line("203.0.113.4:1", "shouting", Some(9)),
                line("nowhere", "answers", Some(9)),
            ],
            ..v1::PathReport::default()
        };
        let (seen, prices) = measurements(&report);
        let at = |last: u8| SocketAddr::from(([203, 0, 113, last], 1));
        let (rtt, loss_permille) = (Duration::from_micros(12_345), 1000);
        assert_eq!(seen.in_use, Some(at(2)));
        assert_eq!(
            seen.health,
            BTreeMap::from([
                (at(1), Health::Answers { rtt, loss_permille }),
                (at(2), Health::Proving { rtt, loss_permille }),
                (at(3), Health::Silent),
            ])
        );
        assert_eq!(prices[&at(1)], Some(Price(0)), "free");
        assert_eq!(prices[&at(2)], None, "not known");
        assert_eq!(prices.len(), 4);
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
