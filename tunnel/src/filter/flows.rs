//! The flows that are alive, and who opened them. Bounded: a set of ways per hash, as in a processor's cache.
//!
//! A flow that this host opened is never displaced by one that a peer opened: without its entry its answers would be
//! refused. A peer's own flow needs no entry to pass the rules, so losing one costs a look at them. Among flows that are
//! equal in this, the peer with most of a set gives way: no peer pushes out another's.

use std::cmp::Reverse;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::Action;
use super::flow::{Flow, Stage};

/// 65,536 flows, as many as Linux follows on a machine of 4 GB (`nf_conntrack_max`); 5 MB if all are used, and next to
/// nothing before.
const SETS: usize = 8192;
const WAYS: usize = 8;

const TCP: u8 = 6;
/// Seconds after the start in which a TCP flow may turn up that lived before: Linux looks after an idle one once in this
/// time (`tcp_keepalive_time`).
const OLDER_THAN_THE_FILTER: u32 = 2 * 60 * 60;

/// The last of the system ports (RFC 6335 §6).
const SYSTEM_PORTS: u16 = 1023;

/// Seconds without a packet after which a flow is forgotten.
mod lifetime {
    /// TCP may be silent for days; nothing is lost by waiting, as the number of flows is bounded.
    pub(super) const TCP: u32 = 5 * 24 * 60 * 60;
    /// A SYN that is not answered, a FIN that is not acknowledged: the longest that a TCP repeats either.
    pub(super) const TCP_AT_ITS_ENDS: u32 = 120;
    /// RFC 4787 §4.3 asks for two minutes at least.
    pub(super) const OTHER: u32 = 180;
    /// Nobody has answered.
    pub(super) const OTHER_UNANSWERED: u32 = 30;
}

pub(super) struct Flows {
    /// A set is made when a flow first needs it.
    sets: Box<[OnceLock<Box<Mutex<Set>>>]>,
    hasher: RandomState,
    started: Instant,
}

type Set = [Option<Entry>; WAYS];

/// Whose packet it is, under which rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct By {
    /// The number of the peer that sent it, or that it goes to.
    pub(super) peer: u32,
    pub(super) generation: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    flow: Flow,
    peer: u32,
    opener: Opener,
    phase: Phase,
    /// Under which rules a peer's flow was judged last, and how; one that this host opened is allowed.
    generation: u32,
    verdict: Action,
    /// Seconds since [`Flows::started`].
    last: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Opener {
    Peer,
    ThisHost,
}

/// In the order of what is missed least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Unanswered,
    Ending,
    Answered,
}

impl Flows {
    pub(super) fn new(now: Instant) -> Self {
        Self { sets: (0..SETS).map(|_| OnceLock::new()).collect(), hasher: RandomState::new(), started: now }
    }

    /// What happens to a packet of `flow` that a peer sent. `judge` asks the rules of this generation.
    pub(super) fn received(
        &self,
        now: Instant,
        flow: Flow,
        stage: Stage,
        by: By,
        judge: impl FnOnce() -> Action,
    ) -> Action {
        let now = self.seconds(now);
        let mut set = self.set(&flow);
        // A peer that opens a flow answers nothing, whoever had these ports before.
        if let Some(entry) = find(&mut set, now, &flow).filter(|_| stage != Stage::Opening) {
            if entry.opener == Opener::Peer && entry.generation != by.generation {
                (entry.generation, entry.verdict) = (by.generation, judge());
            }
            entry.heard(now, stage, Opener::Peer);
            return entry.verdict;
        }
        let verdict = judge();
        // What is refused from the start leaves no trace, or a flood could push out what is not.
        if verdict == Action::Allow {
            insert(&mut set, now, Entry::new(flow, Opener::Peer, stage, by, now));
        }
        verdict
    }

    /// Notes a packet that this host sent.
    pub(super) fn sent(&self, now: Instant, flow: Flow, stage: Stage, by: By) {
        let now = self.seconds(now);
        let mut set = self.set(&flow);
        match find(&mut set, now, &flow).filter(|_| stage != Stage::Opening) {
            Some(entry) => entry.heard(now, stage, Opener::ThisHost),
            None if !may_open(now, flow, stage) => {}
            None => insert(&mut set, now, Entry::new(flow, Opener::ThisHost, stage, by, now)),
        }
    }

    /// Whether the flow is known, and was not cut.
    pub(super) fn is_alive(&self, now: Instant, flow: Flow) -> bool {
        let now = self.seconds(now);
        find(&mut self.set(&flow), now, &flow).is_some_and(|entry| entry.verdict == Action::Allow)
    }

    fn set(&self, flow: &Flow) -> MutexGuard<'_, Set> {
        let index = self.hasher.hash_one(flow) as usize % SETS;
        let set = self.sets[index].get_or_init(|| Box::new(Mutex::new([None; WAYS])));
        set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.started).as_secs().try_into().unwrap_or(u32::MAX)
    }
}

/// Whether a packet of ours on a flow that is not known may be the first one, or the flow older than the filter: TCP tells
/// its first packet from the others, and so does an echo. Of an older flow the end with the higher port has opened it, as
/// services have low ones; below 1024 nobody is given a port unasked.
fn may_open(now: u32, flow: Flow, stage: Stage) -> bool {
    match (flow.protocol, stage) {
        (_, Stage::Opening) => true,
        (_, Stage::Answer) => false,
        (TCP, _) => now <= OLDER_THAN_THE_FILTER && flow.local.1 > flow.remote.1.max(SYSTEM_PORTS),
        _ => true,
    }
}

fn find<'a>(set: &'a mut Set, now: u32, flow: &Flow) -> Option<&'a mut Entry> {
    set.iter_mut().flatten().find(|entry| entry.flow == *flow && entry.is_alive(now))
}

/// Puts an entry in place of an older one of its flow, where none is alive, or in place of the one that is missed least.
fn insert(set: &mut Set, now: u32, new: Entry) {
    let is_same = |entry: &&mut Option<Entry>| entry.is_some_and(|entry| entry.flow == new.flow);
    if let Some(place) = set.iter_mut().find(is_same) {
        *place = Some(new);
        return;
    }
    let others = *set;
    let crowd = |peer| others.iter().flatten().chain([&new]).filter(|entry| entry.peer == peer).count();
    let merit = |entry: &Option<Entry>| {
        let alive = entry.filter(|entry| entry.is_alive(now));
        alive.map(|entry| entry.merit(new.generation, crowd(entry.peer)))
    };
    let Some(place) = set.iter_mut().min_by_key(|entry| merit(entry)) else { return };
    if merit(place).is_none_or(|(opener, ..)| opener <= new.opener) {
        *place = Some(new);
    }
}

impl Entry {
    fn new(flow: Flow, opener: Opener, stage: Stage, by: By, now: u32) -> Self {
        let phase = match stage {
            Stage::Opening | Stage::Answer | Stage::Going => Phase::Unanswered,
            Stage::Ending => Phase::Ending,
        };
        let By { peer, generation } = by;
        Self { flow, peer, opener, phase, generation, verdict: Action::Allow, last: now }
    }

    fn heard(&mut self, now: u32, stage: Stage, from: Opener) {
        self.last = now;
        if stage == Stage::Ending {
            self.phase = Phase::Ending;
        } else if self.phase == Phase::Unanswered && from != self.opener {
            self.phase = Phase::Answered;
        }
    }

    fn is_alive(&self, now: u32) -> bool {
        let lifetime = match (self.flow.protocol, self.phase) {
            (TCP, Phase::Answered) => lifetime::TCP,
            (TCP, _) => lifetime::TCP_AT_ITS_ENDS,
            (_, Phase::Unanswered) => lifetime::OTHER_UNANSWERED,
            (_, _) => lifetime::OTHER,
        };
        now.saturating_sub(self.last) <= lifetime
    }

    /// What is cut, or may be with its next packet, is missed more than what the rules of now allow: forgotten, it would
    /// begin anew with the next packet of ours. `crowd` says how many flows of its set are of its peer.
    fn merit(self, generation: u32, crowd: usize) -> (Opener, bool, Reverse<usize>, Phase, u32) {
        let is_cut = self.verdict == Action::Deny || self.generation != generation;
        (self.opener, is_cut, Reverse(crowd), self.phase, self.last)
    }
}
