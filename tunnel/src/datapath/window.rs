//! The replay window: which counters of a sender were seen (RFC 6479, a ring of words that is never shifted).

use crate::discard::Discard;

/// 8192 packets, beside the word that is being filled; what comes rarely does with fewer words.
const PACKETS: usize = 129;

pub(crate) struct Window<const WORDS: usize = PACKETS> {
    /// One more than the greatest counter seen.
    next: u64,
    words: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    /// How far behind the greatest counter a packet may come: the whole ring but the word that is being filled.
    const SIZE: u64 = ((WORDS - 1) * u64::BITS as usize) as u64;

    pub(crate) fn new() -> Self {
        Self { next: 0, words: [0; WORDS] }
    }

    /// A window that takes this counter and greater ones.
    pub(crate) fn starting_at(counter: u64) -> Self {
        let mut window = Self { next: counter, words: [u64::MAX; WORDS] };
        let (word, bit) = Self::place(counter);
        window.words[word] = (1 << bit) - 1;
        window
    }

    /// Whether no counter from this one on was passed by so far that it would be refused.
    pub(crate) fn reaches(&self, counter: u64) -> bool {
        self.oldest() <= counter
    }

    /// The lowest counter that may still come.
    pub(crate) fn oldest(&self) -> u64 {
        self.next.saturating_sub(Self::SIZE)
    }

    /// Takes note of an authentic counter; refuses one that was seen or is too old.
    pub(crate) fn accept(&mut self, counter: u64) -> Result<(), Discard> {
        if counter < self.oldest() {
            return Err(Discard::Replay);
        }
        if counter >= self.next {
            self.advance(counter);
        }
        let (word, bit) = Self::place(counter);
        let seen = self.words[word] >> bit & 1 == 1;
        self.words[word] |= 1 << bit;
        if seen { Err(Discard::Replay) } else { Ok(()) }
    }

    /// Empties the words between the greatest counter so far and this one.
    fn advance(&mut self, counter: u64) {
        let (from, to) = (self.next.saturating_sub(1) / 64, counter / 64);
        for word in (from + 1..=to).take(WORDS) {
            self.words[word as usize % WORDS] = 0;
        }
        self.next = counter + 1;
    }

    fn place(counter: u64) -> (usize, u32) {
        ((counter / 64) as usize % WORDS, (counter % 64) as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = Window::<PACKETS>::SIZE;

    /// The oracle: all counters ever accepted.
    #[derive(Default)]
    struct Memory(BTreeSet<u64>);

    impl Memory {
        fn accept(&mut self, counter: u64) -> bool {
            let oldest = self.0.last().map_or(0, |greatest| (greatest + 1).saturating_sub(SIZE));
            counter >= oldest && self.0.insert(counter)
        }
    }

    /// Steps that stay near, reach the window's end, or leave it.
    fn step() -> impl Strategy<Value = i64> {
        let size = SIZE as i64;
        prop_oneof![4 => -70i64..70, 2 => -size - 70..-size + 70, 1 => size - 70..size + 70, 1 => -30_000i64..30_000]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_memory_of_all(start in 0u64..20_000, steps in prop::collection::vec(step(), 1..400)) {
            let (mut window, mut memory, mut greatest) = (Window::<PACKETS>::new(), Memory::default(), start);
            for step in steps {
                let counter = greatest.saturating_add_signed(step);
                prop_assert_eq!(window.accept(counter).is_ok(), memory.accept(counter), "{}", counter);
                greatest = greatest.max(counter);
            }
        }
    }

    proptest! {
        #[test]
        fn one_that_starts_later_takes_what_is_not_before(
            start in 0u64..40_000,
            steps in prop::collection::vec(step(), 1..100),
        ) {
            let (mut window, mut memory, mut greatest) = (Window::<PACKETS>::starting_at(start), Memory::default(), start);
            for step in steps {
                let counter = greatest.saturating_add_signed(step);
                let expected = counter >= start && memory.accept(counter);
                prop_assert_eq!(window.accept(counter).is_ok(), expected, "{}", counter);
                greatest = if expected { greatest.max(counter) } else { greatest };
            }
        }
    }

    #[test]
    fn the_first_counter_is_zero_and_the_window_ends_where_it_says() {
        let mut window = Window::<PACKETS>::new();
        assert!(window.accept(0).is_ok() && window.accept(0).is_err());
        assert!(window.accept(SIZE).is_ok());
        assert!(window.accept(0).is_err() && window.accept(1).is_ok());
        assert!(window.accept(u64::MAX - 1).is_ok() && window.accept(SIZE + 1).is_err());
    }
}
