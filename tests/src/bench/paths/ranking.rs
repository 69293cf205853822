//! How long an agent takes to rank the paths to all of its peers, each with four endpoints.

use std::{hint::black_box, time::Instant};

use anyhow::Result;
use cladnet_model::{
    RuleType,
    path::{Candidate, Measurements, Policy, rank},
    tariff::Book,
};

use super::{Effort, fleet::Fleet};
use crate::report::{Better, Report, percentile};

const PEERS: usize = 1000;

/// In milliseconds, for all peers together.
const TARGET: f64 = 5.0;

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let rounds = if effort == Effort::Quick { 10 } else { 100 };
    let (fleet, book) = (Fleet::of(PEERS + 1)?, Book::shipped());
    let all = |from: usize| (1..=PEERS).map(|to| fleet.candidates(&book, from, to)).collect::<Vec<_>>();
    let policy = Policy::new(RuleType::Balanced);
    let seen: Vec<Measurements> =
        all(0).iter().zip(1..).map(|(candidates, to)| fleet.measurements(0, candidates, to)).collect();

    let (mut ranking, mut pricing) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        let candidates = all(0);
        pricing.push(milliseconds(begin));
        let begin = Instant::now();
        for (candidates, seen) in candidates.into_iter().zip(&seen) {
            black_box(rank_one(&policy, candidates, seen));
        }
        ranking.push(milliseconds(begin));
    }
    for (name, samples, target) in [("rank", &ranking, Some(TARGET)), ("price", &pricing, None)] {
        let figure = |percent: f64| percentile(samples, percent);
        report.add(format!("{name}_{PEERS}_peers_p50"), figure(50.0), "ms", Better::Lower, target);
        report.add(format!("{name}_{PEERS}_peers_p95"), figure(95.0), "ms", Better::Lower, None);
    }
    Ok(())
}

fn rank_one(policy: &Policy, candidates: Vec<Candidate>, seen: &Measurements) -> usize {
    rank(policy, candidates, seen).len()
}

pub(super) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
