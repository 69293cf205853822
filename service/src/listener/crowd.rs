//! How many connections there are: in all, and from one network of addresses. Whoever shows a certificate of ours is an
//! agent and counts in all only; so agents behind one NAT never stand in each other's way, nor does anybody else in theirs.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::auth::neighbourhood;

/// Agents stay connected, so this is the number of agents that one replica can hold.
const CONNECTIONS: usize = 8_192;

/// Connections from one network of addresses that are still shaking hands or waiting for a seat: a thousand machines behind
/// one NAT may come at once, after a start of the service say. An eighth of all places, and each of them for as long as
/// a handshake and [`SEAT_WAIT`] last.
const ARRIVING: usize = 1_024;

/// Connections from one network of addresses that have shown no certificate: people, programs, and machines while they
/// enrol. A browser or a program needs one, six over HTTP/1.1; an enrolment has its seat for less than a second, and
/// others wait for it meanwhile. With a 32nd of all places, no single network keeps the rest of the world out.
pub(super) const ANONYMOUS: usize = 256;

/// How long a connection waits for one of those seats: a thousand enrolments are over by then.
pub(super) const SEAT_WAIT: Duration = Duration::from_secs(15);

/// Counts the connections that stand.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    room: Arc<Semaphore>,
    networks: Arc<Mutex<HashMap<IpAddr, Arc<Shares>>>>,
}

/// What one network of addresses may have.
#[derive(Debug)]
struct Shares {
    arriving: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _room: OwnedSemaphorePermit,
    origin: Option<Origin>,
}

/// A connection that is counted among those of its network.
#[derive(Debug)]
struct Origin {
    _share: OwnedSemaphorePermit,
    shares: Arc<Shares>,
    address: IpAddr,
    crowd: Crowd,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(CONNECTIONS)), networks: Arc::default() }
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        self.room.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Counts a connection that has just come; none if too many of its network have.
    pub(super) fn arrive(&self, room: OwnedSemaphorePermit, from: IpAddr) -> Option<Place> {
        let address = neighbourhood(from);
        let mut networks = self.networks.lock().expect("no holder of this lock panics");
        let shares = networks.entry(address).or_default().clone();
        let share = shares.arriving.clone().try_acquire_owned().ok()?;
        Some(Place { _room: room, origin: Some(Origin { _share: share, shares, address, crowd: self.clone() }) })
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self { arriving: Arc::new(Semaphore::new(ARRIVING)), anonymous: Arc::new(Semaphore::new(ANONYMOUS)) }
    }
}

impl Place {
    /// The connection has shown a certificate of ours: where it comes from does not matter.
    pub(super) fn recognise(&mut self) {
        self.origin = None;
    }

    /// The connection has shown no certificate: waits for a seat among its network's; false if none came free.
    pub(super) async fn seat(&mut self) -> bool {
        let Some(origin) = &mut self.origin else { return true };
        match timeout(SEAT_WAIT, origin.shares.anonymous.clone().acquire_owned()).await {
            Ok(Ok(seat)) => {
                origin._share = seat;
                true
            }
            _ => false,
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let mut networks = self.crowd.networks.lock().expect("no holder of this lock panics");
        // The map's and this one: nobody else of this network is here, and nobody comes while the lock is held.
        if Arc::strong_count(&self.shares) == 2 {
            networks.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn arrive(crowd: &Crowd, from: &str) -> Option<Place> {
        crowd.arrive(crowd.room().await, from.parse().expect("an address"))
    }

    async fn seated(crowd: &Crowd, from: &str) -> Option<Place> {
        let mut place = arrive(crowd, from).await?;
        place.seat().await.then_some(place)
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_addresses_has_its_share_of_seats_and_gives_them_back() {
        for (greedy, neighbour, other) in
            [("198.51.100.1", "198.51.100.77", "198.51.101.1"), ("2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1")]
        {
            let crowd = Crowd::new();
            let mut places = Vec::new();
            while let Some(place) = seated(&crowd, greedy).await {
                places.push(place);
            }
            assert_eq!(places.len(), ANONYMOUS);
            assert!(seated(&crowd, neighbour).await.is_none(), "{neighbour} is of the same network");
            assert!(seated(&crowd, other).await.is_some(), "{other} is not");
            places.pop();
            assert!(seated(&crowd, neighbour).await.is_some());
            places.clear();
            assert!(crowd.networks.lock().expect("not poisoned").is_empty(), "nothing is remembered of the gone");
            assert_eq!(crowd.room.available_permits(), CONNECTIONS);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_seat_gets_the_one_that_comes_free() {
        let crowd = Crowd::new();
        let mut places = Vec::new();
        for _ in 0..ANONYMOUS {
            places.push(seated(&crowd, "198.51.100.1").await.expect("a seat"));
        }
        let mut waiting = arrive(&crowd, "198.51.100.2").await.expect("arrives");
        let (came, ()) = tokio::join!(waiting.seat(), async { drop(places.pop()) });
        assert!(came);
    }

    #[tokio::test(start_paused = true)]
    async fn the_recognised_are_counted_in_all_only() {
        let crowd = Crowd::new();
        let mut places = Vec::new();
        for _ in 0..2 * ARRIVING {
            let mut place = arrive(&crowd, "198.51.100.1").await.expect("the others have been recognised");
            place.recognise();
            places.push(place);
        }
        assert!(seated(&crowd, "198.51.100.2").await.is_some());
        assert_eq!(crowd.room.available_permits(), CONNECTIONS - places.len());
    }

    #[tokio::test]
    async fn a_network_of_addresses_cannot_arrive_without_end() {
        let crowd = Crowd::new();
        let mut places = Vec::new();
        while let Some(place) = arrive(&crowd, "198.51.100.1").await {
            places.push(place);
        }
        assert_eq!(places.len(), ARRIVING);
        assert!(arrive(&crowd, "203.0.113.1").await.is_some());
    }
}
