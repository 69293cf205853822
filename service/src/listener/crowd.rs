//! How many connections there are: in all, and from one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Agents stay connected, so this is the number of agents that one replica can hold.
const CONNECTIONS: usize = 8_192;

/// Nobody takes all of them: this many come from one address at most, which may be a NAT with a thousand machines behind.
const FROM_ONE_ADDRESS: usize = 4_096;

/// Counts the connections that stand.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    room: Arc<Semaphore>,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(CONNECTIONS)), from: Arc::default() }
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        self.room.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Counts a connection; none if its address has too many already.
    pub(super) fn admit(&self, permit: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        let mut from = self.from.lock().expect("no holder of this lock panics");
        let count = from.entry(address).or_default();
        if *count >= FROM_ONE_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place { _permit: permit, from: self.from.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut from = self.from.lock().expect("no holder of this lock panics");
        if let Some(count) = from.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                from.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_every_place_and_gives_its_own_back() {
        let crowd = Crowd::new();
        let (greedy, other) = (IpAddr::from([198, 51, 100, 1]), IpAddr::from([198, 51, 100, 2]));
        let mut places = Vec::new();
        while let Some(place) = crowd.admit(crowd.room().await, greedy) {
            places.push(place);
        }
        assert_eq!(places.len(), FROM_ONE_ADDRESS);
        assert!(crowd.admit(crowd.room().await, other).is_some());
        places.clear();
        assert!(crowd.admit(crowd.room().await, greedy).is_some());
        assert!(crowd.from.lock().expect("not poisoned").is_empty(), "nothing is remembered of the gone");
    }
}
