//! One endpoint of a peer, as our requests found it: whether it answers, how fast, how reliably, and whether it may be
//! trusted again after it failed. Pure; when to ask is decided by [`super::peer`].

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::estimate::{Outcomes, RoundTrip};

/// An answer that has not come by then counts as lost, whatever was measured: a busy machine may be late, and nobody
/// waits longer for one that is far.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// While no round trip is known.
const FIRST_TIMEOUT: Duration = Duration::from_millis(500);
/// Answers that come later are none.
const LATE: Duration = Duration::from_secs(5);
/// So many in a row, over at least so long, prove an endpoint again that was left; twice as long after every relapse.
const PROVING_ANSWERS: u32 = 5;
const PROVING_TIME: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Without a relapse for so long, beside the time of proving, all is forgiven.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing yet.
    Untried,
    Answers,
    /// It was left and answers again: not to be relied on yet.
    Proving,
    Silent,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Untried => "untried",
            Self::Answers => "answers",
            Self::Proving => "proving",
            Self::Silent => "silent",
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Candidate {
    state: State,
    round_trip: Option<RoundTrip>,
    outcomes: Outcomes,
    /// Requests that may be answered yet, and whether they count as lost already.
    pending: VecDeque<(Instant, bool)>,
    pub(super) asked_at: Option<Instant>,
    pub(super) answered_at: Option<Instant>,
    /// When what was answered last was asked.
    answer_asked_at: Option<Instant>,
    silent_since: Option<Instant>,
    /// In a row, and when the first of them was asked.
    pub(super) missed: u32,
    missed_since: Option<Instant>,
    /// In a row, and since when.
    answered: (u32, Instant),
    /// How often it was left for another, and when last.
    relapses: (u32, Instant),
    /// To be asked at once.
    pub(super) is_urgent: bool,
    /// The peer was heard there since it was asked; not noted where it answers.
    pub(super) is_heard: bool,
    /// Varies the time between requests.
    pub(super) jitter: f64,
}

impl Candidate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Untried,
            round_trip: None,
            outcomes: Outcomes::default(),
            pending: VecDeque::new(),
            asked_at: None,
            answered_at: None,
            answer_asked_at: None,
            silent_since: None,
            missed: 0,
            missed_since: None,
            answered: (0, now),
            relapses: (0, now),
            is_urgent: false,
            is_heard: false,
            jitter: 1.0,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// How far it is.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.round_trip.map(RoundTrip::median)
    }

    /// Whether it answered so often that one answer which was late says nothing of how far it is.
    pub(super) fn is_rtt_sure(&self) -> bool {
        self.round_trip.is_some_and(RoundTrip::is_sure)
    }

    pub(super) fn loss_permille(&self) -> u16 {
        self.outcomes.loss_permille()
    }

    pub(super) fn asked(&mut self, now: Instant, jitter: f64) {
        self.pending.push_back((now, false));
        self.asked_at = Some(now);
        (self.is_urgent, self.is_heard) = (false, false);
        self.jitter = jitter;
    }

    /// Takes the answer to what was asked at `asked_at`; false if it is none of ours. One that is late is an answer all
    /// the same.
    pub(super) fn take_answer(&mut self, now: Instant, asked_at: Instant) -> bool {
        let Some(place) = self.pending.iter().position(|(at, _)| *at == asked_at) else { return false };
        self.pending.remove(place);
        let rtt = now.saturating_duration_since(asked_at);
        match &mut self.round_trip {
            Some(known) => known.update(rtt),
            None => self.round_trip = Some(RoundTrip::first(rtt)),
        }
        self.outcomes.push(true);
        self.answered_at = Some(now);
        self.answer_asked_at = self.answer_asked_at.max(Some(asked_at));
        self.missed = 0;
        self.missed_since = None;
        if self.answered.0 == 0 {
            self.answered.1 = now;
        }
        self.answered.0 += 1;
        self.state = match self.state {
            State::Answers => State::Answers,
            _ if self.is_proved(now) => State::Answers,
            _ => State::Proving,
        };
        true
    }

    /// Counts as lost what should have been answered by now; beyond `limit` in a row the endpoint is silent.
    pub(super) fn judge(&mut self, now: Instant, limit: u32) {
        let timeout = self.timeout();
        for (asked_at, is_lost) in &mut self.pending {
            if !*is_lost && now.saturating_duration_since(*asked_at) >= timeout {
                *is_lost = true;
                self.outcomes.push(false);
                self.answered = (0, now);
                // What was asked before the last answer came may only be late.
                if self.answered_at.is_none_or(|at| *asked_at >= at) {
                    self.missed += 1;
                    self.missed_since.get_or_insert(*asked_at);
                }
            }
        }
        self.pending.retain(|(asked_at, _)| now.saturating_duration_since(*asked_at) < LATE);
        if self.missed >= limit && self.state != State::Silent {
            self.state = State::Silent;
            self.silent_since = Some(now);
        }
    }

    /// When [`Candidate::judge`] finds something next.
    pub(super) fn judged_at(&self) -> Option<Instant> {
        let first = self.pending.iter().find(|(_, is_lost)| !is_lost);
        first.map(|(asked_at, _)| *asked_at + self.timeout())
    }

    /// How many requests are under way.
    pub(super) fn under_way(&self) -> u32 {
        self.pending.iter().filter(|(_, is_lost)| !is_lost).count().try_into().unwrap_or(u32::MAX)
    }

    /// Since when it has been silent: when the first request was sent that it did not answer.
    pub(super) fn failed_since(&self) -> Option<Instant> {
        self.missed_since.filter(|_| self.state == State::Silent)
    }

    /// Whether it answered something that was asked after that.
    pub(super) fn has_answered_since(&self, time: Instant) -> bool {
        self.answer_asked_at.is_some_and(|at| at >= time)
    }

    /// Whether `other` answered what it was asked while this one failed: then the path is at fault, and not the peer.
    pub(super) fn failed_beside(&self, other: &Self) -> bool {
        let answered = other.answer_asked_at.filter(|_| self.state == State::Silent);
        answered.zip(self.missed_since.zip(self.silent_since)).is_some_and(|(at, (from, to))| from <= at && at <= to)
    }

    /// It was left for another: it has to prove itself before it is used again.
    pub(super) fn relapsed(&mut self, now: Instant) {
        let (before, at) = self.relapses;
        let forgiven = now.saturating_duration_since(at) > FORGIVEN_AFTER + proving_time(before);
        self.relapses = (if forgiven { 1 } else { before.saturating_add(1) }, now);
    }

    /// We or the peer are elsewhere now: what was found is of another path.
    pub(super) fn moved(&mut self, now: Instant) {
        self.pending.clear();
        self.outcomes = Outcomes::default();
        self.round_trip.iter_mut().for_each(RoundTrip::doubt);
        self.missed = 0;
        self.relapses = (0, now);
        self.is_urgent = true;
    }

    /// Nothing that is under way tells anything: this machine stood still.
    pub(super) fn forget_pending(&mut self) {
        self.pending.retain(|(_, is_lost)| *is_lost);
    }

    pub(super) fn timeout(&self) -> Duration {
        let (least, most) = TIMEOUT;
        self.round_trip.map_or(FIRST_TIMEOUT, |round_trip| round_trip.timeout().clamp(least, most))
    }

    fn is_proved(&self, now: Instant) -> bool {
        let ((answers, since), (relapses, _)) = (self.answered, self.relapses);
        let time = now.saturating_duration_since(since);
        relapses == 0 || (answers >= PROVING_ANSWERS && time >= proving_time(relapses))
    }
}

fn proving_time(relapses: u32) -> Duration {
    let (first, most) = PROVING_TIME;
    let doublings = relapses.saturating_sub(1).min(8);
    (first * (1 << doublings)).min(most)
}
