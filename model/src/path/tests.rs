//! Each rule type has its stories; the VPC identity has its table.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{EndpointSource, Located, LocationSource};

fn located(value: &str) -> Option<Located> {
    let known = Located { value: value.to_owned(), source: LocationSource::Metadata };
    (!value.is_empty()).then_some(known)
}

/// `provider/account/region/vpc/zone/subnet`, parts may be empty.
fn place(text: &str) -> CloudLocation {
    let parts: Vec<&str> = text.split('/').collect();
    let part = |index: usize| located(parts.get(index).copied().unwrap_or_default());
    CloudLocation {
        provider: part(0),
        account: part(1),
        region: part(2),
        vpc: part(3),
        zone: part(4),
        subnet: part(5),
        instance: None,
    }
}

fn endpoint(text: &str) -> Endpoint {
    let (scope, address) = text.split_once(' ').unwrap();
    Endpoint { address: address.parse().unwrap(), scope: scope.parse().unwrap(), source: EndpointSource::Stun }
}

fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
    texts.iter().map(|text| endpoint(text)).collect()
}

const SENDER: &[&str] = &["private 10.0.0.1:8055", "public 203.0.113.1:8055", "public-v6 [2001:db8::1]:8055"];
const RECEIVER: &[&str] = &["public-v6 [2001:db8::2]:8055", "public 203.0.113.2:8055", "private 10.0.0.2:8055"];
const SEOUL: &str = "aws/1/ap-northeast-2/vpc-1/az1/subnet-1";

/// The receiver's addresses in order, the excluded ones left out.
fn order(rule: RuleType, from: &str, to: &str, seen: &Measurements) -> Vec<String> {
    let ranked = rank(rule, pair(from, SENDER, to, RECEIVER), seen);
    ranked
        .iter()
        .filter(|ranked| ranked.rank.is_some())
        .map(|ranked| ranked.candidate.endpoint.scope.to_string())
        .collect()
}

fn pair(from: &str, sender: &[&str], to: &str, receiver: &[&str]) -> Vec<Candidate> {
    let (here, there) = (place(from), place(to));
    let (sender, receiver) = (endpoints(sender), endpoints(receiver));
    candidates(HostView { location: &here, endpoints: &sender }, HostView { location: &there, endpoints: &receiver })
}

fn seen(health: &[(&str, Option<u64>)]) -> Measurements {
    let health = health.iter().map(|(address, rtt)| {
        let health = rtt.map_or(Health::Silent, |rtt| Health::Answers { rtt: Duration::from_millis(rtt) });
        (address.parse().unwrap(), health)
    });
    Measurements { in_use: None, health: health.collect() }
}

#[test]
fn two_subnets_and_two_zones_of_one_vpc_are_one_vpc() {
    for there in [SEOUL, "aws/1/ap-northeast-2/vpc-1/az1/subnet-2", "aws/1/ap-northeast-2/vpc-1/az2/subnet-3"] {
        assert_eq!(same_vpc(&place(SEOUL), &place(there)), Ok(()), "{there}");
    }
    assert_eq!(same_vpc(&place("aws//r/vpc-1"), &place("aws//r/vpc-1")), Ok(()), "a region tells enough");
    assert_eq!(same_vpc(&place("aws/1//vpc-1"), &place("aws/1/r/vpc-1")), Ok(()), "an account tells enough");
    assert_eq!(same_vpc(&place("gcp/p/us/default"), &place("gcp/p/eu/default")), Ok(()), "GCP's VPCs span regions");
}

#[test]
fn the_same_vpc_id_elsewhere_is_another_vpc() {
    let told = |ours: &str, theirs: &str| same_vpc(&place(ours), &place(theirs)).unwrap_err().to_string();
    assert_eq!(told("aws/1/r/vpc-1", "gcp/1/r/vpc-1"), "the hosts stand under different providers, aws and gcp");
    assert_eq!(told("aws/1/r/vpc-1", "aws/2/r/vpc-1"), "the hosts stand under different accounts, 1 and 2");
    assert_eq!(told("aws/1/r/vpc-1", "aws/1/s/vpc-1"), "the hosts stand under different regions, r and s");
    assert_eq!(told("aws/1/r/vpc-1", "aws/1/r/vpc-2"), "the hosts stand under different VPCs, vpc-1 and vpc-2");
    assert_eq!(told("gcp//us/default", "gcp//eu/default"), "the hosts stand under different regions, us and eu");
    assert_eq!(told("gcp/p/us/default", "gcp/q/us/default"), "the hosts stand under different accounts, p and q");
}

#[test]
fn what_is_not_known_is_not_private() {
    let told = |ours: &str, theirs: &str| same_vpc(&place(ours), &place(theirs)).unwrap_err();
    assert_eq!(told("aws/1/r/", "aws/1/r/"), Apart::Unknown("VPC"));
    assert_eq!(told("aws/1/r/vpc-1", "aws/1/r/"), Apart::Unknown("VPC"));
    assert_eq!(told("/1/r/vpc-1", "/1/r/vpc-1"), Apart::Unknown("provider"));
    assert_eq!(told("aws///default", "aws///default"), Apart::Ambiguous("default".to_owned()));
    assert_eq!(told("aws/1//default", "aws//r/default"), Apart::Ambiguous("default".to_owned()));
}

#[test]
fn cost_prioritized_prefers_the_vpc_then_ipv4_then_ipv6() {
    let nothing = Measurements::default();
    let rule = RuleType::CostPrioritized;
    assert_eq!(order(rule, SEOUL, SEOUL, &nothing), ["private", "public", "public-v6"]);
    assert_eq!(order(rule, SEOUL, "gcp/p/us/vpc-1", &nothing), ["public", "public-v6"]);
}

#[test]
fn cost_prioritized_does_not_pay_for_a_shorter_round_trip() {
    let quick_public = seen(&[("10.0.0.2:8055", Some(9)), ("203.0.113.2:8055", Some(1))]);
    assert_eq!(order(RuleType::CostPrioritized, SEOUL, SEOUL, &quick_public), ["private", "public", "public-v6"]);
}

#[test]
fn latency_prioritized_takes_the_shortest_round_trip_and_the_unmeasured_last() {
    let rule = RuleType::LatencyPrioritized;
    let quick_v6 = seen(&[("203.0.113.2:8055", Some(9)), ("[2001:db8::2]:8055", Some(3))]);
    assert_eq!(order(rule, SEOUL, SEOUL, &quick_v6), ["public-v6", "public", "private"]);
    assert_eq!(order(rule, SEOUL, SEOUL, &Measurements::default()), ["private", "public", "public-v6"]);
}

#[test]
fn balanced_goes_by_cost_as_long_as_nothing_has_a_price() {
    let quick_public = seen(&[("10.0.0.2:8055", Some(9)), ("203.0.113.2:8055", Some(1))]);
    assert_eq!(order(RuleType::Balanced, SEOUL, SEOUL, &quick_public), ["private", "public", "public-v6"]);
}

#[test]
fn basic_uses_public_endpoints_only() {
    let ranked = rank(RuleType::Basic, pair(SEOUL, SENDER, SEOUL, RECEIVER), &Measurements::default());
    assert_eq!(order(RuleType::Basic, SEOUL, SEOUL, &Measurements::default()), ["public", "public-v6"]);
    let private = &ranked[2];
    assert_eq!((private.rank, private.state), (None, CandidateState::Excluded));
    assert_eq!(private.reason, "private address, and the rule type basic uses public ones only");
}

#[test]
fn every_rule_type_leaves_a_silent_endpoint_for_one_that_may_answer() {
    let silent = seen(&[("10.0.0.2:8055", None), ("203.0.113.2:8055", None)]);
    for rule in [RuleType::CostPrioritized, RuleType::LatencyPrioritized, RuleType::Balanced] {
        assert_eq!(order(rule, SEOUL, SEOUL, &silent), ["public-v6", "private", "public"], "{rule}");
    }
    assert_eq!(order(RuleType::Basic, SEOUL, SEOUL, &silent), ["public-v6", "public"]);
}

#[test]
fn ipv6_needs_ipv6_at_both_ends() {
    let found = pair(SEOUL, &["public 203.0.113.1:8055"], "gcp", RECEIVER);
    let v6 = found.iter().find(|candidate| candidate.endpoint.scope == Scope::PublicV6).unwrap();
    assert_eq!(v6.route, Err(Unfit::NoIpv6));
    let found = pair(SEOUL, &["public-v6 [2001:db8::1]:8055"], "gcp", RECEIVER);
    let v4 = found.iter().find(|candidate| candidate.endpoint.scope == Scope::Public).unwrap();
    assert_eq!(v4.route, Err(Unfit::NoIpv4));
}

#[test]
fn private_ipv6_needs_some_ipv6_at_the_sender() {
    let receiver = ["private [fd00::2]:8055"];
    assert_eq!(pair(SEOUL, &["private 10.0.0.1:8055"], SEOUL, &receiver)[0].route, Err(Unfit::NoIpv6));
    assert_eq!(pair(SEOUL, &["private [fd00::1]:8055"], SEOUL, &receiver)[0].route, Ok(Route::Vpc));
}

#[test]
fn the_senders_own_private_address_is_nobody_elses() {
    let found = pair(SEOUL, SENDER, SEOUL, &["private 10.0.0.1:8055"]);
    assert_eq!(found[0].route, Err(Unfit::Own));
}

#[test]
fn an_address_known_in_two_ways_is_one_candidate() {
    let both = ["private 10.0.0.2:8055", "public 10.0.0.2:8055"];
    let inside = pair(SEOUL, SENDER, SEOUL, &both);
    assert_eq!((inside.len(), &inside[0].route), (1, &Ok(Route::Vpc)));
    let outside = pair(SEOUL, SENDER, "", &both);
    assert_eq!((outside.len(), &outside[0].route), (1, &Ok(Route::Internet)));
}

#[test]
fn reasons_say_what_decided() {
    let mut measured = seen(&[("203.0.113.2:8055", Some(12))]);
    measured.in_use = Some("203.0.113.2:8055".parse().unwrap());
    let ranked = rank(RuleType::CostPrioritized, pair(SEOUL, SENDER, SEOUL, RECEIVER), &measured);
    let reasons: Vec<&str> = ranked.iter().map(|ranked| ranked.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "private address in the VPC of both hosts; first by rule type cost-prioritized: traffic inside a VPC is taken to \
             cost no more than public traffic",
            "public IPv4 address over the internet; 10.0.0.2:8055 goes before it: traffic inside a VPC is taken to cost no \
             more than public traffic",
            "public IPv6 address over the internet; 10.0.0.2:8055 goes before it: traffic inside a VPC is taken to cost no \
             more than public traffic",
        ]
    );
    assert_eq!(summary(&ranked), "in use: 203.0.113.2:8055, though 10.0.0.2:8055 ranks first");
    let ranked = rank(RuleType::LatencyPrioritized, pair(SEOUL, SENDER, SEOUL, RECEIVER), &measured);
    assert!(ranked[0].reason.ends_with("its round trip is 12.0 ms, the other's not measured"), "{}", ranked[0].reason);
    assert_eq!(ranked[0].state, CandidateState::InUse);
}

#[test]
fn where_there_is_no_path_it_is_told_why() {
    let nothing = Measurements::default();
    assert_eq!(summary(&rank(RuleType::Basic, vec![], &nothing)), "no path: the remote host has told no endpoint");
    let found = pair("aws/1/r/vpc-1", SENDER, "aws/1/r/vpc-2", &["private 10.0.0.2:8055"]);
    assert_eq!(
        summary(&rank(RuleType::CostPrioritized, found.clone(), &nothing)),
        "no path: 10.0.0.2:8055 is a private address, and the hosts stand under different VPCs, vpc-1 and vpc-2"
    );
    let found = pair("", SENDER, "", &["public 203.0.113.2:8055"]);
    let ranked = rank(RuleType::CostPrioritized, found, &seen(&[("203.0.113.2:8055", None)]));
    assert_eq!(summary(&ranked), "no path: 203.0.113.2:8055 ranks first, and does not answer");
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let sources =
        vec![EndpointSource::Interface, EndpointSource::Metadata, EndpointSource::Stun, EndpointSource::Operator];
    (0..4u8, 0..4u8, proptest::sample::select(sources)).prop_map(|(scope, last, source)| {
        let text = match scope {
            0 => format!("private 10.0.0.{last}:8055"),
            1 => format!("public 203.0.113.{last}:8055"),
            2 => format!("private [2001:db8::{last}]:8055"),
            _ => format!("public-v6 [2001:db8::{last}]:8055"),
        };
        Endpoint { source, ..endpoint(&text) }
    })
}

proptest! {
    #[test]
    fn ranking_loses_nobody_and_does_not_depend_on_the_order_of_endpoints(
        sender in vec(any_endpoint(), 0..4),
        receiver in vec(any_endpoint(), 0..8),
        health in vec((0..4u8, prop::option::of(0..3u64)), 0..4),
        rule in proptest::sample::select(vec!["basic", "cost-prioritized", "latency-prioritized", "balanced"]),
        to in proptest::sample::select(vec![SEOUL, "gcp/p/us/vpc-1"]),
    ) {
        let rule: RuleType = rule.parse().unwrap();
        let health: Vec<_> = health.iter().map(|(last, rtt)| (format!("203.0.113.{last}:8055"), *rtt)).collect();
        let health: Vec<_> = health.iter().map(|(address, rtt)| (address.as_str(), *rtt)).collect();
        let measured = seen(&health);
        let (here, there) = (place(SEOUL), place(to));
        let local = HostView { location: &here, endpoints: &sender };
        let ranked = rank(rule, candidates(local, HostView { location: &there, endpoints: &receiver }), &measured);
        let mut turned = receiver.clone();
        turned.reverse();
        let again = rank(rule, candidates(local, HostView { location: &there, endpoints: &turned }), &measured);
        prop_assert_eq!(&ranked, &again);

        let addresses: std::collections::BTreeSet<_> = receiver.iter().map(|endpoint| endpoint.address).collect();
        let found: std::collections::BTreeSet<_> = ranked.iter().map(|r| r.candidate.endpoint.address).collect();
        prop_assert_eq!(addresses, found);
        prop_assert!(ranked.iter().map(|r| r.rank.is_none()).is_sorted(), "the excluded ones come last");
        prop_assert!(ranked.iter().filter_map(|r| r.rank).eq(1..=ranked.iter().filter(|r| r.rank.is_some()).count() as u32));
        let fit: Vec<_> = ranked.iter().filter(|r| r.rank.is_some()).collect();
        prop_assert!(fit.iter().map(|r| r.state == CandidateState::Silent).is_sorted(), "silent ones stay behind");
    }
}
