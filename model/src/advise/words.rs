//! The sentences of the advisor.

use ipnet::Ipv4Net;

use super::{
    Avoid, Proposal, known, needed,
    ranges::Ranges,
    search::{Found, MAX_DOUBLINGS},
};
use crate::space;

/// More ranges than this make no sentence.
const SHOWN: usize = 5;

pub(super) fn proposal(found: Found, hosts: u32, taken: &[Avoid]) -> Proposal {
    let Found { space, merit } = found;
    let capacity = space::capacity(space);
    let mut reason = format!("room for {capacity} hosts where {hosts} are wanted; ");
    // Link-local space is always among them, and says nothing.
    match taken.len().saturating_sub(1) {
        0 => reason.push_str("no range to avoid is known"),
        1 => reason.push_str("clear of the one range to avoid"),
        more => reason.push_str(&format!("clear of all {more} ranges to avoid")),
    }
    match MAX_DOUBLINGS - merit.cramped {
        0 => reason.push_str("; cannot grow in place"),
        1 => reason.push_str("; can double in place"),
        times => reason.push_str(&format!("; can double {times} times in place")),
    }
    let soft_conflicts = overlapping(known::SOFT, space);
    for conflict in &soft_conflicts {
        reason.push_str(&format!("; may meet {conflict}"));
    }
    for common in overlapping(known::COMMON, space) {
        reason.push_str(&format!("; lies where many are: {common}"));
    }
    Proposal { space, capacity, reason, soft_conflicts }
}

/// The ranges of a list that a space overlaps, with whose they are.
fn overlapping(known: &[known::Known], space: Ipv4Net) -> Vec<String> {
    let known = known.iter().filter(|(range, _)| space::overlap(space, *range));
    known.map(|(range, what)| format!("{range} ({what})")).collect()
}

/// What the proposals were sized for.
pub(super) fn sized(hosts: u32, needed: u64, prefix: u8) -> String {
    format!("sized /{prefix} for {needed} hosts: {hosts} wanted, the rest to grow")
}

/// No block is large enough, whatever is free.
pub(super) fn too_many(hosts: u32, needed: u64) -> String {
    let largest = space::PRIVATE_BLOCKS[0];
    let capacity = space::capacity(largest);
    format!(
        "no private range has room for {needed} hosts ({hosts} wanted, the rest to grow); the largest, {largest}, has \
         room for {capacity}"
    )
}

/// Nothing free is large enough.
pub(super) fn nothing_left(blocks: &[Ipv4Net], free: &Ranges, taken: &[Avoid], hosts: u32, prefix: u8) -> String {
    let largest = (0..=30).find_map(|prefix| free.nth(prefix, 0));
    let Some(largest) = largest else {
        return format!("nothing is left of {}: taken by {}", list(blocks), takers(blocks, taken));
    };
    let capacity = space::capacity(largest);
    let enough = match capacity {
        capacity if u64::from(capacity) >= u64::from(hosts) => format!(": the {hosts} wanted, with less to grow"),
        _ => String::new(),
    };
    format!(
        "no /{prefix} is left for {} hosts ({hosts} wanted, the rest to grow); the largest free range is {largest}, with \
         room for {capacity}{enough}",
        needed(hosts)
    )
}

/// Who took the blocks, the largest ranges first.
fn takers(blocks: &[Ipv4Net], taken: &[Avoid]) -> String {
    let inside = |avoid: &&Avoid| blocks.iter().any(|block| space::overlap(*block, avoid.range));
    let mut takers: Vec<&Avoid> = taken.iter().filter(inside).collect();
    takers.sort_by_key(|avoid| avoid.range.prefix_len());
    let shown = list(takers.iter().take(SHOWN));
    match takers.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
