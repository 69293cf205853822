//! What the rulesets say, case by case; that the kernel does it is proved by the tests on real namespaces.

use super::*;
use crate::state::Block;
use crate::topology::Topology;

fn demo() -> State {
    State::plan("demo", &Topology::demo(), || "0".repeat(32)).expect("the demo can be planned")
}

fn nat_mut(state: &mut State, name: &str) -> (&'static str, String) {
    let vm = state.vms.get_mut(name).expect("it exists");
    let public = vm.public_address().expect("it has one").to_string();
    let Place::Vpc { nat, .. } = &mut vm.place else { panic!("{name} is in a VPC") };
    *nat = NatKind::PortRestricted;
    ("10.0.1.10", public)
}

#[test]
fn one_to_one_translates_both_ways() {
    let state = demo();
    let text = ruleset(&state, "aws-seoul");
    let public = state.vms["aws-1"].public_address().expect("it has one");
    assert!(text.contains(&format!("{public} : 10.0.1.10")), "{text}");
    assert!(text.contains(&format!("10.0.1.10 : {public}")), "{text}");
}

#[test]
fn port_restricted_translates_outwards_only() {
    let mut state = demo();
    let (private, public) = nat_mut(&mut state, "aws-1");
    let text = ruleset(&state, "aws-seoul");
    assert!(!text.contains(&format!("{public} : {private}")), "{text}");
    assert!(text.contains(&format!("{private} : {public}")), "{text}");
}

#[test]
fn a_group_of_its_own_replaces_the_one_of_the_vpc() {
    let mut state = demo();
    let text = ruleset(&state, "gcp-iowa");
    assert!(text.contains("tcp dport { 22 } accept") && text.contains("udp dport { 8055 } accept"), "{text}");
    assert!(!text.contains("ipv6-icmp"), "{text}");
    let Place::Vpc { security_group, .. } = &mut state.vms.get_mut("gcp-1").expect("it exists").place else {
        panic!("gcp-1 is in a VPC")
    };
    *security_group = Some(SecurityGroup { tcp: vec![], udp: vec![53], icmp: true });
    let text = ruleset(&state, "gcp-iowa");
    assert!(!text.contains("tcp dport") && text.contains("udp dport { 53 } accept"), "{text}");
    assert!(text.contains("ipv6-icmp"), "{text}");
}

#[test]
fn a_block_names_the_path_and_the_direction() {
    let mut state = demo();
    let block = |path| Block { from: "aws-1".into(), to: "aws-2".into(), path };
    state.blocks.insert(block(BlockedPath::Private));
    let text = ruleset(&state, "aws-seoul");
    assert_eq!(text.matches("10.0.2.10, 100.100.100.200 } drop").count(), 1, "{text}");
    state.blocks.clear();
    state.blocks.insert(block(BlockedPath::Public));
    let public = state.vms["aws-2"].public_address().expect("it has one");
    assert!(ruleset(&state, "aws-seoul").contains(&format!("100.100.100.200, {public} }} drop")));
}

#[test]
fn a_metadata_service_that_is_not_there_is_a_black_hole() {
    let mut state = demo();
    assert!(!ruleset(&state, "gcp-iowa").contains("169.254.169.254"));
    let Place::Vpc { metadata, .. } = &mut state.vms.get_mut("gcp-1").expect("it exists").place else {
        panic!("gcp-1 is in a VPC")
    };
    *metadata = MetadataService::None;
    assert!(ruleset(&state, "gcp-iowa").contains("{ 100.100.100.200, 169.254.169.254 } drop"));
}

#[test]
fn a_vpc_without_machines_has_a_ruleset_too() {
    let mut state = demo();
    state.vms.clear();
    let text = ruleset(&state, "aws-seoul");
    assert!(!text.contains("map") && !text.contains("{  }"), "{text}");
}

#[test]
fn a_suspended_machine_neither_sends_nor_receives() {
    let mut state = demo();
    state.vms.get_mut("aws-2").expect("it exists").suspended = true;
    let text = ruleset(&state, "aws-seoul");
    assert!(text.contains("device \"vm1\" priority 0; policy drop;"), "{text}");
    assert_eq!(text.matches("oifname { \"vm1\" } drop").count(), 2, "{text}");
}
