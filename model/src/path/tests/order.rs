//! Each rule type has its stories; prices are given here, not looked up.

use std::collections::BTreeSet;

use super::*;

const PRIVATE: &str = "10.0.0.2:8055";
const PUBLIC: &str = "203.0.113.2:8055";
const PUBLIC_V6: &str = "[2001:db8::2]:8055";

/// A candidate by its address, with its price in thousandths of a USD per GB.
fn candidate(address: &str, price: Option<u64>) -> Candidate {
    let address: SocketAddr = address.parse().unwrap();
    let (scope, route) = match address {
        SocketAddr::V4(v4) if v4.ip().is_private() => (Scope::Private, Route::Vpc),
        SocketAddr::V4(_) => (Scope::Public, Route::Internet),
        SocketAddr::V6(_) => (Scope::PublicV6, Route::InternetV6),
    };
    let price = price.map(|price| Price(price * 1_000_000));
    Candidate { endpoint: Endpoint { address, scope, source: EndpointSource::Stun }, route: Ok(route), price }
}

fn peered(price: Option<u64>) -> Candidate {
    Candidate { route: Ok(Route::Peered), ..candidate(PRIVATE, price) }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn using(address: &str, measured: Measurements) -> Measurements {
    Measurements { in_use: Some(address.parse().unwrap()), ..measured }
}

/// Addresses in order; those that may not be used are left out.
fn sorted(policy: &Policy, candidates: &[Candidate], seen: &Measurements) -> Vec<String> {
    let ranked = rank(policy, candidates.to_vec(), seen);
    let usable = ranked.iter().filter(|ranked| ranked.rank.is_some());
    usable.map(|ranked| ranked.candidate.endpoint.address.to_string()).collect()
}

fn first(policy: &Policy, candidates: &[Candidate], seen: &Measurements) -> Option<String> {
    sorted(policy, candidates, seen).into_iter().next()
}

fn limited(limits: Limits, rule_type: RuleType) -> Policy {
    Policy { limits, ..Policy::new(rule_type) }
}

const COST: RuleType = RuleType::CostPrioritized;
const LATENCY: RuleType = RuleType::LatencyPrioritized;

#[test]
fn one_zone_in_two_subnets_of_one_vpc_is_private() {
    let (here, there) = ("aws/1/ap-northeast-2/vpc-1/az1/subnet-1", "aws/1/ap-northeast-2/vpc-1/az1/subnet-2");
    assert_eq!(order(COST, here, there, &Measurements::default()), ["private", "public", "public-v6"]);
}

#[test]
fn peering_that_is_dearer_than_the_public_path_is_left_to_others() {
    // Two peered VNets of Azure: 0.01 at either end, and nothing by their public addresses.
    let all = [peered(Some(20)), candidate(PUBLIC, Some(0))];
    let both = seen(&[(PRIVATE, Some(1)), (PUBLIC, Some(2))]);
    assert_eq!(sorted(&Policy::new(COST), &all, &both), [PUBLIC, PRIVATE]);
}

#[test]
fn what_metadata_alone_says_picks_no_path_that_does_not_work() {
    let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(20))];
    let blocked = seen(&[(PRIVATE, None), (PUBLIC, Some(2))]);
    assert_eq!(sorted(&Policy::new(COST), &all, &blocked), [PUBLIC, PRIVATE]);
    let only_public_answers = seen(&[(PUBLIC, Some(2))]);
    assert_eq!(sorted(&Policy::new(COST), &all, &only_public_answers), [PUBLIC, PRIVATE]);
    let all = [peered(Some(0)), candidate(PUBLIC, Some(20))];
    assert_eq!(sorted(&Policy::new(COST), &all, &Measurements::default()), [PUBLIC]);
}

#[test]
fn what_needs_proof_is_never_used_without() {
    let alone = [peered(Some(0))];
    let policy = Policy::new(COST);
    for (health, state) in [(None, CandidateState::Unproved), (Some(Health::Silent), CandidateState::Silent)] {
        let health = health.map(|health| (address(PRIVATE), health));
        let measured = using(PRIVATE, Measurements { in_use: None, health: BTreeMap::from_iter(health) });
        let ranked = rank(&policy, alone.to_vec(), &measured);
        assert_eq!((ranked[0].rank, ranked[0].state), (None, state));
        assert!(ranked[0].is_worth_probing());
        assert!(
            summary(&ranked).starts_with("no path: 10.0.0.2:8055 is a private address outside"),
            "{}",
            summary(&ranked)
        );
    }
    let proving = Health::Proving { rtt: Duration::from_millis(1), loss_permille: 0 };
    let measured = Measurements { in_use: None, health: BTreeMap::from([(address(PRIVATE), proving)]) };
    let ranked = rank(&policy, alone.to_vec(), &measured);
    assert_eq!((ranked[0].rank, ranked[0].state), (Some(1), CandidateState::Proving));
}

#[test]
fn what_answers_goes_before_what_is_proving_before_what_is_untried_before_what_is_silent() {
    let names = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"];
    // The better it answers, the dearer.
    let all: Vec<_> = names.iter().zip(0..).map(|(name, price)| candidate(name, Some(price * 100))).collect();
    let proving = Health::Proving { rtt: Duration::from_millis(1), loss_permille: 0 };
    let health = [(names[0], Health::Silent), (names[2], proving), (names[3], answers(9))];
    let health = health.map(|(name, health)| (address(name), health));
    let measured = Measurements { in_use: None, health: BTreeMap::from(health) };
    for rule in [RuleType::Basic, COST, LATENCY, RuleType::Balanced] {
        let public: Vec<_> =
            all.iter().map(|candidate| Candidate { route: Ok(Route::Internet), ..candidate.clone() }).collect();
        let expected = [names[3], names[2], names[1], names[0]];
        assert_eq!(sorted(&Policy::new(rule), &public, &measured), expected, "{rule}");
    }
}

#[test]
fn cost_prioritized_goes_by_price_and_does_not_pay_for_a_shorter_round_trip() {
    let all = [candidate(PRIVATE, Some(10)), candidate(PUBLIC, Some(80)), candidate(PUBLIC_V6, Some(10))];
    let measured = seen(&[(PRIVATE, Some(90)), (PUBLIC, Some(1)), (PUBLIC_V6, Some(70))]);
    assert_eq!(sorted(&Policy::new(COST), &all, &measured), [PUBLIC_V6, PRIVATE, PUBLIC]);
}

#[test]
fn an_unknown_price_comes_after_every_known_one_and_then_the_round_trip_decides() {
    let all = [candidate(PRIVATE, None), candidate(PUBLIC, Some(180)), candidate(PUBLIC_V6, None)];
    let measured = seen(&[(PRIVATE, Some(9)), (PUBLIC, Some(50)), (PUBLIC_V6, Some(3))]);
    for rule in [COST, RuleType::Balanced] {
        assert_eq!(sorted(&Policy::new(rule), &all, &measured), [PUBLIC, PUBLIC_V6, PRIVATE], "{rule}");
    }
}

#[test]
fn latency_prioritized_takes_the_quickest_and_of_those_as_quick_the_cheapest() {
    let policy = Policy::new(LATENCY);
    let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(80)), candidate(PUBLIC_V6, Some(20))];
    let measured = seen(&[(PRIVATE, Some(50)), (PUBLIC, Some(40)), (PUBLIC_V6, Some(42))]);
    assert_eq!(sorted(&policy, &all, &measured), [PUBLIC_V6, PUBLIC, PRIVATE]);
    assert_eq!(sorted(&policy, &all, &Measurements::default()), [PRIVATE, PUBLIC_V6, PUBLIC]);
}

#[test]
fn balanced_weighs_round_trip_and_loss_in_money() {
    let policy = Policy::new(RuleType::Balanced);
    let all = [candidate(PRIVATE, Some(20)), candidate(PUBLIC, Some(80))];
    let by_rtt = |private, public| sorted(&policy, &all, &seen(&[(PRIVATE, Some(private)), (PUBLIC, Some(public))]));
    assert_eq!(by_rtt(59, 1), [PRIVATE, PUBLIC], "58 ms are not worth 0.06");
    assert_eq!(by_rtt(63, 1), [PUBLIC, PRIVATE], "62 ms are");
    let mut lossy = seen(&[(PRIVATE, Some(1)), (PUBLIC, Some(1))]);
    let loss = Health::Answers { rtt: Duration::from_millis(1), loss_permille: 70 };
    lossy.health.insert(address(PRIVATE), loss);
    assert_eq!(sorted(&policy, &all, &lossy), [PUBLIC, PRIVATE], "7 % of loss are worth 0.07");
}

#[test]
fn basic_takes_public_addresses_only_ipv4_first_and_asks_no_price() {
    let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(90)), candidate(PUBLIC_V6, Some(0))];
    let ranked = rank(&Policy::new(RuleType::Basic), all.to_vec(), &Measurements::default());
    assert_eq!(sorted(&Policy::new(RuleType::Basic), &all, &Measurements::default()), [PUBLIC, PUBLIC_V6]);
    assert_eq!((ranked[2].rank, ranked[2].state), (None, CandidateState::Excluded));
    assert_eq!(ranked[2].reason.to_string(), "private address, and the rule type basic uses public ones only");
    assert_eq!(ancestor(all.to_vec()).unwrap().endpoint.address, address(PUBLIC));
}

#[test]
fn a_preferred_scope_goes_first_while_it_answers() {
    let policy = Policy { prefer: Some(Scope::Public), ..Policy::new(COST) };
    let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(90))];
    assert_eq!(sorted(&policy, &all, &Measurements::default()), [PUBLIC, PRIVATE]);
    assert_eq!(sorted(&policy, &all, &seen(&[(PRIVATE, Some(1)), (PUBLIC, None)])), [PRIVATE, PUBLIC]);
}

#[test]
fn limits_exclude_and_say_by_what() {
    let all = [candidate(PRIVATE, None), candidate(PUBLIC, Some(90)), candidate(PUBLIC_V6, Some(50))];
    let limits = Limits {
        max_rtt: Some(Duration::from_millis(30)),
        max_price_per_gb: Some(Price(60_000_000)),
        forbid: BTreeSet::new(),
    };
    let policy = limited(limits, COST);
    let ranked = rank(&policy, all.to_vec(), &seen(&[(PUBLIC_V6, Some(31))]));
    assert_eq!(
        summary(&ranked),
        "no path: 10.0.0.2:8055 is a path whose price is not known, and at most 0.06 USD/GB are allowed; 203.0.113.2:8055 is a \
         path that costs 0.09 USD/GB, and at most 0.06 are allowed; [2001:db8::2]:8055 is a path with a round trip \
         of 31.0 ms, and at most 30.0 ms are allowed"
    );
    let probed: Vec<_> = ranked.iter().map(Ranked::is_worth_probing).collect();
    assert_eq!(probed, [false, false, true], "only a round trip can get better by itself");
}

#[test]
fn the_path_in_use_is_not_left_for_a_round_trip_that_swings_around_the_limit() {
    let limits = Limits { max_rtt: Some(Duration::from_millis(30)), ..Limits::default() };
    let policy = limited(limits, COST);
    let all = [candidate(PUBLIC, Some(0))];
    let at = |rtt| using(PUBLIC, seen(&[(PUBLIC, Some(rtt))]));
    assert_eq!(first(&policy, &all, &at(33)).as_deref(), Some(PUBLIC));
    assert_eq!(first(&policy, &all, &at(34)), None);
    assert_eq!(first(&policy, &all, &Measurements { in_use: None, ..at(31) }), None);
}

#[test]
fn who_forbids_public_forbids_the_internet() {
    let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(0)), candidate(PUBLIC_V6, Some(0))];
    let forbidding = |scope| {
        let limits = Limits { forbid: BTreeSet::from([scope]), ..Limits::default() };
        limited(limits, COST)
    };
    assert_eq!(sorted(&forbidding(Scope::Public), &all, &Measurements::default()), [PRIVATE]);
    assert_eq!(sorted(&forbidding(Scope::PublicV6), &all, &Measurements::default()), [PRIVATE, PUBLIC]);
    let ranked = rank(&forbidding(Scope::Public), all[1..].to_vec(), &seen(&[(PUBLIC, Some(1))]));
    assert_eq!(
        summary(&ranked),
        "no path: 203.0.113.2:8055 is a public address, and that scope is forbidden; [2001:db8::2]:8055 is a public-v6 \
         address, and that scope is forbidden"
    );
    assert!(!ranked.iter().any(Ranked::is_worth_probing), "nothing is sent to a forbidden scope");
}

#[test]
fn the_rule_that_decides_is_named() {
    let by = |rule: &str| Author(rule.parse().ok());
    let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(90))];
    let measured = seen(&[(PRIVATE, Some(1)), (PUBLIC, Some(1))]);
    let told = |policy: Policy| summary(&rank(&policy, all.to_vec(), &measured));

    let authors = Authors { prefer: by("outside"), ..Authors::default() };
    let sentence = told(Policy { prefer: Some(Scope::Public), authors, ..Policy::new(COST) });
    assert!(sentence.ends_with("scope public is preferred (rule outside)"), "{sentence}");

    let authors = Authors { rule_type: by("fast"), ..Authors::default() };
    let sentence = told(Policy { authors, ..Policy::new(RuleType::LatencyPrioritized) });
    assert!(sentence.contains("first by rule type latency-prioritized (rule fast): 0 USD/GB"), "{sentence}");

    let limits =
        Limits { forbid: [Scope::Public].into(), max_price_per_gb: Some(Price(10_000_000)), ..Limits::default() };
    let authors = Authors { forbid: by("inside"), max_price_per_gb: by("cheap"), ..Authors::default() };
    let policy = Policy { limits, authors, ..Policy::new(COST) };
    assert_eq!(policy.limits(), "at most 0.01 USD/GB (rule cheap), nothing by public addresses (rule inside)");
    let sentence = told(policy.clone());
    assert!(sentence.ends_with("; rule inside excludes 203.0.113.2:8055"), "{sentence}");
    assert_eq!(
        summary(&rank(&policy, all[1..].to_vec(), &measured)),
        "no path: 203.0.113.2:8055 is a public address, and that scope is forbidden (rule inside)"
    );

    let authors = Authors { rule_type: by("plain"), forbid: by("inside"), ..Authors::default() };
    let limits = Limits { forbid: [Scope::Public].into(), ..Limits::default() };
    let sentence = told(Policy { limits, authors, ..Policy::new(RuleType::Basic) });
    for rule in ["rule type basic (rule plain) uses public ones only", "that scope is forbidden (rule inside)"] {
        assert!(sentence.starts_with("no path: ") && sentence.contains(rule), "{sentence}");
    }
}

#[test]
fn the_path_in_use_stays_unless_another_is_better_by_the_margin() {
    let cost = Policy::new(COST);
    let all = |other| [candidate(PRIVATE, Some(30)), candidate(PUBLIC, Some(other))];
    let measured = using(PRIVATE, seen(&[(PRIVATE, Some(10)), (PUBLIC, Some(10))]));
    assert_eq!(first(&cost, &all(26), &measured).as_deref(), Some(PRIVATE), "0.004 less");
    assert_eq!(first(&cost, &all(25), &measured).as_deref(), Some(PUBLIC), "0.005 less");
    let dear = [candidate(PRIVATE, Some(100)), candidate(PUBLIC, Some(91))];
    assert_eq!(first(&cost, &dear, &measured).as_deref(), Some(PRIVATE), "9 % less");

    let equal = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(0))];
    let quicker = |rtt| using(PRIVATE, seen(&[(PRIVATE, Some(50)), (PUBLIC, Some(rtt))]));
    for rule in [COST, LATENCY] {
        let policy = Policy::new(rule);
        assert_eq!(first(&policy, &equal, &quicker(46)).as_deref(), Some(PRIVATE), "{rule}: 8 % less");
        assert_eq!(first(&policy, &equal, &quicker(45)).as_deref(), Some(PUBLIC), "{rule}: 10 % less");
    }
    let silent = using(PRIVATE, seen(&[(PRIVATE, None), (PUBLIC, Some(90))]));
    assert_eq!(first(&cost, &all(80), &silent).as_deref(), Some(PUBLIC), "no margin protects what is silent");
    let known = using(PRIVATE, seen(&[(PRIVATE, Some(1)), (PUBLIC, Some(90))]));
    let unknown = [candidate(PRIVATE, None), candidate(PUBLIC, Some(80))];
    assert_eq!(first(&cost, &unknown, &known).as_deref(), Some(PUBLIC), "nor a price that nobody knows");
}

#[test]
fn a_private_path_is_taken_back_from_a_public_one_that_is_no_better() {
    let policy = Policy::new(COST);
    let near = seen(&[(PRIVATE, Some(10)), (PUBLIC, Some(10))]);
    for private in [candidate(PRIVATE, Some(20)), peered(Some(20))] {
        let all = [private, candidate(PUBLIC, Some(20))];
        assert_eq!(first(&policy, &all, &using(PUBLIC, near.clone())).as_deref(), Some(PRIVATE));
        assert_eq!(first(&policy, &all, &using(PRIVATE, near.clone())).as_deref(), Some(PRIVATE));
        let quicker_by_little = seen(&[(PRIVATE, Some(40)), (PUBLIC, Some(37))]);
        for in_use in [PRIVATE, PUBLIC] {
            let kept = first(&policy, &all, &using(in_use, quicker_by_little.clone()));
            assert_eq!(kept.as_deref(), Some(in_use), "neither is left");
        }
    }
}

#[test]
fn a_dearer_path_never_takes_over_because_it_is_quicker() {
    let all = [candidate(PRIVATE, Some(10)), candidate(PUBLIC, Some(14))];
    let measured = using(PRIVATE, seen(&[(PRIVATE, Some(100)), (PUBLIC, Some(1))]));
    assert_eq!(first(&Policy::new(COST), &all, &measured).as_deref(), Some(PRIVATE));
}

#[test]
fn reasons_say_what_decided() {
    let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(20)), candidate(PUBLIC_V6, None)];
    let measured = using(PRIVATE, seen(&[(PRIVATE, Some(12)), (PUBLIC, Some(1)), (PUBLIC_V6, Some(1))]));
    let ranked = rank(&Policy::new(COST), all.to_vec(), &measured);
    let reasons: Vec<_> = ranked.iter().map(|ranked| ranked.reason.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "private address in the VPC of both hosts; first by rule type cost-prioritized: 0 USD/GB against 0.02",
            "public IPv4 address over the internet; 10.0.0.2:8055 goes before it: 0 USD/GB against 0.02",
            "public IPv6 address over the internet; 10.0.0.2:8055 goes before it: 0 USD/GB against a price that is not known",
        ]
    );
    assert_eq!(summary(&ranked), format!("in use: {PRIVATE}, {}", reasons[0]));
    let ranked = rank(&Policy::new(LATENCY), all.to_vec(), &Measurements { in_use: None, ..measured.clone() });
    assert!(
        ranked[0].reason.to_string().ends_with("0.02 USD/GB against a price that is not known"),
        "{}",
        ranked[0].reason
    );
    assert!(
        ranked[2].reason.to_string().ends_with("its round trip is 1.0 ms, the other's 12.0 ms"),
        "{}",
        ranked[2].reason
    );
}

#[test]
fn what_the_margin_keeps_is_told_on_both_sides() {
    let all = [candidate(PRIVATE, Some(24)), candidate(PUBLIC, Some(20))];
    let measured = using(PRIVATE, seen(&[(PRIVATE, Some(1)), (PUBLIC, Some(1))]));
    let ranked = rank(&Policy::new(COST), all.to_vec(), &measured);
    assert_eq!(
        ranked[0].reason.to_string(),
        "private address in the VPC of both hosts; it stays in use, because 203.0.113.2:8055 is not better by enough: 0.02 \
         USD/GB against 0.024"
    );
    assert_eq!(
        ranked[1].reason.to_string(),
        "public IPv4 address over the internet; better than 10.0.0.2:8055, but not by enough to leave it: 0.02 USD/GB \
         against 0.024"
    );
}

#[test]
fn where_there_is_no_path_it_is_told_why() {
    let nothing = Measurements::default();
    let cost = Policy::new(COST);
    assert_eq!(summary(&rank(&cost, vec![], &nothing)), "no path: the remote host has told no endpoint");
    let found = pair("aws/1/r/vpc-1", SENDER, "gcp/1/r/vpc-2", &["private 10.0.0.2:8055"]);
    assert_eq!(
        summary(&rank(&cost, found, &nothing)),
        "no path: 10.0.0.2:8055 is a private address, and the hosts stand under different providers, aws and gcp"
    );
    let found = pair("", SENDER, "", &["public 203.0.113.2:8055"]);
    let ranked = rank(&cost, found, &seen(&[(PUBLIC, None)]));
    assert_eq!(summary(&ranked), "no path: 203.0.113.2:8055 ranks first, and does not answer");
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let source = proptest::sample::select(vec![EndpointSource::Interface, EndpointSource::Stun]);
    let price = prop::option::of(prop_oneof![0..4u64, 0..200u64]);
    (0..4u8, 0..3u8, source, price).prop_map(|(kind, last, source, price)| {
        let found = match kind {
            0 => candidate(&format!("10.0.0.{last}:8055"), price),
            1 => Candidate { route: Ok(Route::Peered), ..candidate(&format!("10.0.1.{last}:8055"), price) },
            2 => candidate(&format!("203.0.113.{last}:8055"), price),
            _ => candidate(&format!("[2001:db8::{last}]:8055"), price),
        };
        Candidate { endpoint: Endpoint { source, ..found.endpoint }, ..found }
    })
}

fn any_health() -> impl Strategy<Value = Option<Health>> {
    let rtt = prop_oneof![0..5000u64, 0..300_000u64].prop_map(Duration::from_micros);
    (0..8u8, rtt, 0..300u16).prop_map(|(kind, rtt, loss_permille)| match kind {
        0 => None,
        1 => Some(Health::Silent),
        2 => Some(Health::Proving { rtt, loss_permille }),
        _ => Some(Health::Answers { rtt, loss_permille }),
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rule = proptest::sample::select(vec![RuleType::Basic, COST, LATENCY, RuleType::Balanced]);
    let scope = || proptest::sample::select(vec![Scope::Private, Scope::Public, Scope::PublicV6]);
    let rtt = prop::option::of((1..300u64).prop_map(Duration::from_millis));
    let price = prop::option::of((0..200u64).prop_map(|price| Price(price * 1_000_000)));
    let forbid = proptest::collection::btree_set(scope(), 0..2);
    (rule, rtt, price, forbid, prop::option::of(scope())).prop_map(
        |(rule, max_rtt, max_price_per_gb, forbid, prefer)| Policy {
            limits: Limits { max_rtt, max_price_per_gb, forbid },
            prefer,
            ..Policy::new(rule)
        },
    )
}

/// Candidates with different addresses, what was seen of each, and maybe one of them in use.
fn any_case() -> impl Strategy<Value = (Vec<Candidate>, Measurements)> {
    (vec((any_candidate(), any_health()), 0..8), any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(drawn, index, uses_one)| {
            let by_address: BTreeMap<_, _> = drawn.into_iter().map(|drawn| (drawn.0.endpoint.address, drawn)).collect();
            let in_use = (uses_one && !by_address.is_empty()).then(|| *index.get(&Vec::from_iter(by_address.keys())));
            let health = by_address.iter().filter_map(|(address, (_, health))| Some((*address, (*health)?)));
            let measured = Measurements { in_use: in_use.copied(), health: health.collect() };
            (by_address.into_values().map(|(candidate, _)| candidate).collect(), measured)
        },
    )
}

proptest! {
    #[test]
    fn ranking_loses_nobody_and_does_not_depend_on_the_order_of_candidates(
        (candidates, measured) in any_case(),
        policy in any_policy(),
    ) {
        let ranked = rank(&policy, candidates.clone(), &measured);
        let turned: Vec<_> = candidates.iter().rev().cloned().collect();
        prop_assert_eq!(&ranked, &rank(&policy, turned, &measured));
        let found: BTreeSet<_> = ranked.iter().map(|ranked| ranked.candidate.endpoint.address).collect();
        prop_assert_eq!(found, candidates.iter().map(|candidate| candidate.endpoint.address).collect::<BTreeSet<_>>());
        let places = ranked.iter().map_while(|ranked| ranked.rank);
        prop_assert!(places.clone().eq(1..=places.count() as u32), "places count from 1");
        prop_assert!(ranked.iter().map(|r| r.rank.is_none()).is_sorted(), "whoever may not be used comes last");
        prop_assert!(ranked.iter().all(|ranked| !ranked.reason.to_string().is_empty()));
    }

    #[test]
    fn nothing_is_ever_picked_that_the_policy_excludes_or_that_lacks_proof(
        (candidates, measured) in any_case(),
        policy in any_policy(),
    ) {
        for ranked in rank(&policy, candidates, &measured).iter().filter(|ranked| ranked.rank.is_some()) {
            let Candidate { endpoint, route, price } = &ranked.candidate;
            prop_assert!(!policy.limits.forbids(endpoint.scope));
            prop_assert!(policy.rule_type != RuleType::Basic || endpoint.scope != Scope::Private);
            prop_assert!(policy.limits.max_price_per_gb.is_none_or(|limit| price.is_some_and(|price| price <= limit)));
            let reach = measured.reach(endpoint.address);
            prop_assert!(*route != Ok(Route::Peered) || matches!(reach, Reach::Answers | Reach::Proving));
        }
    }

    #[test]
    fn what_answers_is_never_behind_what_does_not(
        (candidates, measured) in any_case(),
        policy in any_policy(),
    ) {
        let ranked = rank(&policy, candidates, &measured);
        let usable = ranked.iter().filter(|ranked| ranked.rank.is_some());
        prop_assert!(usable.map(|ranked| measured.reach(ranked.candidate.endpoint.address)).is_sorted());
    }

    #[test]
    fn using_what_ranks_first_changes_nothing_so_no_path_is_left_and_taken_back(
        (candidates, measured) in any_case(),
        policy in any_policy(),
    ) {
        let pick = |seen: &Measurements| {
            let ranked = rank(&policy, candidates.clone(), seen);
            ranked.first().filter(|ranked| ranked.rank.is_some()).map(|ranked| ranked.candidate.endpoint.address)
        };
        if let Some(chosen) = pick(&measured) {
            let next = Measurements { in_use: Some(chosen), ..measured };
            prop_assert_eq!(pick(&next), Some(chosen));
        }
    }

    #[test]
    fn noise_below_half_the_margin_moves_nothing_but_once_to_the_private_path(
        rtt in 1000..300_000u64,
        noise in vec((0..100u64, 0..100u64), 1..50),
        rule in proptest::sample::select(vec![COST, LATENCY, RuleType::Balanced]),
    ) {
        let all = [candidate(PRIVATE, Some(0)), candidate(PUBLIC, Some(0))];
        let (policy, mut in_use, mut moves) = (Policy::new(rule), None, 0);
        for (one, other) in noise {
            // Up to 4 % either way.
            let swing = |part: u64| Duration::from_micros(rtt * (960 + part * 80 / 100) / 1000);
            let health = |part| Health::Answers { rtt: swing(part), loss_permille: 0 };
            let health = BTreeMap::from([(address(PRIVATE), health(one)), (address(PUBLIC), health(other))]);
            let ranked = rank(&policy, all.to_vec(), &Measurements { in_use, health });
            let chosen = Some(ranked[0].candidate.endpoint.address);
            moves += u32::from(in_use.is_some() && chosen != in_use);
            in_use = chosen;
        }
        prop_assert!(moves == 0 || moves == 1 && in_use == Some(address(PRIVATE)), "{} moves", moves);
    }
}
