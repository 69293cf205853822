//! Which endpoints are candidates, and the identity of a VPC; how candidates are ordered has its own file.

mod order;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    CloudLocation, Endpoint, EndpointSource, Located, LocationSource, RuleType, Scope,
    tariff::{Book, Document, Price},
};

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
    let ranked = rank(&Policy::new(rule), pair(from, SENDER, to, RECEIVER), seen);
    ranked
        .iter()
        .filter(|ranked| ranked.rank.is_some())
        .map(|ranked| ranked.candidate.endpoint.scope.to_string())
        .collect()
}

fn pair(from: &str, sender: &[&str], to: &str, receiver: &[&str]) -> Vec<Candidate> {
    let (here, there) = (place(from), place(to));
    let (sender, receiver) = (endpoints(sender), endpoints(receiver));
    let (local, remote) = (view(&here, &sender), view(&there, &receiver));
    candidates(local, remote, |_| None)
}

fn view<'a>(location: &'a CloudLocation, endpoints: &'a [Endpoint]) -> HostView<'a> {
    HostView { location, endpoints }
}

fn answers(rtt_ms: u64) -> Health {
    Health::Answers { rtt: Duration::from_millis(rtt_ms), loss_permille: 0 }
}

fn seen(health: &[(&str, Option<u64>)]) -> Measurements {
    let health = health.iter().map(|(address, rtt)| {
        let health = rtt.map_or(Health::Silent, answers);
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

/// The route to the private address 10.0.0.2.
fn private_route(from: &str, to: &str) -> Result<Route, Unfit> {
    pair(from, SENDER, to, &["private 10.0.0.2:8055"])[0].route.clone()
}

#[test]
fn a_private_address_outside_the_vpc_is_used_only_if_it_answers() {
    for (from, to) in [
        ("aws/1/r/vpc-1", "aws/1/r/vpc-2"),
        ("aws/1/r/vpc-1", "aws/2/r/vpc-1"),
        ("aws/1/r/vpc-1", "aws/1/s/vpc-1"),
        ("aws/1/r/vpc-1", "aws/1/r/"),
        ("aws/1/r/vpc-1", ""),
        ("", ""),
    ] {
        assert_eq!(private_route(from, to), Ok(Route::Peered), "{from} to {to}");
    }
    assert_eq!(private_route("aws/1/r/vpc-1", "aws/1/r/vpc-1"), Ok(Route::Vpc));
    let told = private_route("aws/1/r/vpc-1", "gcp/1/r/vpc-1").unwrap_err().to_string();
    assert_eq!(told, "private address, and the hosts stand under different providers, aws and gcp");
}

#[test]
fn a_line_between_two_providers_is_a_way_that_has_to_answer() {
    let text =
        "[[interconnects]]\nname = 'line'\nfrom = 'aws/ap-northeast-2'\nto = 'gcp/asia-northeast3'\nsender = 0.02";
    let (line, _) = Document::parse(text).unwrap();
    let book = Book::effective(None, Some(&line));
    let (aws, gcp) = (place(SEOUL), place("gcp/1/asia-northeast3/vpc-1"));
    let (sender, receiver) = (endpoints(SENDER), endpoints(RECEIVER));
    let on = jiff::civil::date(2026, 11, 20);
    let (ours, theirs) = ("host-a".parse().unwrap(), "host-b".parse().unwrap());
    let pricing = Pricing { book: &book, on, local: &ours, remote: &theirs };
    let found = pricing.candidates(view(&aws, &sender), view(&gcp, &receiver));
    let first = |seen: &Measurements| {
        let best = rank(&Policy::new(RuleType::CostPrioritized), found.clone(), seen).remove(0).candidate;
        (best.endpoint.scope, best.price)
    };
    assert_eq!(first(&Measurements::default()).0, Scope::Public, "nobody has heard of it by the line");
    let answered = seen(&[("10.0.0.2:8055", Some(2))]);
    assert_eq!(first(&answered), (Scope::Private, Some(Price(20_000_000))));

    let private = |found: Vec<Candidate>| {
        found.into_iter().find(|candidate| candidate.endpoint.scope == Scope::Private).unwrap().route
    };
    let back = pricing.candidates(view(&gcp, &receiver), view(&aws, &sender));
    assert!(matches!(private(back), Err(Unfit::Apart(_))), "a line leads one way");
    let same = endpoints(&["private 10.0.0.2:8055", "public 203.0.113.1:8055"]);
    let own = pricing.candidates(view(&aws, &same), view(&gcp, &receiver));
    assert!(matches!(private(own), Err(Unfit::Apart(_))), "an address that the sender has itself leads nowhere");
}

/// What [`candidates`] should say of a private address, said again in another way.
fn oracle(ours: [u8; 4], theirs: [u8; 4]) -> Result<Route, ()> {
    let [provider, account, region, vpc] = [0, 1, 2, 3].map(|field: usize| match (ours[field], theirs[field]) {
        (0, _) | (_, 0) => None,
        (ours, theirs) => Some(ours == theirs),
    });
    let one_place = match (account, region) {
        (Some(false), _) | (_, Some(false)) | (None, None) => false,
        (_, _) => true,
    };
    match (provider, vpc) {
        (Some(false), _) => Err(()),
        (Some(true), Some(true)) if one_place => Ok(Route::Vpc),
        _ => Ok(Route::Peered),
    }
}

proptest! {
    #[test]
    fn private_addresses_are_routed_as_an_oracle_says(
        ours in prop::array::uniform4(0..3u8),
        theirs in prop::array::uniform4(0..3u8),
        v6 in any::<bool>(),
    ) {
        let text = |place: [u8; 4]| place.map(|part| if part == 0 { String::new() } else { part.to_string() }).join("/");
        let (sender, receiver) = if v6 { ("[fd00::1]", "[fd00::2]") } else { ("10.0.0.1", "10.0.0.2") };
        let (sender, receiver) = (format!("private {sender}:8055"), format!("private {receiver}:8055"));
        let found = pair(&text(ours), &[&sender], &text(theirs), &[&receiver]);
        prop_assert_eq!(found[0].route.clone().map_err(|_| ()), oracle(ours, theirs));
        let turned = pair(&text(theirs), &[&receiver], &text(ours), &[&sender]);
        prop_assert_eq!(found[0].route.is_ok(), turned[0].route.is_ok());
    }
}
