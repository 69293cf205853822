//! Sets of IPv4 addresses as sorted, disjoint ranges, and the aligned blocks inside them: exact, without counting
//! addresses.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Half-open ranges of addresses as numbers, sorted, none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl FromIterator<Ipv4Net> for Ranges {
    fn from_iter<I: IntoIterator<Item = Ipv4Net>>(nets: I) -> Self {
        let mut ranges: Vec<(u64, u64)> = nets.into_iter().map(bounds).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1;
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
        Self(ranges)
    }
}

impl Ranges {
    /// What is in `self` and not in `other`.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let (mut left, mut next) = (Vec::new(), 0);
        for (mut start, end) in self.0.iter().copied() {
            while other.0.get(next).is_some_and(|taken| taken.1 <= start) {
                next += 1;
            }
            for (taken_start, taken_end) in other.0[next..].iter().take_while(|taken| taken.0 < end) {
                if start < *taken_start {
                    left.push((start, *taken_start));
                }
                start = *taken_end;
            }
            if start < end {
                left.push((start, end));
            }
        }
        Self(left)
    }

    /// What is in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// The part that blocks of this prefix length cover.
    pub(super) fn aligned(&self, prefix: u8) -> Self {
        Self(self.0.iter().map(|range| align(*range, prefix)).filter(|(start, end)| start < end).collect())
    }

    /// How many blocks of this prefix length fit.
    pub(super) fn count(&self, prefix: u8) -> u64 {
        self.0.iter().map(|range| blocks(*range, prefix)).sum()
    }

    /// The n-th of the blocks that fit, in the order of addresses.
    pub(super) fn nth(&self, prefix: u8, mut n: u64) -> Option<Ipv4Net> {
        for range in &self.0 {
            let fit = blocks(*range, prefix);
            if n < fit {
                let start = align(*range, prefix).0 + n * size(prefix);
                return Ipv4Net::new(Ipv4Addr::from_bits(u32::try_from(start).ok()?), prefix).ok();
            }
            n -= fit;
        }
        None
    }

    /// Whether all of a block is in the set.
    pub(super) fn contains(&self, net: Ipv4Net) -> bool {
        let (start, end) = bounds(net);
        let before = self.0.partition_point(|range| range.1 < end);
        self.0.get(before).is_some_and(|range| range.0 <= start)
    }
}

/// Addresses of a block.
fn size(prefix: u8) -> u64 {
    1 << (32 - prefix)
}

fn bounds(net: Ipv4Net) -> (u64, u64) {
    let start = u64::from(net.network().to_bits());
    (start, start + size(net.prefix_len()))
}

/// The range without what is cut off a block at either side; possibly empty, then start and end may be crossed.
fn align((start, end): (u64, u64), prefix: u8) -> (u64, u64) {
    (start.next_multiple_of(size(prefix)), end / size(prefix) * size(prefix))
}

fn blocks(range: (u64, u64), prefix: u8) -> u64 {
    let (start, end) = align(range, prefix);
    end.saturating_sub(start) / size(prefix)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn ranges(nets: &[&str]) -> Ranges {
        nets.iter().map(|net| net.parse::<Ipv4Net>().unwrap()).collect()
    }

    #[test]
    fn the_whole_and_the_ends_of_the_address_space_are_counted_right() {
        assert_eq!(ranges(&["0.0.0.0/0"]).count(32), 1 << 32);
        assert_eq!(ranges(&["0.0.0.0/0"]).count(0), 1);
        assert_eq!(ranges(&["255.255.255.255/32"]).nth(32, 0), Some("255.255.255.255/32".parse().unwrap()));
        assert_eq!(ranges(&["255.255.255.255/32"]).nth(32, 1), None);
    }

    fn net() -> impl Strategy<Value = Ipv4Net> {
        (0..64u32, 26..=32u8)
            .prop_map(|(offset, prefix)| Ipv4Net::new(Ipv4Addr::from_bits(offset), prefix).unwrap().trunc())
    }

    /// The same set, address by address.
    fn brute(nets: &[Ipv4Net]) -> [bool; 64] {
        std::array::from_fn(|address| nets.iter().any(|net| net.contains(&Ipv4Addr::from_bits(address as u32))))
    }

    proptest! {
        #[test]
        fn they_agree_with_sets_of_single_addresses(ours in vec(net(), 0..6), theirs in vec(net(), 0..6), prefix in 26..=32u8) {
            let (one, other): (Ranges, Ranges) = (ours.iter().copied().collect(), theirs.iter().copied().collect());
            let (in_one, in_other) = (brute(&ours), brute(&theirs));
            let holds = |ranges: &Ranges, address: u32| ranges.contains(Ipv4Net::new(Ipv4Addr::from_bits(address), 32).unwrap());
            for address in 0..64 {
                let (a, b) = (in_one[address], in_other[address]);
                prop_assert_eq!(holds(&one.minus(&other), address as u32), a && !b);
                prop_assert_eq!(holds(&one.and(&other), address as u32), a && b);
            }
            let size = 1usize << (32 - prefix);
            let fits = |block: usize| (block..block + size).all(|address| in_one[address]);
            let expected: Vec<usize> = (0..64).step_by(size).filter(|block| fits(*block)).collect();
            let found: Vec<usize> = (0..one.count(prefix))
                .map(|n| one.nth(prefix, n).unwrap().network().to_bits() as usize)
                .collect();
            prop_assert_eq!(one.aligned(prefix).count(prefix), one.count(prefix));
            prop_assert_eq!(one.aligned(prefix).count(32), (expected.len() * size) as u64);
            prop_assert_eq!(found, expected);
        }
    }
}
