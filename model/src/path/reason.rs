//! The sentences about paths, without their full stops.

use std::{fmt, net::SocketAddr, time::Duration};

use super::{Author, CandidateState, Ranked, Reach, Route, Unfit};
use crate::{EndpointSource, RuleType, Scope, tariff::Price};

/// Why a candidate stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Nothing else may be used.
    Only {
        route: Route,
    },
    /// First by the rule type, before `next`.
    Best {
        route: Route,
        rule: RuleType,
        /// Who says that this rule type ranks.
        author: Author,
        next: SocketAddr,
        by: Grounds,
    },
    /// In use, and therefore first: `better` would go before it, but not by enough.
    Kept {
        route: Route,
        better: SocketAddr,
        by: Grounds,
    },
    /// It would go before the one in use, but not by enough.
    Waiting {
        route: Route,
        in_use: SocketAddr,
        by: Grounds,
    },
    /// `best` goes before it.
    Beaten {
        route: Route,
        best: SocketAddr,
        by: Grounds,
    },
    /// It has to answer before it may be used.
    Unproved(Reach),
    Excluded(Unfit),
}

/// What speaks for the better one of two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grounds {
    Reach { better: Reach, worse: Reach },
    Preferred { scope: Scope, by: Author },
    Price { better: Option<Price>, worse: Option<Price> },
    Score { better: Option<Price>, worse: Option<Price> },
    Rtt { better: Option<Duration>, worse: Option<Duration> },
    Route,
    Source { better: EndpointSource, worse: EndpointSource },
    Address,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only { route } => write!(f, "{}; the only candidate", what(*route)),
            Self::Best { route, rule, author, by, .. } => {
                write!(f, "{}; first by rule type {rule}{author}: {by}", what(*route))
            }
            Self::Kept { route, better, by } => {
                write!(f, "{}; it stays in use, because {better} is not better by enough: {by}", what(*route))
            }
            Self::Waiting { route, in_use, by } => {
                write!(f, "{}; better than {in_use}, but not by enough to leave it: {by}", what(*route))
            }
            Self::Beaten { route, best, by } => write!(f, "{}; {best} goes before it: {by}", what(*route)),
            Self::Unproved(reach) => {
                let lack = if *reach == Reach::Silent { "it does not answer" } else { "it was not tried yet" };
                write!(f, "{}; only what answers is used there, and {lack}", what(Route::Peered))
            }
            Self::Excluded(unfit) => unfit.fmt(f),
        }
    }
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reach { better, worse } => write!(f, "{}, the other {}", manner(*better), manner(*worse)),
            Self::Preferred { scope, by } => write!(f, "scope {scope} is preferred{by}"),
            Self::Price { better: Some(better), worse: Some(worse) } => {
                write!(f, "{better} USD/GB against {worse}")
            }
            Self::Price { better: Some(better), .. } => write!(f, "{better} USD/GB against a price that is not known"),
            Self::Price { .. } => f.write_str("neither price is known"),
            Self::Score { better: Some(better), worse: Some(worse) } => {
                write!(f, "{better} USD/GB against {worse}, with round trip and loss counted in money")
            }
            Self::Score { better: Some(_), .. } => f.write_str("its price is known, the other's not"),
            Self::Score { .. } => f.write_str("neither price is known"),
            Self::Rtt { better, worse } => {
                write!(f, "its round trip is {}, the other's {}", milliseconds(*better), milliseconds(*worse))
            }
            Self::Route => f.write_str(
                "with equal figures a VPC goes before peering, that before the internet, and IPv4 before IPv6",
            ),
            Self::Source { better, worse } => write!(f, "it is known by {better}, the other by {worse}"),
            Self::Address => f.write_str("they are equal, and its address is the lower one"),
        }
    }
}

fn what(route: Route) -> &'static str {
    match route {
        Route::Vpc => "private address in the VPC of both hosts",
        Route::Internet => "public IPv4 address over the internet",
        Route::InternetV6 => "public IPv6 address over the internet",
        Route::Peered => "private address outside the sender's VPC",
    }
}

fn manner(reach: Reach) -> &'static str {
    match reach {
        Reach::Answers => "it answers",
        Reach::Proving => "it answers, but was silent not long ago",
        Reach::Untried => "it was not tried yet",
        Reach::Silent => "it does not answer",
    }
}

fn milliseconds(rtt: Option<Duration>) -> String {
    rtt.map_or("not measured".to_owned(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1e3))
}

/// One sentence on the path of a pair: which is in use, or would be, and which path rules exclude others, or why there is
/// none.
pub fn summary(ranked: &[Ranked]) -> String {
    choice(ranked) + &exclusions(ranked)
}

/// What path rules exclude; empty where nothing is left, for then every exclusion is told anyhow.
fn exclusions(ranked: &[Ranked]) -> String {
    if ranked.iter().all(|ranked| ranked.rank.is_none()) {
        return String::new();
    }
    let excluded = ranked.iter().filter_map(|it| match &it.reason {
        Reason::Excluded(unfit) => Some(format!("; rule {} excludes {}", unfit.rule()?, address(it))),
        _ => None,
    });
    excluded.collect()
}

fn choice(ranked: &[Ranked]) -> String {
    let in_use = ranked.iter().find(|ranked| ranked.state == CandidateState::InUse);
    let best = ranked.iter().find(|ranked| ranked.rank == Some(1));
    match (in_use, best) {
        (Some(used), Some(best)) if used == best => format!("in use: {}, {}", address(used), used.reason),
        (Some(used), Some(best)) => format!("in use: {}, though {} ranks first", address(used), address(best)),
        (None, Some(best)) if best.state == CandidateState::Silent => {
            format!("no path: {} ranks first, and does not answer", address(best))
        }
        (None, Some(best)) => format!("best: {}, {}", address(best), best.reason),
        (_, None) if ranked.is_empty() => "no path: the remote host has told no endpoint".to_owned(),
        (_, None) => {
            let reasons: Vec<String> =
                ranked.iter().map(|ranked| format!("{} is a {}", address(ranked), ranked.reason)).collect();
            format!("no path: {}", reasons.join("; "))
        }
    }
}

fn address(ranked: &Ranked) -> String {
    ranked.candidate.endpoint.address.to_string()
}
