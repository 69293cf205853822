//! Session indices: the 32-bit numbers by which others address a session of ours, and whose they are.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rand::Rng;

/// Every index in use on the host. Random, so that an observer cannot tell which sessions belong together.
#[derive(Default)]
pub(crate) struct SessionIndices(RwLock<HashMap<u32, u32>>);

/// An index while somebody uses it.
pub(crate) struct SessionIndex {
    value: u32,
    indices: Arc<SessionIndices>,
}

impl SessionIndices {
    /// A fresh index of the peer with this number.
    pub(crate) fn assign(self: &Arc<Self>, peer: u32, rng: &mut (impl Rng + ?Sized)) -> SessionIndex {
        let mut owners = self.write();
        loop {
            let value = rng.next_u32();
            if let std::collections::hash_map::Entry::Vacant(free) = owners.entry(value) {
                free.insert(peer);
                return SessionIndex { value, indices: self.clone() };
            }
        }
    }

    /// The number of the peer whose session this is. What was never assigned belongs to an engine that numbers its
    /// sessions itself, in a block of 256 for each peer.
    pub(crate) fn peer(&self, index: u32) -> u32 {
        self.read().get(&index).copied().unwrap_or(index >> 8)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<u32, u32>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u32, u32>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionIndex {
    pub(crate) fn value(&self) -> u32 {
        self.value
    }
}

impl Drop for SessionIndex {
    fn drop(&mut self) {
        self.indices.write().remove(&self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_its_peers_until_it_is_dropped() {
        let (indices, mut rng) = (Arc::new(SessionIndices::default()), rand::rng());
        let held: Vec<_> = (0..1000).map(|peer| indices.assign(peer, &mut rng)).collect();
        assert!(held.iter().zip(0..).all(|(index, peer)| indices.peer(index.value()) == peer));
        let first = held[0].value();
        drop(held);
        assert_eq!(indices.peer(first), first >> 8);
        assert!(indices.read().is_empty());
    }
}
