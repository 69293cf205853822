use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::search::{Ask, FLOOR, Search, Seen};
use super::*;
use crate::TICK;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// Long packets pass both ways.
const TRAFFIC: Seen = Seen { sent_long: true, received_long: true, heard: true };
/// Long packets are sent, and nothing comes.
const UNHEARD: Seen = Seen { sent_long: true, received_long: false, heard: false };
const IDLE: Seen = Seen { sent_long: false, received_long: false, heard: false };
const JUMBO: u16 = 9001 - 60;

/// A path, and the search on it.
struct Walk {
    search: Search,
    now: Instant,
    /// The longest packet that reaches the other end.
    carries: u16,
    is_dead: bool,
    probes: usize,
}

impl Walk {
    fn new(carries: u16) -> Self {
        let now = Instant::now();
        Self { search: Search::new(now, V4, 1420), now, carries, is_dead: false, probes: 0 }
    }

    /// One tick; probes that fit are answered at its end unless `lost` says otherwise.
    fn tick(&mut self, seen: Seen, mut lost: impl FnMut() -> bool) {
        if let Some(Ask { size, with_small }) = self.search.poll(self.now, seen) {
            self.probes += 1 + usize::from(with_small);
            if !self.is_dead && size <= self.carries && !lost() {
                self.search.answered(self.now, size);
            }
            if !self.is_dead && with_small && !lost() {
                self.search.answered_small(self.now);
            }
        }
        self.now += TICK;
    }

    fn pass(&mut self, time: Duration, seen: Seen) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.tick(seen, || false);
        }
    }

    /// Until nothing more is to be found out.
    fn settle(&mut self) -> u16 {
        self.pass(Duration::from_secs(60), TRAFFIC);
        self.search.in_force()
    }
}

/// What is to be found on a path that carries `carries`: beyond the default only what is more than Ethernet's own counts.
fn expected(carries: u16) -> u16 {
    match carries {
        ..FLOOR => FLOOR,
        FLOOR..1420 => carries,
        1420..1460 => 1420,
        1460..JUMBO => carries,
        JUMBO.. => JUMBO,
    }
}

#[test]
fn usual_links_are_found_with_few_probes() {
    // Default only; GCP; a tunnel; what is left of 1300; jumbo frames of AWS, of GCP, between VPCs of AWS; a little more
    // than Ethernet's; two sizes of nobody.
    for (link, most) in [
        (1500, 14),
        (1460, 14),
        (1400, 16),
        (1300, 32),
        (9001, 5),
        (8896, 14),
        (8500, 16),
        (1600, 20),
        (1577, 30),
        (3060, 40),
    ] {
        let mut walk = Walk::new(link - 60);
        assert_eq!(walk.settle(), expected(link - 60), "a link of {link}");
        assert!(walk.probes <= most, "{} probes on a link of {link}", walk.probes);
    }
}

#[test]
fn idle_pairs_and_pairs_with_small_packets_ask_nothing() {
    let mut walk = Walk::new(1420);
    walk.pass(Duration::from_secs(3600), Seen { heard: true, ..IDLE });
    assert_eq!(walk.probes, 0);
    walk.settle();
    let before = walk.probes;
    walk.pass(Duration::from_secs(3600), IDLE);
    assert_eq!(walk.probes, before);
}

#[test]
fn steady_traffic_costs_few_probes_a_minute() {
    for seen in [TRAFFIC, UNHEARD] {
        let mut walk = Walk::new(1420);
        walk.settle();
        walk.probes = 0;
        walk.pass(Duration::from_secs(3600), seen);
        assert!(walk.probes < 60 * 4, "{} probes in an hour of {seen:?}", walk.probes);
    }
}

#[test]
fn a_path_that_became_a_black_hole_is_answered_within_seconds() {
    for (before, after) in [(1420, 1240), (JUMBO, 1420), (JUMBO, 1000), (1340, 600)] {
        let mut walk = Walk::new(before);
        walk.settle();
        walk.carries = after;
        let narrowed_at = walk.now;
        while walk.search.in_force() > after {
            walk.tick(UNHEARD, || false);
            assert!(walk.now - narrowed_at < Duration::from_secs(7), "{before} to {after}");
        }
        assert_eq!(walk.settle(), expected(after), "{before} to {after}");
    }
}

#[test]
fn a_black_hole_is_noticed_even_while_small_packets_come() {
    let mut walk = Walk::new(1420);
    walk.settle();
    walk.carries = 1240;
    let narrowed_at = walk.now;
    while walk.search.in_force() > 1240 {
        walk.tick(TRAFFIC, || false);
        assert!(walk.now - narrowed_at < Duration::from_secs(33));
    }
}

#[test]
fn a_wider_path_is_used_in_time() {
    let mut walk = Walk::new(1240);
    walk.settle();
    walk.carries = JUMBO;
    walk.pass(Duration::from_secs(660), TRAFFIC);
    assert_eq!(walk.search.in_force(), JUMBO);
}

#[test]
fn a_dead_path_tells_nothing_of_sizes() {
    let mut walk = Walk::new(1420);
    walk.settle();
    walk.is_dead = true;
    walk.probes = 0;
    walk.pass(Duration::from_secs(600), UNHEARD);
    assert_eq!(walk.search.in_force(), 1420);
    assert!(walk.probes <= 10 * 15, "{} probes in ten minutes", walk.probes);
}

#[test]
fn another_path_is_searched_anew_and_not_trusted_with_jumbo_frames() {
    let mut walk = Walk::new(JUMBO);
    walk.settle();
    walk.search = walk.search.moved(walk.now, V6);
    assert_eq!(walk.search.in_force(), 1420);
    walk.carries = 1200;
    assert_eq!(walk.settle(), 1200);
}

#[test]
fn what_our_own_link_refuses_is_known_at_once() {
    let mut walk = Walk::new(1420);
    while let Some(ask) = walk.search.poll(walk.now, TRAFFIC) {
        if ask.size > 1420 {
            walk.search.refuse(walk.now, ask.size)
        } else {
            walk.search.answered(walk.now, ask.size)
        }
        walk.now += TICK;
    }
    assert_eq!((walk.search.in_force(), walk.search.is_busy()), (1420, false));
}

#[test]
fn a_long_way_is_no_black_hole() {
    // Answers take longer than an attempt lasts: the short one just before the long one.
    let rtt = Duration::from_millis(1100);
    let (mut walk, mut under_way) = (Walk::new(1420), Vec::new());
    let (start, mut time) = (walk.now, walk.now);
    while time < start + Duration::from_secs(60) {
        if let Some(ask) = walk.search.poll(time, TRAFFIC) {
            under_way.push((time + rtt, ask));
        }
        for (_, ask) in under_way.extract_if(.., |(at, _)| *at <= time).collect::<Vec<_>>() {
            if ask.with_small {
                walk.search.answered_small(time);
            }
            if ask.size <= walk.carries {
                walk.search.answered(time, ask.size);
            }
        }
        time += TICK;
        assert_eq!(walk.search.in_force(), 1420);
    }
    assert!(!walk.search.is_busy());
}

#[test]
fn the_data_threads_read_what_was_found() {
    let (mtu, now) = (PathMtu::default(), Instant::now());
    let endpoint = SocketAddr::new(V4, 8055);
    assert!(mtu.due(now, || Some(endpoint), 1420).is_none());
    mtu.note_sent(1420);
    let probing = mtu.due(now, || Some(endpoint), 1420).expect("the default is to be proved");
    assert_eq!((probing.to, probing.lens), (endpoint, [1452, 0]));
    mtu.refused(now, endpoint, 1452);
    assert_eq!(mtu.found(), Some(1200));
    // Elsewhere, under another default.
    mtu.note_sent(1420);
    mtu.due(now + TICK, || Some(SocketAddr::new(V6, 8055)), 1380);
    assert_eq!(mtu.found(), None);
}

proptest! {
    #[test]
    fn the_size_of_any_path_is_found(carries in 100u16..10_000) {
        let mut walk = Walk::new(carries);
        prop_assert_eq!(walk.settle(), expected(carries));
        prop_assert!(walk.probes < 60, "{} probes", walk.probes);
    }

    #[test]
    fn loss_never_makes_a_size_that_the_path_does_not_carry(
        carries in 516u16..10_000,
        losses in prop::collection::vec(prop::bool::weighted(0.2), 400),
    ) {
        let mut walk = Walk::new(carries);
        let mut losses = losses.into_iter();
        for _ in 0..400 {
            walk.tick(TRAFFIC, || losses.next().unwrap_or(false));
            let in_force = walk.search.in_force();
            prop_assert!(in_force <= carries.max(1420), "{in_force} on {carries}");
        }
    }

    #[test]
    fn a_change_of_the_path_is_followed(sizes in prop::collection::vec(516u16..10_000, 1..6)) {
        let mut walk = Walk::new(1420);
        for carries in sizes {
            walk.settle();
            walk.carries = carries;
            walk.pass(Duration::from_secs(700), TRAFFIC);
            prop_assert_eq!(walk.settle(), expected(carries));
        }
    }
}
