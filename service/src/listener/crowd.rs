//! How many connections there are: in all, from one network of addresses, and of one host. Whoever shows a certificate of
//! ours is counted with it and not where they come from; so agents behind one NAT never stand in each other's way, nor does
//! anybody else in theirs, and no certificate is worth more than a few places, not even that of a host that was removed.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
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

/// Connections that have shown the certificate of one host. Its agent needs one for its stream and one for a call now and
/// then; the others are for those that broke and whose end has not been noticed yet.
pub(super) const HOST: usize = 8;

/// How long a connection waits for one of those seats: a thousand enrolments are over by then.
pub(super) const SEAT_WAIT: Duration = Duration::from_secs(15);

/// Connections that share a number of seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Group {
    /// From a network of addresses, still on their way to a seat.
    Arriving(IpAddr),
    /// From a network of addresses, without a certificate.
    Strangers(IpAddr),
    /// Of the host whose key has this hash.
    Host([u8; 32]),
}

impl Group {
    /// Those who come from near `address` and show nothing.
    pub(super) fn strangers(address: IpAddr) -> Self {
        Self::Strangers(neighbourhood(address))
    }

    fn seats(self) -> usize {
        match self {
            Self::Arriving(_) => ARRIVING,
            Self::Strangers(_) => ANONYMOUS,
            Self::Host(_) => HOST,
        }
    }
}

/// Counts the connections that stand.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    room: Arc<Semaphore>,
    groups: Arc<Mutex<HashMap<Group, Seats>>>,
}

/// What a group has, and how many sit there or wait.
#[derive(Debug)]
struct Seats {
    free: Arc<Semaphore>,
    users: usize,
}

/// One of the users of a group's seats until this is dropped.
#[derive(Debug)]
struct User {
    free: Arc<Semaphore>,
    group: Group,
    crowd: Crowd,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _seat: OwnedSemaphorePermit,
    user: User,
    _room: OwnedSemaphorePermit,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(CONNECTIONS)), groups: Arc::default() }
    }

    /// Waits until there is room for one more.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        self.room.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Counts a connection that has just come; none if too many of its network have.
    pub(super) fn arrive(&self, room: OwnedSemaphorePermit, from: IpAddr) -> Option<Place> {
        let user = self.user(Group::Arriving(neighbourhood(from)));
        let seat = user.free.clone().try_acquire_owned().ok()?;
        Some(Place { _seat: seat, user, _room: room })
    }

    fn user(&self, group: Group) -> User {
        let mut groups = self.groups();
        let new = || Seats { free: Arc::new(Semaphore::new(group.seats())), users: 0 };
        let seats = groups.entry(group).or_insert_with(new);
        seats.users += 1;
        User { free: seats.free.clone(), group, crowd: self.clone() }
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Group, Seats>> {
        self.groups.lock().expect("no holder of this lock panics")
    }
}

impl Place {
    /// Waits for a seat of `group`; false if none came free.
    pub(super) async fn seat(&mut self, group: Group) -> bool {
        let user = self.user.crowd.user(group);
        match timeout(SEAT_WAIT, user.free.clone().acquire_owned()).await {
            Ok(Ok(seat)) => {
                (self._seat, self.user) = (seat, user);
                true
            }
            _ => false,
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut groups = self.crowd.groups();
        if let Some(seats) = groups.get_mut(&self.group) {
            seats.users -= 1;
            if seats.users == 0 {
                groups.remove(&self.group);
            }
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
        place.seat(Group::strangers(from.parse().expect("an address"))).await.then_some(place)
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
            assert!(crowd.groups().is_empty(), "nothing is remembered of the gone");
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
        let (came, ()) = tokio::join!(waiting.seat(places[0].user.group), async { drop(places.pop()) });
        assert!(came);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_has_its_share_wherever_it_comes_from_and_takes_none_of_others() {
        let crowd = Crowd::new();
        let of_host = async |host: u8, from: &str| {
            let mut place = arrive(&crowd, from).await.expect("arrives");
            place.seat(Group::Host([host; 32])).await.then_some(place)
        };
        let mut places = Vec::new();
        for _ in 0..HOST {
            places.push(of_host(1, "198.51.100.1").await.expect("a seat"));
        }
        assert!(of_host(1, "198.51.100.1").await.is_none(), "one host would take all places");
        assert!(of_host(1, "203.0.113.1").await.is_none(), "it is the same host from elsewhere");
        assert!(seated(&crowd, "198.51.100.2").await.is_some());
        for host in 2..=200 {
            for _ in 0..HOST {
                places.push(of_host(host, "198.51.100.1").await.expect("the neighbours have seats of their own"));
            }
        }
        assert!(places.len() > ARRIVING, "whoever has a seat arrives no more");
        assert_eq!(crowd.room.available_permits(), CONNECTIONS - places.len());
        places.clear();
        assert!(crowd.groups().is_empty(), "nothing is remembered of the gone");
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
