//! How long an agent takes to find out what a network's rules mean to it, which it does after every change of rules or labels.
//! All rules are about it, which is the worst that can be.

use std::{hint::black_box, time::Instant};

use anyhow::Result;
use cladnet_model::{
    HostId, Labels,
    path::PairPolicy,
    rule::{MAX_RULES, Member, RuleSet, RulesDraft, access, policy},
};

use super::{Effort, ranking::milliseconds};
use crate::report::{Better, Report, percentile};

const PEERS: u16 = 1000;
const ROLES: u16 = 50;

/// In milliseconds, for all peers together.
const TARGET: f64 = 50.0;

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let rounds = if effort == Effort::Quick { 5 } else { 50 };
    let peers = (1..=PEERS).map(member).collect::<Result<Vec<_>>>()?;
    let me = member(0)?;
    let access_rules = rules(
        |role| serde_json::json!({"kind": "access", "action": "deny", "from": format!("role=role-{role}, tier in (gold, silver)")}),
    )?;
    let path_rules = rules(
        |role| serde_json::json!({"kind": "path", "to": format!("role=role-{role}, tier in (gold, silver)"), "prefer": "private"}),
    )?;
    let (mut access_taken, mut path_taken) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        black_box(access(&access_rules, &me, &peers));
        access_taken.push(milliseconds(begin));
        let begin = Instant::now();
        for (from, to) in peers.iter().filter_map(|peer| me.party().zip(peer.party())) {
            black_box(policy(&path_rules, &PairPolicy::default(), &from, &to));
        }
        path_taken.push(milliseconds(begin));
    }
    for (name, samples) in [("access", access_taken), ("path", path_taken)] {
        let name = format!("{name}_{MAX_RULES}_rules_{PEERS}_peers_p50");
        report.add(name, percentile(&samples, 50.0), "ms", Better::Lower, Some(TARGET));
    }
    Ok(())
}

/// As many as a network may have.
fn rules(rule: impl Fn(usize) -> serde_json::Value) -> Result<RuleSet> {
    let rules: Vec<_> = (0..MAX_RULES).map(|number| rule(number % usize::from(ROLES))).collect();
    let draft: RulesDraft = serde_json::from_value(serde_json::json!({"rules": rules}))?;
    Ok(draft.check()?)
}

fn member(number: u16) -> Result<Member> {
    let host: HostId = format!("host-{number}").parse()?;
    let labels =
        [("role", format!("role-{}", number % ROLES)), ("tier", "gold".to_owned()), ("env", "prod".to_owned())];
    let labels: Labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let [high, low] = number.to_be_bytes();
    Ok(Member::new(host, format!("vm-{number}"), Some([10, 77, high, low].into()), &labels))
}
