//! Stories of single hosts, over a world that does what the controller does with a plan.

mod histories;

use super::*;
use crate::{DesiredState, EncryptionPolicy, Hold, Labels, PublicKey, RuleType, space};

/// What the store holds of one network.
#[derive(Debug, Clone, PartialEq)]
struct World {
    network: Network,
    memberships: Vec<Membership>,
    peers: Vec<Peer>,
    allocations: Vec<Allocation>,
}

impl World {
    fn new(space: &str) -> Self {
        let network = Network {
            id: "prod".parse().unwrap(),
            name: "prod".to_owned(),
            address_space: space.parse().unwrap(),
            description: String::new(),
            rule_type: RuleType::default(),
            encryption_policy: EncryptionPolicy::default(),
            path_settings: Default::default(),
            generation: 1,
            created_at: at(0),
        };
        Self { network, memberships: Vec::new(), peers: Vec::new(), allocations: Vec::new() }
    }

    fn join(&mut self, name: &str) -> &mut Membership {
        self.memberships.push(Membership {
            network: self.network.id.clone(),
            host: host(name),
            public_key: PublicKey([0; 32]),
            labels: Labels::new(),
            desired_state: DesiredState::Up,
            static_address: None,
            plain: false,
            joined_at: at(0),
        });
        self.memberships.last_mut().unwrap()
    }

    fn leave(&mut self, name: &str) {
        self.memberships.retain(|membership| membership.host != host(name));
    }

    fn plan(&self, second: i64) -> Plan {
        plan(at(second), &self.network, &self.memberships, &self.peers, &self.allocations)
    }

    /// Does what the controller does with a plan; fails where the store would refuse.
    fn carry_out(&mut self, plan: &Plan, second: i64) {
        for step in &plan.steps {
            self.take(step, at(second));
        }
    }

    fn take(&mut self, step: &Step, now: Timestamp) {
        let network = self.network.id.clone();
        match step.clone() {
            Step::Release { address, host } => {
                let held = self.allocations.iter_mut().find(|held| held.address == address && held.host == host);
                held.expect("an allocation to release").hold = Hold::Quarantined { since: now };
            }
            Step::Reclaim { address, host } => {
                let before = self.allocations.len();
                self.allocations.retain(|held| held.address != address || held.host != host);
                assert_eq!(self.allocations.len(), before - 1, "an allocation to reclaim");
            }
            Step::Give { host, address } => {
                match self.allocations.iter_mut().find(|held| held.address == address) {
                    Some(own) if own.host == host => own.hold = Hold::Held,
                    Some(other) => panic!("{address} is given to {host} but {} has it", other.host),
                    None => {
                        let (network, host) = (network.clone(), host.clone());
                        self.allocations.push(Allocation { network, address, host, hold: Hold::Held });
                    }
                }
                self.put(Peer { network, host, address: Some(address), problem: String::new() });
            }
            Step::Report { host, address, problem } => self.put(Peer { network, host, address, problem }),
            Step::Forget { host } => self.peers.retain(|peer| peer.host != host),
        }
    }

    fn put(&mut self, peer: Peer) {
        self.peers.retain(|old| old.host != peer.host);
        self.peers.push(peer);
    }

    fn settle(&mut self, second: i64) -> Plan {
        let plan = self.plan(second);
        self.carry_out(&plan, second);
        plan
    }

    fn address(&self, name: &str) -> Option<String> {
        self.peer(name).address.map(|address| address.to_string())
    }

    fn peer(&self, name: &str) -> &Peer {
        self.peers.iter().find(|peer| peer.host == host(name)).expect("a peer")
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn the_lowest_free_address_is_given_in_the_order_of_joining() {
    let mut world = World::new("10.1.0.0/29");
    world.join("late").joined_at = at(2);
    world.join("early").joined_at = at(1);
    world.settle(10);
    assert_eq!(world.address("early").unwrap(), "10.1.0.1");
    assert_eq!(world.address("late").unwrap(), "10.1.0.2");
}

#[test]
fn one_more_member_among_thousands_is_one_step() {
    let mut world = World::new("10.0.0.0/16");
    for n in 0..5000 {
        world.join(&format!("host-{n}"));
    }
    world.settle(10);
    world.join("another");
    let plan = world.plan(11);
    assert_eq!(plan.steps, [Step::Give { host: host("another"), address: address("10.0.19.137") }]);
}

#[test]
fn a_host_that_comes_back_in_time_has_its_address_again() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.join("b");
    world.settle(0);
    world.leave("a");
    let left = world.settle(100);
    assert_eq!(left.wake_at, Some(at(700)));
    world.join("c").joined_at = at(200);
    world.settle(200);
    assert_eq!(world.address("c").unwrap(), "10.1.0.3", "the address of a is kept back");
    world.join("a").joined_at = at(300);
    world.settle(300);
    assert_eq!(world.address("a").unwrap(), "10.1.0.1");
    assert_eq!(world.plan(10_000), Plan::default());
}

#[test]
fn an_address_is_given_to_another_host_after_its_quarantine() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.settle(0);
    world.leave("a");
    world.settle(100);
    world.join("b");
    assert_eq!(world.plan(699).steps, [Step::Give { host: host("b"), address: address("10.1.0.2") }]);
    let plan = world.settle(700);
    let first = address("10.1.0.1");
    assert_eq!(
        plan.steps,
        [Step::Reclaim { address: first, host: host("a") }, Step::Give { host: host("b"), address: first }]
    );
    assert_eq!(plan.wake_at, None);
}

#[test]
fn a_full_space_is_told_with_its_figures() {
    let mut world = World::new("10.1.0.0/29");
    for n in 1..=7 {
        world.join(&format!("host-{n}"));
    }
    world.settle(0);
    assert_eq!(world.peer("host-7").address, None);
    assert_eq!(world.peer("host-7").problem, "address space 10.1.0.0/29 is full: 6 of 6 addresses in use");
    world.leave("host-1");
    world.settle(100);
    assert_eq!(
        world.peer("host-7").problem,
        "address space 10.1.0.0/29 is full: 5 of 6 addresses in use, 1 kept back, the first until 1970-01-01T00:11:40Z"
    );
    world.settle(700);
    assert_eq!(world.address("host-7").unwrap(), "10.1.0.1");
    assert_eq!(world.peer("host-7").problem, "");
}

#[test]
fn a_static_address_goes_before_the_lowest_free_one() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.join("b").static_address = Some(address("10.1.0.1"));
    world.settle(0);
    assert_eq!((world.address("b").unwrap(), world.address("a").unwrap()), ("10.1.0.1".into(), "10.1.0.2".into()));
}

#[test]
fn a_static_address_that_cannot_be_given_is_told_and_the_old_one_kept() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.join("b");
    world.settle(0);
    let wish = |world: &mut World, text: &str| {
        world.memberships[1].static_address = Some(address(text));
        world.settle(0);
        assert_eq!(world.address("b").unwrap(), "10.1.0.2");
        world.peer("b").problem.clone()
    };
    assert_eq!(wish(&mut world, "10.1.0.1"), "static address 10.1.0.1 is taken by host a");
    for outside in ["10.1.0.0", "10.1.0.7", "10.9.0.5"] {
        let told =
            format!("static address {outside} is not one that hosts of 10.1.0.0/29 can have, 10.1.0.1 to 10.1.0.6");
        assert_eq!(wish(&mut world, outside), told);
    }
    assert_eq!(wish(&mut world, "10.1.0.2"), "");
}

#[test]
fn a_static_address_waits_for_the_quarantine_of_another_host() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.settle(0);
    world.leave("a");
    world.join("b").static_address = Some(address("10.1.0.1"));
    world.settle(100);
    assert_eq!(
        world.peer("b").problem,
        "static address 10.1.0.1 was that of host a and is kept back until 1970-01-01T00:11:40Z"
    );
    assert_eq!(world.address("b"), None, "an address that was not asked for would have to be taken away again");
    assert_eq!(world.plan(100), Plan { steps: vec![], wake_at: Some(at(700)) });
    world.settle(700);
    assert_eq!(world.address("b").unwrap(), "10.1.0.1");
}

#[test]
fn a_host_that_comes_back_goes_before_another_that_asks_for_its_address() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.settle(0);
    world.leave("a");
    world.settle(100);
    world.join("b").static_address = Some(address("10.1.0.1"));
    world.join("a");
    world.settle(200);
    assert_eq!(world.address("a").unwrap(), "10.1.0.1");
    assert_eq!(world.peer("b").problem, "static address 10.1.0.1 is taken by host a");
    assert!(world.plan(200).steps.is_empty());
}

#[test]
fn moving_to_a_static_address_keeps_the_old_one_back() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.settle(0);
    world.memberships[0].static_address = Some(address("10.1.0.5"));
    world.settle(50);
    assert_eq!(world.address("a").unwrap(), "10.1.0.5");
    world.join("b");
    world.settle(60);
    assert_eq!(world.address("b").unwrap(), "10.1.0.2");
    world.memberships[0].static_address = None;
    assert!(world.plan(60).steps.is_empty(), "without a wish the address stays");
}

#[test]
fn growing_keeps_every_address_and_uses_the_old_broadcast_address() {
    let mut world = World::new("10.1.0.0/30");
    world.join("a");
    world.join("b");
    world.settle(0);
    world.network.address_space = "10.1.0.0/29".parse().unwrap();
    assert_eq!(world.plan(1), Plan::default());
    world.join("c");
    world.settle(2);
    assert_eq!(world.address("c").unwrap(), "10.1.0.3");
}

#[test]
fn a_peer_without_its_allocation_gets_it_again() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.settle(0);
    world.peers.clear();
    assert_eq!(world.settle(1).steps, [Step::Give { host: host("a"), address: address("10.1.0.1") }]);
}

#[test]
fn a_network_whose_id_begins_the_same_is_none_of_ours() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a").network = "prod-2".parse().unwrap();
    world.peers.push(Peer {
        network: "prod-2".parse().unwrap(),
        host: host("a"),
        address: None,
        problem: String::new(),
    });
    assert_eq!(world.plan(0), Plan::default());
}

#[test]
fn nothing_stays_of_a_removed_network() {
    let mut world = World::new("10.1.0.0/29");
    world.join("a");
    world.join("b");
    world.settle(0);
    world.leave("b");
    world.settle(1);
    let plan = plan_removal(&world.peers, &world.allocations);
    world.carry_out(&plan, 2);
    assert_eq!((world.peers.len(), world.allocations.len()), (0, 0));
}
