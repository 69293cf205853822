//! The search: among all blocks of one prefix length that are free, those that nothing speaks against, spread over
//! the space.

use ipnet::Ipv4Net;
use ring::digest::{SHA256, digest};

use super::{Question, known, ranges::Ranges};

/// Doublings in place that make a space better; more room than that changes nothing.
pub(super) const MAX_DOUBLINGS: u8 = 4;

/// What speaks for a block, better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Merit {
    /// Common software may use it.
    pub(super) soft: bool,
    /// Many use it.
    pub(super) common: bool,
    /// Doublings in place that are missing to [`MAX_DOUBLINGS`].
    pub(super) cramped: u8,
}

/// A block and what speaks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) space: Ipv4Net,
    pub(super) merit: Merit,
}

/// Where in the space an installation begins to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed([u8; 8]);

impl Seed {
    /// The same for the same question.
    pub(super) fn of(question: &Question<'_>) -> Self {
        let mut ranges: Vec<String> = question.avoid.iter().map(|avoid| avoid.range.to_string()).collect();
        ranges.sort_unstable();
        ranges.dedup();
        Self::hash(&format!("{} {} {}", question.hosts, ranges.join(" "), question.salt))
    }

    fn hash(text: &str) -> Self {
        let mut seed = [0; 8];
        seed.copy_from_slice(&digest(&SHA256, text.as_bytes()).as_ref()[..8]);
        Self(seed)
    }

    /// One of `count` places for the n-th proposal.
    fn place(self, n: usize, count: u64) -> u64 {
        u64::from_be_bytes(Self::hash(&format!("{:?} {n}", self.0)).0) % count
    }
}

/// The best blocks, best first, no two overlapping. Each is the best once those before it are taken.
pub(super) fn search(free: &Ranges, prefix: u8, limit: usize, seed: Seed) -> Vec<Found> {
    let soft = || known::SOFT.iter().map(|(range, _)| *range).collect();
    let common = || known::COMMON.iter().map(|(range, _)| *range).collect();
    Search { free: free.clone(), soft: soft(), common: common(), prefix }.take(limit, seed)
}

/// The state of a search.
pub(super) struct Search {
    /// Shrinks with every block that is found.
    pub(super) free: Ranges,
    pub(super) soft: Ranges,
    pub(super) common: Ranges,
    pub(super) prefix: u8,
}

impl Search {
    pub(super) fn take(mut self, limit: usize, seed: Seed) -> Vec<Found> {
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(next) = self.best(found.len(), seed) else { break };
            self.free = self.free.minus(&[next.space].into_iter().collect());
            found.push(next);
        }
        found
    }

    fn best(&self, n: usize, seed: Seed) -> Option<Found> {
        let flags = [(false, false), (false, true), (true, false), (true, true)];
        for (soft, common) in flags {
            let mut clean = self.free.clone();
            if !soft {
                clean = clean.minus(&self.soft);
            }
            if !common {
                clean = clean.minus(&self.common);
            }
            for cramped in 0..=MAX_DOUBLINGS {
                let merit = Merit { soft, common, cramped };
                if let Some(space) = self.pick(&clean, merit, n, seed) {
                    return Some(Found { space, merit });
                }
            }
        }
        None
    }

    /// One of the blocks in `clean` that lie in a free block large enough to grow into: where the seed says, and
    /// then, if it can be, at the beginning of the room to grow.
    fn pick(&self, clean: &Ranges, merit: Merit, n: usize, seed: Seed) -> Option<Ipv4Net> {
        let room = self.prefix.checked_sub(MAX_DOUBLINGS - merit.cramped)?;
        let roomy = clean.and(&self.free.aligned(room));
        let count = roomy.count(self.prefix);
        if count == 0 {
            return None;
        }
        let space = roomy.nth(self.prefix, seed.place(n, count))?;
        let beginning = Ipv4Net::new(space.network(), room).ok()?.network();
        let first = Ipv4Net::new(beginning, self.prefix).ok()?;
        Some(if roomy.contains(first) { first } else { space })
    }
}
