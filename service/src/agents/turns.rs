//! One at a time per key: callers who would only make each other's compare-and-swap fail queue here instead.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Keys kept before those that nobody waits for are forgotten.
const KEPT: usize = 1_024;

/// Queues by key. Other replicas are not part of them.
#[derive(Debug)]
pub(crate) struct Turns<K>(Mutex<HashMap<K, Arc<Turn<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Turns<K> {
    /// Waits until nobody else holds `key`.
    pub(crate) async fn take(&self, key: &K) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().expect("no holder of this lock panics");
            if turns.len() >= KEPT {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(key.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }
}
