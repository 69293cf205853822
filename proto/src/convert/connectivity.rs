//! Connectivity runs as they are shown.

use cladnet_model::{
    ConnectivityResult, ConnectivityRun, HostId,
    connectivity::{MissingHost, PairFigures, Results},
    round_trip::loss_percent,
};
use jiff::Timestamp;

use super::time::timestamp;
use crate::cladnet::v1;

/// A run with what is known of it at `now`.
pub fn connectivity_run(run: &ConnectivityRun, results: &Results, now: Timestamp) -> v1::ConnectivityRun {
    let figures = run.figures(results, now);
    v1::ConnectivityRun {
        run_id: run.id.to_string(),
        network_id: run.network.to_string(),
        started_at: Some(timestamp(run.started_at)),
        deadline_at: Some(timestamp(run.deadline_at)),
        asked: count(run.asked().count()),
        answered: count(figures.answered),
        done: run.is_done(results, now),
        results: pairs(run, results),
        loss_percent: figures.loss_percent(),
        p50_us: figures.p50_us,
        missing: figures.missing.into_iter().map(missing).collect(),
        left_out: count(results.values().map(|result| result.left_out).sum()),
    }
}

/// A run as whoever waited for it is told.
pub fn connectivity_test(run: &ConnectivityRun, results: &Results, now: Timestamp) -> v1::ConnectivityTest {
    v1::ConnectivityTest {
        network_id: run.network.to_string(),
        started_at: Some(timestamp(run.started_at)),
        results: pairs(run, results),
        missing: run.figures(results, now).missing.into_iter().map(missing).collect(),
    }
}

/// Sorted by source and destination, as both are kept.
fn pairs(run: &ConnectivityRun, results: &Results) -> Vec<v1::PairResult> {
    let of_source = |(source, result): (_, &'_ ConnectivityResult)| -> Vec<_> {
        result.pairs.iter().map(|figures| pair(run, source, figures)).collect()
    };
    results.iter().flat_map(of_source).collect()
}

fn pair(run: &ConnectivityRun, source: &HostId, figures: &PairFigures) -> v1::PairResult {
    let PairFigures { destination, sent, round_trips: over, error } = figures;
    v1::PairResult {
        source: source.to_string(),
        destination: destination.to_string(),
        source_name: run.name(source).to_owned(),
        destination_name: run.name(destination).to_owned(),
        sent: *sent,
        received: figures.received(),
        loss_percent: loss_percent((*sent).into(), figures.received().into()),
        min_us: over.min_us,
        avg_us: over.avg_us,
        max_us: over.max_us,
        stddev_us: over.stddev_us,
        p50_us: over.p50_us,
        p90_us: over.p90_us,
        p99_us: over.p99_us,
        error: error.clone(),
    }
}

fn missing(missing: MissingHost) -> v1::ControlResult {
    let MissingHost { host, outcome, detail } = missing;
    v1::ControlResult { host_id: host.to_string(), outcome, detail }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
