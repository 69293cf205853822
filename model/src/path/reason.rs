//! The sentences about paths.

use super::{Candidate, CandidateState, Criterion, Measurements, Ranked, Route, decide};
use crate::RuleType;

/// Why a candidate stands in its place among all that fit, which are in order.
pub(super) fn of_place(rule: RuleType, all: &[Candidate], candidate: &Candidate, seen: &Measurements) -> String {
    let what = what(candidate);
    let best = all.first().filter(|best| *best != candidate);
    match (best, all.get(1)) {
        (Some(best), _) => {
            let (criterion, _) = decide(rule, best, candidate, seen);
            format!("{what}; {} goes before it: {}", best.endpoint.address, why(criterion, best, candidate, seen))
        }
        (None, Some(next)) => {
            let (criterion, _) = decide(rule, candidate, next, seen);
            format!("{what}; first by rule type {rule}: {}", why(criterion, candidate, next, seen))
        }
        (None, None) => format!("{what}; the only candidate"),
    }
}

fn what(candidate: &Candidate) -> &'static str {
    match candidate.route {
        Ok(Route::Vpc) => "private address in the VPC of both hosts",
        Ok(Route::Internet) => "public IPv4 address over the internet",
        Ok(Route::InternetV6) => "public IPv6 address over the internet",
        Err(_) => "no candidate",
    }
}

/// What speaks for the better one.
fn why(criterion: Criterion, better: &Candidate, worse: &Candidate, seen: &Measurements) -> String {
    match criterion {
        Criterion::Answers => format!("{} does not answer", worse.endpoint.address),
        Criterion::Cost => match better.route {
            Ok(Route::Vpc) => "traffic inside a VPC is taken to cost no more than public traffic",
            _ => "IPv4 is taken to cost no more than IPv6",
        }
        .to_owned(),
        Criterion::Rtt => {
            let milliseconds = |candidate: &Candidate| {
                let rtt = seen.rtt(candidate.endpoint.address);
                rtt.map_or("not measured".to_owned(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1e3))
            };
            format!("its round trip is {}, the other's {}", milliseconds(better), milliseconds(worse))
        }
        Criterion::Source => {
            format!("it is known by {}, the other by {}", better.endpoint.source, worse.endpoint.source)
        }
        Criterion::Address => "they are equal, and its address is the lower one".to_owned(),
    }
}

/// One sentence on the path of a pair: which is in use, or would be, or why there is none.
pub fn summary(ranked: &[Ranked]) -> String {
    let in_use = ranked.iter().find(|ranked| ranked.state == CandidateState::InUse);
    let best = ranked.iter().find(|ranked| ranked.rank == Some(1));
    match (in_use, best) {
        (Some(used), Some(best)) if used == best => format!("in use: {}, {}", address(used), used.reason),
        (Some(used), Some(best)) => format!("in use: {}, though {} ranks first", address(used), address(best)),
        (Some(used), None) => format!("in use: {}, though it is excluded: {}", address(used), used.reason),
        (None, Some(best)) if best.state == CandidateState::Silent => {
            format!("no path: {} ranks first, and does not answer", address(best))
        }
        (None, Some(best)) => format!("best: {}, {}", address(best), best.reason),
        (None, None) if ranked.is_empty() => "no path: the remote host has told no endpoint".to_owned(),
        (None, None) => {
            let reasons: Vec<String> =
                ranked.iter().map(|ranked| format!("{} is a {}", address(ranked), ranked.reason)).collect();
            format!("no path: {}", reasons.join("; "))
        }
    }
}

fn address(ranked: &Ranked) -> String {
    ranked.candidate.endpoint.address.to_string()
}
