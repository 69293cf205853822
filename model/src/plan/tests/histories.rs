//! Properties over random histories: joins, leaves, wishes, growth, lost records and time, between one plan and the
//! next.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, option, prelude::*};

use super::*;

const HOSTS: u8 = 9;

/// What happens to a network between two plans.
#[derive(Debug, Clone)]
enum Happening {
    Join { host: u8, wish: Option<u8> },
    Leave(u8),
    Wish { host: u8, wish: Option<u8> },
    Grow,
    Shrink,
    LosePeer(u8),
    Wait(u16),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        5 => (0..HOSTS, option::weighted(0.2, 0..10u8)).prop_map(|(host, wish)| Happening::Join { host, wish }),
        3 => (0..HOSTS).prop_map(Happening::Leave),
        1 => (0..HOSTS, option::of(0..10u8)).prop_map(|(host, wish)| Happening::Wish { host, wish }),
        1 => Just(Happening::Grow),
        1 => Just(Happening::Shrink),
        1 => (0..HOSTS).prop_map(Happening::LosePeer),
        3 => (0..900u16).prop_map(Happening::Wait),
    ]
}

fn wished(offset: Option<u8>) -> Option<Ipv4Addr> {
    offset.map(|offset| Ipv4Addr::new(10, 1, 0, offset))
}

impl World {
    fn happen(&mut self, happening: &Happening, second: &mut i64) {
        let name = |number: &u8| format!("host-{number}");
        match happening {
            Happening::Join { host: number, wish } => {
                if !self.memberships.iter().any(|membership| membership.host == host(&name(number))) {
                    let membership = self.join(&name(number));
                    (membership.static_address, membership.joined_at) = (wished(*wish), at(*second));
                }
            }
            Happening::Leave(number) => self.leave(&name(number)),
            Happening::Wish { host: number, wish } => {
                let mut members = self.memberships.iter_mut();
                if let Some(member) = members.find(|member| member.host == host(&name(number))) {
                    member.static_address = wished(*wish);
                }
            }
            Happening::Grow => self.network.address_space = "10.1.0.0/28".parse().unwrap(),
            Happening::Shrink => self.network.address_space = "10.1.0.0/29".parse().unwrap(),
            Happening::LosePeer(number) => self.peers.retain(|peer| peer.host != host(&name(number))),
            Happening::Wait(seconds) => *second += i64::from(*seconds),
        }
    }
}

/// Who had an address until when, kept beside the planner by watching what is held.
type LastHeld = BTreeMap<Ipv4Addr, (HostId, i64)>;

fn check(world: &World, before: &World, last_held: &LastHeld, second: i64) {
    let space = world.network.address_space;
    let mut seen = BTreeSet::new();
    for member in &world.memberships {
        let peer = world.peers.iter().find(|peer| peer.host == member.host).expect("every member has a peer");
        let Some(given) = peer.address else {
            assert!(!peer.problem.is_empty(), "{} has no address and no reason", peer.host);
            continue;
        };
        assert!(seen.insert(given), "{given} is given twice");
        assert!(space.contains(&given) && given != space.network() && given != space.broadcast(), "{given}");
        let held = world.allocations.iter().find(|held| held.address == given).expect("an allocation of its own");
        assert_eq!((&held.host, &held.hold), (&member.host, &Hold::Held));
        if let Some((other, until)) = last_held.get(&given) {
            let waited = second - until >= 600;
            assert!(*other == member.host || waited, "{given} of {other} was given to {} too early", member.host);
        }
        let kept = before.peers.iter().find(|peer| peer.host == member.host).and_then(|peer| peer.address);
        let stays = kept.is_none_or(|kept| kept == given || !space::is_usable(space, kept));
        assert!(stays || member.static_address == Some(given), "{} lost its address", member.host);
    }
    let members: BTreeSet<_> = world.memberships.iter().map(|membership| &membership.host).collect();
    assert!(world.peers.iter().all(|peer| members.contains(&peer.host)), "a peer outlived its membership");
    check_lowest(world, before, second);
}

/// Nobody waits while an address is free, and what was newly given leaves no lower one free.
fn check_lowest(world: &World, before: &World, second: i64) {
    let taken: BTreeSet<_> = world.allocations.iter().map(|held| held.address).collect();
    let free = space::usable(world.network.address_space).map(Ipv4Addr::from_bits).find(|free| !taken.contains(free));
    for member in world.memberships.iter().filter(|member| member.static_address.is_none()) {
        let given = world.peers.iter().find(|peer| peer.host == member.host).and_then(|peer| peer.address);
        let Some(given) = given else {
            assert_eq!(free, None, "{} waits while an address is free", member.host);
            continue;
        };
        let had = before.allocations.iter().any(|held| held.host == member.host && held.address == given);
        assert!(had || free.is_none_or(|free| given < free), "{given} is not the lowest at second {second}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_history_keeps_the_promises(rounds in vec(vec(happening(), 1..5), 1..12)) {
        let mut world = World::new("10.1.0.0/29");
        let (mut second, mut last_held) = (0, LastHeld::new());
        for round in rounds {
            let mut before = world.clone();
            for happening in &round {
                world.happen(happening, &mut second);
            }
            before.peers.retain(|peer| world.peers.contains(peer));
            let plan = world.settle(second);
            check(&world, &before, &last_held, second);
            prop_assert_eq!(world.plan(second).steps, vec![], "planning again finds nothing to do");
            prop_assert!(plan.wake_at.is_none_or(|wake| wake > at(second)));
            for held in world.allocations.iter().filter(|held| held.hold == Hold::Held) {
                last_held.insert(held.address, (held.host.clone(), second));
            }
        }
    }

    #[test]
    fn the_order_of_the_records_does_not_matter(
        happenings in vec(happening(), 1..30),
        later in vec(happening(), 1..5),
        turn in 0..9usize,
    ) {
        let (mut world, mut second) = (World::new("10.1.0.0/29"), 0);
        for happening in &happenings {
            world.happen(happening, &mut second);
        }
        world.settle(second);
        for happening in &later {
            world.happen(happening, &mut second);
        }
        let mut turned = world.clone();
        turned.memberships.reverse();
        turned.peers.reverse();
        let middle = turn.min(turned.allocations.len());
        turned.allocations.rotate_left(middle);
        prop_assert_eq!(world.plan(second), turned.plan(second));
    }

    #[test]
    fn a_plan_carried_out_in_part_is_completed_by_the_next(
        happenings in vec(happening(), 1..30),
        later in vec(happening(), 1..6),
        done in 0..9usize,
    ) {
        let (mut world, mut second) = (World::new("10.1.0.0/29"), 0);
        for happening in &happenings {
            world.happen(happening, &mut second);
        }
        world.settle(second);
        for happening in &later {
            world.happen(happening, &mut second);
        }
        let (before, plan) = (world.clone(), world.plan(second));
        for step in plan.steps.iter().take(done) {
            world.take(step, at(second));
        }
        world.settle(second);
        prop_assert_eq!(world.plan(second).steps, vec![]);
        let mut whole = before;
        whole.carry_out(&plan, second);
        let by_host = |world: &World| -> BTreeMap<_, _> {
            world.peers.iter().map(|peer| (peer.host.clone(), peer.clone())).collect()
        };
        prop_assert_eq!(by_host(&world), by_host(&whole));
    }
}
