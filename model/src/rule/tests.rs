//! Rules as a whole: what they decide, what is told about them, and properties against the plainest reading of a rule.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    path::{Author, Authors, Limits, PairPolicy, Policy},
    tariff::Price,
};

fn member(number: u8, name: &str, labels: &[(&str, &str)]) -> Member {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let host = format!("host-{number}").parse().unwrap();
    Member::new(host, name.to_owned(), Some(Ipv4Addr::new(10, 9, 0, number)), &labels)
}

fn shop() -> Vec<Member> {
    vec![
        member(1, "web-1", &[("role", "web"), ("zone", "a")]),
        member(2, "web-2", &[("role", "web"), ("zone", "b")]),
        member(3, "db-1", &[("role", "db")]),
        member(4, "gw", &[("role", "gateway")]),
    ]
}

fn rules(document: serde_json::Value) -> RuleSet {
    serde_json::from_value::<RulesDraft>(document).unwrap().check().unwrap()
}

fn told(rules: &RuleSet) -> Vec<String> {
    warnings(rules, &shop()).iter().map(Warning::to_string).collect()
}

#[test]
fn no_rules_cost_nothing() {
    let members = shop();
    assert_eq!(access(&RuleSet::default(), &members[0], &members[1..]), None);
    let elsewhere = rules(serde_json::json!({"rules": [{"kind": "access", "action": "deny", "to": "role=db"}]}));
    assert_eq!(access(&elsewhere, &members[0], &members[1..]), None, "nothing is refused here");
    assert!(access(&elsewhere, &members[2], &members[..2]).is_some());
}

#[test]
fn the_first_rule_that_matches_decides_and_is_named() {
    let rules = rules(serde_json::json!({"default_access": "deny", "rules": [
        {"id": "no-ssh", "kind": "access", "action": "deny", "protocol": "tcp", "ports": ["22"]},
        {"id": "off", "kind": "access", "action": "allow", "enabled": false},
        {"id": "web-db", "kind": "access", "action": "allow", "from": "role=web", "to": "role=db", "protocol": "tcp"},
    ]}));
    let members = shop();
    let decided = |from: usize, to: usize, port| {
        let decision =
            decide(&rules, &members[from].party().unwrap(), &members[to].party().unwrap(), Protocol::Tcp, port);
        (decision.action, decision.rule.map(|rule| rule.to_string()))
    };
    assert_eq!(decided(0, 2, 5432), (Action::Allow, Some("web-db".to_owned())));
    assert_eq!(decided(0, 2, 22), (Action::Deny, Some("no-ssh".to_owned())));
    assert_eq!(decided(2, 0, 5432), (Action::Deny, None));
}

#[test]
fn a_test_that_fails_is_named_with_the_rule_that_broke_it() {
    let rules = rules(serde_json::json!({"default_access": "deny", "rules": [
        {"id": "web-db", "kind": "access", "action": "allow", "from": "role=web, zone=a", "to": "role=db", "protocol": "tcp"},
    ], "tests": [
        "expect: web-1 may reach db-1:5432",
        "expect: role=web may reach db-1:5432",
        "expect: web-1 may not reach db-1:22",
        "expect: db-1 may not reach role=web:80",
    ]}));
    let broken: Vec<String> = check_expectations(&rules, &shop()).iter().map(Broken::to_string).collect();
    assert_eq!(
        broken,
        [
            "expect: role=web may reach db-1:5432 fails: web-2 may not reach db-1, by the default",
            "expect: web-1 may not reach db-1:22 fails: web-1 may reach db-1, by rule web-db",
        ]
    );
}

/// Asking every pair about every rule would take minutes.
#[test]
fn tests_about_all_pairs_of_a_large_network_are_checked_at_once() {
    let peer = |number: u16| {
        let labels = [("role".to_owned(), if number.is_multiple_of(2) { "web" } else { "db" }.to_owned())].into();
        let [high, low] = number.to_be_bytes();
        let (host, address) = (format!("host-{number}").parse().unwrap(), Ipv4Addr::new(10, 9, high, low));
        Member::new(host, format!("vm-{number}"), Some(address), &labels)
    };
    let members: Vec<Member> = (1..=400).map(peer).collect();
    let rule = |number: u16| {
        serde_json::json!({"id": format!("r{number}"), "kind": "access", "action": "allow", "from": "role=web", "to": "role=db",
                           "protocol": "tcp", "ports": [format!("{}", 1_000 + number)]})
    };
    let tests: Vec<String> = (0..20).map(|port| format!("expect: role=web may not reach role=db:{port}")).collect();
    let text =
        serde_json::json!({"default_access": "deny", "rules": (0..200).map(rule).collect::<Vec<_>>(), "tests": tests});
    let mut rules = rules(text);
    assert_eq!(check_expectations(&rules, &members), []);
    rules.tests.push("expect: role=db may reach role=db:1".parse().unwrap());
    let broken = check_expectations(&rules, &members).remove(0);
    assert_eq!((broken.from.as_str(), broken.to.as_str()), ("vm-1", "vm-3"), "nobody is asked about itself");
}

#[test]
fn what_is_hardly_meant_is_told() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "a", "kind": "access", "action": "deny", "from": "role"},
        {"id": "b", "kind": "access", "action": "deny", "from": "role=web", "to": "role=db"},
        {"id": "c", "kind": "access", "action": "allow", "from": "role=web", "protocol": "tcp", "ports": ["80"]},
        {"id": "d", "kind": "access", "action": "allow", "from": "tier=gold"},
        {"id": "e", "kind": "access", "action": "allow", "from": "172.16.0.0/12"},
        {"id": "f", "kind": "advertise", "prefix": "192.168.0.0/16", "via": "role=web"},
        {"id": "g", "kind": "access", "action": "allow", "from": "192.168.7.0/24"},
        {"id": "h", "kind": "path", "from": "role", "prefer": "private", "forbid": ["public"]},
        {"id": "i", "kind": "path", "from": "role=web", "forbid": ["public-v6"]},
    ], "tests": ["expect: web-3 may reach db-1:80"]}));
    assert_eq!(
        told(&rules),
        [
            "rule b has no effect: rule a, before it, matches all that it does",
            "rule c contradicts rule a, which comes first and does the opposite with all that it matches",
            "rule d matches nobody now: no peer is from tier=gold",
            "rule e matches nobody now: no peer is from 172.16.0.0/12",
            "rule f selects 2 peers for one subnet: web-1 stands before it, the others do not",
            "rule i has no effect: rule h, before it, matches all that it does",
            "test \"expect: web-3 may reach db-1:80\" proves nothing now: nobody is web-3",
        ]
    );
}

#[test]
fn a_name_that_another_peer_takes_on_is_told() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "a", "kind": "access", "action": "allow", "from": "cladnet/name in (web-1, web-2)", "to": "role=db"},
        {"id": "b", "kind": "access", "action": "allow", "from": "role=web", "to": "cladnet/name=db-1"},
    ]}));
    let told = |members: &[Member]| warnings(&rules, members).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(&shop()), [""; 0]);
    let mut members = shop();
    let forged = Member::new("host-9".parse().unwrap(), "web-1".into(), None, &Labels::new());
    members.push(forged);
    assert_eq!(
        told(&members),
        [
            "rule a means web-1 by cladnet/name, and 2 peers call themselves so: a machine chooses its name; give labels, or name cladnet/host"
        ]
    );
}

#[test]
fn a_test_that_a_newcomer_breaks_is_told() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "far", "kind": "access", "action": "deny", "from": "zone=far"},
    ], "tests": ["expect: role=web may reach role=db:80"]}));
    let newcomer = member(9, "web-9", &[("role", "web"), ("zone", "far")]);
    let told = |members: &[Member]| warnings(&rules, members).iter().map(Warning::to_string).collect::<Vec<_>>();
    let failing = "test expect: role=web may reach role=db:80 fails: web-9 may not reach db-1, by rule far";
    assert_eq!(told(&[shop(), vec![newcomer]].concat()), [failing]);
    assert!(!told(&shop()).iter().any(|told| told.contains("fails")));
}

#[test]
fn a_subnet_has_one_peer_and_adjacent_ones_are_joined() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "a", "kind": "advertise", "prefix": "192.168.0.0/24", "via": "role=gateway"},
        {"id": "b", "kind": "advertise", "prefix": "192.168.1.0/24", "via": "cladnet/name=gw"},
        {"id": "c", "kind": "advertise", "prefix": "192.168.2.0/24", "via": "role=gateway", "snat": false},
        {"id": "d", "kind": "advertise", "prefix": "10.0.0.0/16", "mapped": "10.200.0.0/16", "via": "role=gateway"},
        {"id": "e", "kind": "advertise", "prefix": "172.16.0.0/16", "via": "role=web"},
    ]}));
    let found = advertised(&rules, &shop());
    let of = |host: &str| -> Vec<(String, bool, Option<String>, String)> {
        let told = |one: &Advertised| {
            (one.prefix.to_string(), one.snat, one.mapped_from.map(|real| real.to_string()), one.rule.to_string())
        };
        found[&host.parse::<HostId>().unwrap()].iter().map(told).collect()
    };
    let plain = |prefix: &str, snat, rule: &str| (prefix.to_owned(), snat, None, rule.to_owned());
    assert_eq!(
        of("host-4"),
        [
            ("10.200.0.0/16".to_owned(), true, Some("10.0.0.0/16".to_owned()), "d".to_owned()),
            plain("192.168.0.0/23", true, "a"),
            plain("192.168.2.0/24", false, "c"),
        ]
    );
    assert_eq!(of("host-1"), [plain("172.16.0.0/16", true, "e")]);
    assert_eq!(found.len(), 2);
}

#[test]
fn a_subnet_that_is_somebody_elses_is_told_with_its_holder() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "a", "kind": "advertise", "prefix": "10.0.0.0/8", "via": "role=gateway"},
        {"id": "b", "kind": "advertise", "prefix": "192.168.0.0/16", "via": "role=gateway"},
        {"id": "c", "kind": "advertise", "prefix": "192.168.7.0/24", "via": "role=web"},
        {"id": "d", "kind": "advertise", "prefix": "192.168.8.0/24", "via": "role=web", "enabled": false},
        {"id": "e", "kind": "advertise", "prefix": "172.16.0.0/16", "via": "role=web"},
    ]}));
    let clashes: Vec<String> = rules
        .clashes("10.9.0.0/24".parse().unwrap(), &[("dev".parse().unwrap(), "172.16.0.0/24".parse().unwrap())])
        .iter()
        .map(|clash| format!("{} {clash}", clash.rule))
        .collect();
    assert_eq!(
        clashes,
        [
            "a is 10.0.0.0/8, which overlaps the network's own address space 10.9.0.0/24",
            "c is 192.168.7.0/24, which overlaps 192.168.0.0/16 of rule b, behind role=gateway",
            "e is 172.16.0.0/16, which overlaps the address space 172.16.0.0/24 of network dev",
        ]
    );
}

#[test]
fn the_first_path_rule_that_states_a_thing_decides_it() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "a", "kind": "path", "from": "role=web", "to": "role=db", "prefer": "private"},
        {"id": "b", "kind": "path", "from": "role=web", "prefer": "public", "max_rtt_ms": 80},
        {"id": "c", "kind": "path", "from": "role=db", "encryption": "always"},
        {"id": "d", "kind": "path", "encryption": "public"},
    ]}));
    let members = shop();
    let of = |from: usize, to: usize| overrides(&rules, &members[from].party().unwrap(), &members[to].party().unwrap());
    let there = of(0, 2);
    assert_eq!((there.prefer, there.max_rtt), (by("a", Scope::Private), by("b", Duration::from_millis(80))));
    assert_eq!(there.encryption, by("c", EncryptionPolicy::Always), "as the way back");
    assert_eq!(of(2, 0).encryption, by("c", EncryptionPolicy::Always));
    assert_eq!(of(0, 1).encryption, by("d", EncryptionPolicy::Public));
    assert_eq!(of(2, 0).prefer, None, "another direction");
}

fn by<T>(rule: &str, value: T) -> Option<Stated<T>> {
    Some(Stated { value, by: rule.parse().unwrap() })
}

#[test]
fn of_the_rules_of_both_directions_always_goes_before() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "open", "kind": "path", "from": "role=web", "encryption": "public"},
        {"id": "vault", "kind": "path", "from": "role=db", "encryption": "always"},
    ]}));
    let members = shop();
    for (from, to) in [(0, 2), (2, 0)] {
        let found = overrides(&rules, &members[from].party().unwrap(), &members[to].party().unwrap());
        assert_eq!(found.encryption, by("vault", EncryptionPolicy::Always), "{from} to {to}");
    }
}

#[test]
fn what_a_path_rule_does_not_state_is_as_the_network_says() {
    let rules = rules(serde_json::json!({"rules": [
        {"id": "inside", "kind": "path", "from": "role=web", "forbid": ["public"], "max_usd_per_gb": "0.02"},
    ]}));
    let members = shop();
    let paths = Policy { prefer: Some(Scope::Private), ..Policy::new(RuleType::Balanced) };
    let network = PairPolicy { paths: paths.clone(), ..PairPolicy::default() };
    let of = |from: usize| policy(&rules, &network, &members[from].party().unwrap(), &members[2].party().unwrap());
    assert_eq!(of(3), network);
    let limits =
        Limits { forbid: [Scope::Public].into(), max_price_per_gb: Some(Price(20_000_000)), ..Limits::default() };
    let inside = Author("inside".parse().ok());
    let authors = Authors { forbid: inside.clone(), max_price_per_gb: inside, ..Authors::default() };
    assert_eq!(of(0), PairPolicy { paths: Policy { limits, authors, ..paths }, ..network });
}

fn any_side() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "any",
        "role=web",
        "role!=web",
        "role in (web, db)",
        "role notin (web, db)",
        "role",
        "!role",
        "role=web, zone=a",
        "zone!=b",
        "10.9.0.0/30",
        "10.9.0.2",
        "10.9.0.4/30, 172.16.0.0/16",
        "172.16.0.0/12",
        "0.0.0.0/0",
    ])
}

fn any_ports() -> impl Strategy<Value = (Option<&'static str>, Vec<&'static str>)> {
    prop::sample::select(vec![
        (None, vec![]),
        (Some("any"), vec![]),
        (Some("tcp"), vec![]),
        (Some("tcp"), vec!["22"]),
        (Some("tcp"), vec!["20-30", "80"]),
        (Some("udp"), vec!["22-53"]),
        (Some("icmp"), vec![]),
    ])
}

fn any_rule() -> impl Strategy<Value = RuleDraft> {
    (any::<bool>(), any_side(), any_side(), any_ports(), prop::bool::weighted(0.9)).prop_map(
        |(allow, from, to, (protocol, ports), enabled)| RuleDraft {
            kind: "access".to_owned(),
            action: Some(if allow { "allow" } else { "deny" }.to_owned()),
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            protocol: protocol.map(str::to_owned),
            ports: ports.into_iter().map(str::to_owned).collect(),
            enabled: Some(enabled),
            ..RuleDraft::default()
        },
    )
}

fn any_rules() -> impl Strategy<Value = RuleSet> {
    (any::<bool>(), prop::collection::vec(any_rule(), 0..8)).prop_map(|(allow, rules)| {
        let default_access = Some(if allow { "allow" } else { "deny" }.to_owned());
        RulesDraft { default_access, rules, tests: Vec::new() }.check().unwrap()
    })
}

const TRAFFIC: [(Protocol, u16); 6] = [
    (Protocol::Tcp, 22),
    (Protocol::Tcp, 80),
    (Protocol::Tcp, 443),
    (Protocol::Udp, 22),
    (Protocol::Udp, 60),
    (Protocol::Icmp, 0),
];

proptest! {
    /// What a receiver enforces by addresses is what the rules say about labels, for peers and for what is behind them.
    #[test]
    fn a_resolved_filter_decides_as_the_rules_do(rules in any_rules(), me in 0..4_usize) {
        let members = shop();
        let mut peers = members.clone();
        let me = peers.remove(me);
        let filter = access(&rules, &me, &peers);
        let behind: IpAddr = "172.16.3.4".parse().unwrap();
        let strangers = [Party { address: behind, labels: None }];
        for from in peers.iter().filter_map(Member::party).chain(strangers) {
            for (protocol, port) in TRAFFIC {
                let resolved = match &filter {
                    Some(filter) => filter.decide(from.address, me.address.unwrap().into(), protocol, port),
                    None => Action::Allow,
                };
                let plain = decide(&rules, &from, &me.party().unwrap(), protocol, port).action;
                prop_assert_eq!(resolved, plain, "{:?} {} {}", from, protocol, port);
            }
        }
    }

    /// A rule that is told to be without effect decides nothing.
    #[test]
    fn a_shadowed_rule_never_decides(rules in any_rules()) {
        let members = shop();
        let shadowed: Vec<RuleId> = warnings(&rules, &members).into_iter().filter_map(|warning| match warning {
            Warning::Shadowed { rule, .. } | Warning::Contradicted { rule, .. } => Some(rule),
            _ => None,
        }).collect();
        for from in members.iter().filter_map(Member::party) {
            for to in members.iter().filter_map(Member::party) {
                for (protocol, port) in TRAFFIC {
                    let by = decide(&rules, &from, &to, protocol, port).rule;
                    prop_assert!(by.is_none_or(|by| !shadowed.contains(&by)));
                }
            }
        }
    }

    #[test]
    fn no_text_breaks_a_parser(text in "[a-z0-9 =!,()./:\\[\\]-]{0,40}") {
        let _ = text.parse::<Selector>();
        if let Ok(side) = text.parse::<Side>() {
            prop_assert_eq!(side.to_string().parse::<Side>(), Ok(side));
        }
        if let Ok(expectation) = text.parse::<Expectation>() {
            prop_assert_eq!(expectation.to_string().parse::<Expectation>(), Ok(expectation));
        }
    }

    #[test]
    fn near_misses_of_a_test_are_refused_not_feared(text in "(expect: )?[a-c=!,() ]{0,8} may (not )?reach [a-c:=\\[\\]!,() ]{0,8}:[0-9]{0,6}(/[a-z]{0,4})?") {
        if let Ok(expectation) = text.parse::<Expectation>() {
            prop_assert_eq!(expectation.to_string().parse::<Expectation>(), Ok(expectation));
        }
    }
}
