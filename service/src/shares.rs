//! How many of something each owner has at a time. Whoever has their share is refused and waits for nothing.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard},
};

/// What owners have now; an owner who has nothing is forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Shares<K> {
    most: usize,
    held: Arc<Mutex<HashMap<K, usize>>>,
}

/// One of an owner's until this is dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Hash + Eq> {
    owner: K,
    shares: Shares<K>,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// Each owner has at most `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more for `owner`; none if they have their share.
    pub(crate) fn take(&self, owner: K) -> Option<Share<K>> {
        let mut held = self.held();
        let count = held.entry(owner.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Share { owner, shares: self.clone() })
    }
}

impl<K> Shares<K> {
    fn held(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        if let Some(count) = held.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_their_share_takes_none_of_others_and_is_forgotten_afterwards() {
        let shares = Shares::new(2);
        let mut held: Vec<_> = (0..2).map(|_| shares.take("a").expect("a share")).collect();
        assert!(shares.take("a").is_none());
        let other = shares.take("b").expect("another's share");
        held.pop();
        held.push(shares.take("a").expect("it was given back"));
        drop((held, other));
        assert!(shares.held().is_empty());
    }
}
