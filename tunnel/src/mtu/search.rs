//! The search for what one path carries: which sizes to try, and what an answer or silence means. Time is told; nothing
//! is sent here.
//!
//! Sizes are those of inner packets. The size in force is proved before it grows; it shrinks as soon as it is lost while
//! small probes are answered. Nothing is tried before the pair exchanges long packets.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What every IPv4 host takes (RFC 791 §3.2), without headers around a packet: taken on trust, as there is nothing below.
pub(super) const FLOOR: u16 = 576 - 60;
/// Links that are met: IPv6's least, a tunnel over Ethernet, GCP; a network that leaves room for a tunnel's headers; and
/// with jumbo frames Azure, AWS between VPCs, GCP, Ethernet, AWS. Ethernet's own 1500 is what the default is made for.
/// [`LEAST_LONG`] tells whether it is worth while to search for any size between.
const LINKS: [u16; 10] = [1280, 1400, 1460, LEAST_LONG, 1600, 3900, 8500, 8896, 9000, 9001];
/// A link that carries less is Ethernet's own, of which some take a tag or two more: the default is nearly as good.
const LEAST_LONG: u16 = 1520;
/// What is left for a packet, of the narrowest of [`LINKS`], by whatever protocol it travels.
const SAFE: u16 = 1200;

/// An attempt that is not answered by then is made again.
const ATTEMPT: Duration = Duration::from_millis(500);
/// The last one is waited for so long, unless small probes were answered in the meantime,
const LAST_ATTEMPT: Duration = Duration::from_secs(2);
/// and this long after the last of those: the long one may be on its way behind it.
const BEHIND: Duration = Duration::from_millis(200);
/// How often a new size is tried before it is refused, and how often the one in force: to give that up is dear.
const ATTEMPTS: u8 = 2;
const ATTEMPTS_IN_FORCE: u8 = 3;
/// A path that answers nothing is asked again after this long.
const PAUSE: Duration = Duration::from_secs(20);
/// The size in force is proved this often while long packets are sent,
const PROVE_EVERY: Duration = Duration::from_secs(30);
/// and earlier if long packets are sent and nothing is heard for this long.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// Links change: what was refused is tried again.
const SEARCH_EVERY: Duration = Duration::from_secs(600);

/// What the pair has exchanged since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Packets that a narrow path may not carry: longer than [`FLOOR`].
    pub(super) sent_long: bool,
    pub(super) received_long: bool,
    /// Any packet came.
    pub(super) heard: bool,
}

/// What to send now: a probe as long as a full packet of this size, and with it perhaps the shortest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) size: u16,
    pub(super) with_small: bool,
}

#[derive(Debug)]
pub(super) struct Search {
    usual: [u16; LINKS.len()],
    default: u16,
    in_force: u16,
    /// The longest that was proved in this search; [`FLOOR`] without proof.
    carried: u16,
    /// The shortest that was refused, or one more than is ever tried.
    refused: u16,
    trial: Option<Trial>,
    /// When the size in force was proved, or there was none below it.
    proved_at: Option<Instant>,
    /// When the search came to its end.
    ended_at: Option<Instant>,
    silence: Silence,
    /// Packets passed that the end of the search would be good for.
    is_wanted: bool,
    not_before: Instant,
}

/// Whether long packets are sent and nothing comes back. That may be what the application wants.
#[derive(Debug, Clone, Copy)]
enum Silence {
    None,
    Since(Instant),
    /// It does not come from the path.
    Proved,
}

#[derive(Debug)]
struct Trial {
    size: u16,
    attempt: u8,
    sent_at: Instant,
    /// Small probes that were answered beside it.
    small_answers: u8,
    small_at: Instant,
}

impl Search {
    /// For a path to `to`, where packets of `default` are assumed to pass.
    pub(super) fn new(now: Instant, to: IpAddr, default: u16) -> Self {
        let headers = if to.is_ipv4() { 60 } else { 80 };
        let usual = LINKS.map(|link| link - headers);
        Self {
            usual,
            default,
            in_force: default,
            carried: FLOOR,
            refused: top(&usual, default) + 1,
            trial: None,
            proved_at: None,
            ended_at: None,
            silence: Silence::None,
            is_wanted: false,
            not_before: now,
        }
    }

    /// The search on another path. What the one before carried beyond the default is not assumed of this one.
    pub(super) fn moved(&self, now: Instant, to: IpAddr) -> Self {
        Self { in_force: self.in_force.min(self.default), ..Self::new(now, to, self.default) }
    }

    /// The longest packet that is to be sent.
    pub(super) fn in_force(&self) -> u16 {
        self.in_force
    }

    /// Whether [`Search::poll`] is to be called though nothing was exchanged.
    pub(super) fn is_busy(&self) -> bool {
        self.trial.is_some() || self.is_open() && self.is_wanted
    }

    pub(super) fn poll(&mut self, now: Instant, seen: Seen) -> Option<Ask> {
        self.follow(now, seen);
        if self.trial.is_some() {
            let again = self.try_again(now);
            if again.is_some() || self.trial.is_some() {
                return again;
            }
        }
        if now < self.not_before {
            return None;
        }
        if self.is_wanted && self.ended_at.is_some_and(|at| now >= at + SEARCH_EVERY) {
            (self.carried, self.refused) = (FLOOR, top(&self.usual, self.default) + 1);
            self.ended_at = None;
        }
        let size = if self.is_open() && self.is_wanted {
            self.next_size(now)
        } else {
            (seen.sent_long && self.is_doubtful(now)).then_some(self.in_force)
        };
        size.map(|size| {
            self.trial = Some(Trial { size, attempt: 1, sent_at: now, small_answers: 0, small_at: now });
            Ask { size, with_small: false }
        })
    }

    /// A probe of this size was answered.
    pub(super) fn answered(&mut self, now: Instant, size: u16) {
        if self.trial.take_if(|trial| trial.size == size).is_none() {
            return;
        }
        // Twice, if it is more than is in force.
        if size == self.carried {
            self.in_force = self.in_force.max(size);
        }
        self.carried = self.carried.max(size);
        if size == self.in_force {
            self.proved_at = Some(now);
            self.settle_silence();
        }
    }

    /// A probe of the least size was answered.
    pub(super) fn answered_small(&mut self, now: Instant) {
        if let Some(trial) = &mut self.trial {
            trial.small_answers = trial.small_answers.saturating_add(1);
            trial.small_at = now;
        }
    }

    /// Our own link does not carry it, or nobody beyond.
    pub(super) fn refuse(&mut self, now: Instant, size: u16) {
        self.trial.take_if(|trial| trial.size == size);
        self.refused = self.refused.min(size);
        if size <= self.carried {
            self.carried = FLOOR;
        }
        if size <= self.in_force {
            self.in_force = if SAFE < size { SAFE } else { FLOOR };
            self.ended_at = None;
        }
        if size == FLOOR {
            // There is nothing to go down to.
            self.proved_at = Some(now);
            self.settle_silence();
        }
    }

    fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    fn settle_silence(&mut self) {
        if let Silence::Since(_) = self.silence {
            self.silence = Silence::Proved;
        }
    }

    /// Whether the size in force is to be proved again.
    fn is_doubtful(&self, now: Instant) -> bool {
        let is_old = self.proved_at.is_none_or(|at| now >= at + PROVE_EVERY);
        is_old || matches!(self.silence, Silence::Since(since) if now >= since + STALLED_AFTER)
    }

    fn follow(&mut self, now: Instant, seen: Seen) {
        self.is_wanted = self.is_wanted && self.is_open() || seen.sent_long || seen.received_long;
        match self.silence {
            _ if seen.heard => self.silence = Silence::None,
            Silence::None if seen.sent_long => self.silence = Silence::Since(now),
            _ => {}
        }
    }

    /// An attempt that was not answered in time is made again, and at last judged. If small probes were lost as well, it
    /// tells nothing of sizes.
    fn try_again(&mut self, now: Instant) -> Option<Ask> {
        let trial = self.trial.as_mut().filter(|trial| now >= trial.sent_at + ATTEMPT)?;
        let attempts = if trial.size == self.in_force { ATTEMPTS_IN_FORCE } else { ATTEMPTS };
        if trial.attempt < attempts {
            trial.attempt += 1;
            trial.sent_at = now;
            return Some(Ask { size: trial.size, with_small: true });
        }
        let size = trial.size;
        let is_alive = trial.small_answers + 1 >= attempts;
        if is_alive && now >= trial.small_at + BEHIND {
            self.refuse(now, size);
        } else if now >= trial.sent_at + LAST_ATTEMPT {
            self.trial = None;
            self.is_wanted = false;
            self.not_before = now + PAUSE;
        }
        None
    }

    /// What to try next; at the end of the search, what was found, once more.
    fn next_size(&mut self, now: Instant) -> Option<u16> {
        let next = self.unknown_size();
        if next.is_none() && self.carried > self.in_force {
            return Some(self.carried);
        }
        if next.is_none() {
            self.ended_at = Some(now);
            self.is_wanted = false;
        }
        next
    }

    /// Between what is carried and what is refused: what is in force, the default, the most there can be, the usual
    /// sizes, any size.
    fn unknown_size(&self) -> Option<u16> {
        let unknown = self.carried + 1..self.refused;
        if let Some(size) = [self.in_force, self.default].into_iter().find(|size| unknown.contains(size)) {
            return Some(size);
        }
        let carries_more = self.carried > self.default;
        let top = top(&self.usual, self.default);
        if !carries_more && unknown.contains(&top) {
            return Some(top);
        }
        let least_long = LEAST_LONG - (LINKS[0] - self.usual[0]);
        let is_of_use = |size: &u16| unknown.contains(size) && (*size < self.default || *size >= least_long);
        let usual: Vec<u16> = self.usual.into_iter().filter(is_of_use).collect();
        if !usual.is_empty() {
            return Some(usual[usual.len() / 2]);
        }
        if unknown.is_empty() || self.carried == self.default {
            return None;
        }
        // Most links are usual ones.
        let after_usual = self.usual.contains(&self.carried).then_some(self.carried + 1);
        Some(after_usual.unwrap_or(unknown.start + (unknown.end - unknown.start) / 2))
    }
}

fn top(usual: &[u16], default: u16) -> u16 {
    usual.last().copied().unwrap_or(default).max(default)
}
