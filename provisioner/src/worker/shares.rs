//! Fair shares of what a replica has only so much of. A network may hold a few times what is left: one network alone gets
//! nearly everything, and whoever comes next always finds something. (Dynamic thresholds: Choudhury and Hahne, 1998.)

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cladnet_model::NetworkId;
use tokio::sync::Notify;

/// How many times of what is left a network may hold: alone it gets four of five.
const TIMES: usize = 4;

/// See the module.
pub(super) struct Shares {
    total: usize,
    held: Mutex<BTreeMap<NetworkId, usize>>,
    freed: Notify,
}

/// A share of one network; dropping it gives it back.
pub(super) struct Share {
    of: Arc<Shares>,
    network: NetworkId,
}

impl Shares {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, held: Mutex::default(), freed: Notify::new() })
    }

    /// None if the network holds enough already.
    pub(super) fn try_take(self: &Arc<Self>, network: &NetworkId) -> Option<Share> {
        let mut held = self.held();
        let left = self.total.saturating_sub(held.values().sum());
        let own = held.get(network).copied().unwrap_or_default();
        if own >= TIMES * left {
            return None;
        }
        held.insert(network.clone(), own + 1);
        Some(Share { of: self.clone(), network: network.clone() })
    }

    /// Waits for one.
    pub(super) async fn take(self: &Arc<Self>, network: &NetworkId) -> Share {
        loop {
            let mut freed = pin!(self.freed.notified());
            // What is given back from here on is heard of.
            freed.as_mut().enable();
            match self.try_take(network) {
                Some(share) => return share,
                None => freed.await,
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<NetworkId, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held();
        match held.get_mut(&self.network) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(held.remove(&self.network)),
        }
        drop(held);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn network(name: &str) -> NetworkId {
        name.parse().unwrap()
    }

    fn take_all(shares: &Arc<Shares>, name: &str) -> Vec<Share> {
        std::iter::from_fn(|| shares.try_take(&network(name))).collect()
    }

    #[test]
    fn a_greedy_network_leaves_something_to_every_other_one() {
        let shares = Shares::new(128);
        let greedy = take_all(&shares, "greedy");
        assert_eq!(greedy.len(), 103, "alone it gets what one deployment may ask for");
        let others: Vec<Vec<Share>> = (0..3).map(|n| take_all(&shares, &format!("other-{n}"))).collect();
        assert_eq!(others.iter().map(Vec::len).collect::<Vec<_>>(), [20, 4, 1]);
        drop(greedy);
        assert!(take_all(&shares, "other-2").len() > 60, "what is given back is there for all");
    }

    #[tokio::test]
    async fn who_waits_hears_of_what_is_given_back() {
        let shares = Shares::new(2);
        let (own, mut held) = (network("a"), take_all(&shares, "a"));
        let mut waiting = pin!(shares.take(&own));
        assert!(waiting.as_mut().now_or_never().is_none(), "nothing is left");
        held.pop();
        waiting.await;
    }
}
