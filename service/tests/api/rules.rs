//! Rules over REST: checked as a whole, in force as a whole, and what was in force stays when a change is refused.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cast::{controller, enrolled},
    harness::{Answer, Harness},
};

const RULES: &str = "/api/v1/networks/prod/rules";

async fn start() -> Harness {
    let harness = Harness::start().await;
    let network = json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/16"});
    assert_eq!(harness.post("/api/v1/networks", network).await.status, StatusCode::OK);
    harness
}

async fn replace(harness: &Harness, document: Value) -> Answer {
    harness.rest(Method::PUT, RULES, Some(document)).await
}

/// Two peers with addresses: `web`, which bears tier=web, and `db`, which bears tier=db.
async fn populated() -> Harness {
    let harness = start().await;
    let _controller = controller(&harness.store);
    enrolled(&harness.store, "prod", "web").await;
    let db = enrolled(&harness.store, "prod", "db").await;
    let labels = json!({"labels": {"tier": "db"}, "addLabels": true});
    let labelled = harness.rest(Method::PATCH, &format!("/api/v1/networks/prod/peers/{db}"), Some(labels)).await;
    assert_eq!(labelled.status, StatusCode::OK, "{labelled:?}");
    for _ in 0..500 {
        let peers = harness.get("/api/v1/networks/prod/peers").await.body;
        let addresses = peers["peers"].as_array().expect("a list").iter().map(|peer| &peer["ipv4Address"]);
        if addresses.filter(|address| **address != "").count() == 2 {
            return harness;
        }
        tokio::task::yield_now().await;
    }
    panic!("the peers get no addresses");
}

#[tokio::test]
async fn rules_are_replaced_shown_extended_and_taken_away() {
    let harness = start().await;
    let none = harness.get(RULES).await;
    assert_eq!(
        (none.status, &none.body["generation"], &none.body["defaultAccess"]),
        (StatusCode::OK, &json!("0"), &json!("allow"))
    );

    let document = json!({"defaultAccess": "deny", "rules": [
        {"id": "web-db", "kind": "access", "action": "allow", "from": "tier=web", "to": "tier in (db)", "protocol": "tcp", "ports": ["5432"]},
    ]});
    let tried = json!({"validateOnly": true, "defaultAccess": "deny"});
    assert_eq!(replace(&harness, tried).await.body["defaultAccess"], "deny");
    assert_eq!(harness.get(RULES).await.body["generation"], "0", "it was only checked");
    let made = replace(&harness, document).await;
    assert_eq!((made.status, &made.body["generation"]), (StatusCode::OK, &json!("1")), "{made:?}");
    assert_eq!(made.body["rules"][0]["to"], "tier=db");
    assert!(made.body["warnings"][0].as_str().expect("a warning").contains("matches nobody now"), "{made:?}");

    let rule = json!({"rule": {"kind": "access", "action": "allow", "protocol": "icmp"}, "before": "web-db"});
    let added = harness.post(RULES, rule).await;
    assert_eq!((added.status, &added.body["generation"]), (StatusCode::OK, &json!("2")), "{added:?}");
    let id = added.body["rules"][0]["id"].as_str().expect("an id").to_owned();
    assert!(id.starts_with("rule-"), "{id}");
    let stale = harness.rest(Method::DELETE, &format!("{RULES}/{id}?expectedGeneration=1"), None).await;
    assert_eq!(stale.status, StatusCode::CONFLICT, "{stale:?}");
    let removed = harness.rest(Method::DELETE, &format!("{RULES}/{id}"), None).await;
    assert_eq!((removed.status, removed.body["rules"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)));
    let unknown = harness.rest(Method::DELETE, &format!("{RULES}/{id}"), None).await;
    assert_eq!((unknown.status, &unknown.body["field"]), (StatusCode::NOT_FOUND, &json!("ruleId")), "{unknown:?}");

    let events = harness.get("/api/v1/events?networkId=prod").await.body;
    let messages: Vec<&str> =
        events["events"].as_array().expect("a list").iter().filter_map(|e| e["message"].as_str()).collect();
    assert_eq!(messages[0], format!("rules of network prod changed: removed {id}"));
    assert_eq!(messages[2], "rules of network prod changed: added web-db; default access from allow to deny");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_the_rules_in_force_stay() {
    let harness = start().await;
    let good = json!({"rules": [{"id": "a", "kind": "advertise", "prefix": "192.168.0.0/16", "via": "tier=gw"}]});
    assert_eq!(replace(&harness, good).await.status, StatusCode::OK);
    let access = |field: &str, value: Value| {
        let mut rule = json!({"kind": "access", "action": "deny"});
        rule[field] = value;
        json!({"rules": [rule]})
    };
    let advertise = |prefix: &str| json!({"rules": [{"kind": "advertise", "prefix": prefix, "via": "tier=gw"}]});
    for (document, field, right) in [
        (access("from", json!("tier in web")), "rules[0].from", "at character 9"),
        (access("to", json!("10.0.0.0/33")), "rules[0].to", "no CIDR"),
        (access("ports", json!(["22"])), "rules[0].ports", "tcp or udp"),
        (access("action", json!("drop")), "rules[0].action", "allow or deny"),
        (access("kind", json!("acces")), "rules[0].kind", "access"),
        (access("maxRttMs", json!(5)), "rules[0].max_rtt_ms", "does not belong"),
        (json!({"tests": ["a reaches b"]}), "tests[0]", "at character 1"),
        (advertise("10.0.128.0/17"), "rules[0].prefix", "the network's own address space 10.0.0.0/16"),
        (advertise("0.0.0.0/0"), "rules[0].prefix", "default route"),
        (advertise("169.254.169.254/32"), "rules[0].prefix", "mean another machine everywhere"),
        (advertise("168.0.0.0/6"), "rules[0].prefix", "holds addresses of 169.254.0.0/16"),
        (
            json!({"rules": [good_rule("x", "172.16.0.0/16"), good_rule("y", "172.16.3.0/24")]}),
            "rules[1].prefix",
            "rule x",
        ),
    ] {
        let refused = replace(&harness, document.clone()).await;
        assert_eq!(refused.status.as_u16(), 422, "{document}: {refused:?}");
        let detail = refused.body["detail"].as_str().expect("a detail");
        let told = refused.body["field"].as_str().expect("a field").replace("maxRttMs", "max_rtt_ms");
        assert_eq!(told, field, "{document}: {refused:?}");
        assert!(detail.contains(right), "{document}: {detail}");
    }
    let overlapping = json!({"rule": {"kind": "advertise", "prefix": "192.168.7.0/24", "via": "tier=other"}});
    let refused = harness.post(RULES, overlapping).await;
    assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("rule.prefix")), "{refused:?}");
    assert!(refused.body["detail"].as_str().expect("a detail").contains("of rule a, behind tier=gw"), "{refused:?}");
    let rules = harness.get(RULES).await.body;
    assert_eq!((&rules["generation"], &rules["rules"][0]["id"]), (&json!("1"), &json!("a")), "{rules}");
}

#[tokio::test]
async fn for_a_subnet_that_is_somebody_elses_a_free_prefix_is_offered_and_taken() {
    let harness = start().await;
    let held = json!({"rules": [good_rule("held", "192.168.0.0/16")]});
    assert_eq!(replace(&harness, held).await.status, StatusCode::OK);
    let rule = |mapped: &str| json!({"rule": {"kind": "advertise", "prefix": "192.168.7.0/24", "via": "tier=other", "mapped": mapped}});
    let refused = harness.post(RULES, rule("192.168.9.0/24")).await;
    assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("rule.mapped")), "{refused:?}");
    let detail = refused.body["detail"].as_str().expect("a detail");
    let offer = detail.split("of which ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an offer");
    let taken = harness.post(RULES, rule(offer)).await;
    assert_eq!(
        (taken.status, &taken.body["rules"][1]["mapped"]),
        (StatusCode::OK, &json!(offer)),
        "{detail}: {taken:?}"
    );

    // Nor do other networks take what is reached through peers of this one.
    for space in ["192.168.200.0/24", offer] {
        let network = json!({"networkId": "second", "ipv4AddressSpace": space});
        let refused = harness.post("/api/v1/networks", network).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("ipv4AddressSpace")), "{refused:?}");
        let detail = refused.body["detail"].as_str().expect("a detail");
        assert!(detail.contains("a subnet behind a peer of network prod by rule"), "{detail}");
    }
}

fn good_rule(id: &str, prefix: &str) -> Value {
    json!({"id": id, "kind": "advertise", "prefix": prefix, "via": "tier=gw"})
}

#[tokio::test]
async fn whoever_has_a_route_of_its_own_to_an_advertised_subnet_is_named() {
    let harness = populated().await;
    let subnet = |mapped: Option<&str>| {
        let rule =
            json!({"id": "theirs", "kind": "advertise", "prefix": "10.9.3.0/24", "via": "tier=db", "mapped": mapped});
        json!({"rules": [rule]})
    };
    let warned = replace(&harness, subnet(None)).await;
    let expected = "web does not use 10.9.3.0/24 of rule theirs, for it has a route 10.9.0.0/16 of its own; map the subnet to another prefix";
    assert_eq!((warned.status, &warned.body["warnings"]), (StatusCode::OK, &json!([expected])), "{warned:?}");
    let mapped = replace(&harness, subnet(Some("10.200.3.0/24"))).await;
    assert_eq!((mapped.status, &mapped.body["warnings"]), (StatusCode::OK, &json!([])), "{mapped:?}");
}

#[tokio::test]
async fn a_change_that_breaks_a_test_is_refused_with_its_name() {
    let harness = populated().await;
    let document = json!({"defaultAccess": "deny", "rules": [
        {"id": "web-db", "kind": "access", "action": "allow", "from": "tier=web", "to": "tier=db", "protocol": "tcp", "ports": ["5432"]},
    ], "tests": ["expect: web may reach db:5432", "expect: web may not reach db:22"]});
    let made = replace(&harness, document).await;
    assert_eq!((made.status, &made.body["warnings"]), (StatusCode::OK, &json!([])), "{made:?}");

    let removal = harness.rest(Method::DELETE, &format!("{RULES}/web-db"), None).await;
    assert_eq!((removal.status.as_u16(), &removal.body["field"]), (422, &json!("ruleId")), "{removal:?}");
    let detail = removal.body["detail"].as_str().expect("a detail");
    assert!(detail.contains("web may reach db:5432 fails: web may not reach db, by the default"), "{detail}");
    let opened = json!({"rule": {"id": "all", "kind": "access", "action": "allow"}});
    let refused = harness.post(RULES, opened).await;
    assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("rule")), "{refused:?}");
    assert_eq!(harness.get(RULES).await.body["generation"], "1");
}

#[tokio::test]
async fn a_flow_that_nobody_sends_is_judged() {
    let harness = populated().await;
    let document = json!({"defaultAccess": "deny", "rules": [
        {"id": "web-db", "kind": "access", "action": "allow", "from": "tier=web", "to": "tier=db", "protocol": "tcp", "comment": "the shop"},
    ]});
    assert_eq!(replace(&harness, document).await.status, StatusCode::OK);
    let test = |body: Value| harness.post("/api/v1/networks/prod/access-tests", body);
    let there = test(json!({"from": "web", "to": "db", "port": 5432})).await;
    assert_eq!((&there.body["allowed"], &there.body["ruleId"]), (&json!(true), &json!("web-db")), "{there:?}");
    assert!(there.body["reason"].as_str().expect("a reason").contains("the shop"));
    let back = test(json!({"from": "db", "to": "web", "port": 5432})).await;
    assert_eq!((&back.body["allowed"], &back.body["ruleId"]), (&json!(false), &json!("")), "{back:?}");
    let outside = test(json!({"from": "172.16.0.1", "to": "db", "protocol": "icmp"})).await;
    assert_eq!(outside.body["allowed"], json!(false), "{outside:?}");
    for (body, status, field) in [
        (json!({"from": "nobody", "to": "db", "port": 1}), 404, "from"),
        (json!({"from": "web", "to": "db"}), 422, "port"),
        (json!({"from": "web", "to": "db", "port": 70000}), 422, "port"),
        (json!({"from": "web", "to": "db", "protocol": "sctp"}), 422, "protocol"),
    ] {
        let refused = test(body.clone()).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (status, &json!(field)), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn rules_end_with_their_network_and_a_viewer_only_reads() {
    let harness = start().await;
    assert_eq!(replace(&harness, json!({"defaultAccess": "deny"})).await.status, StatusCode::OK);
    let viewer = harness.key("viewer").await;
    assert_eq!(harness.rest_as(Some(&viewer), Method::GET, RULES, None).await.status, StatusCode::OK);
    let refused = harness.rest_as(Some(&viewer), Method::PUT, RULES, Some(json!({}))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    assert_eq!(harness.rest(Method::DELETE, "/api/v1/networks/prod", None).await.status, StatusCode::OK);
    assert_eq!(harness.get(RULES).await.status, StatusCode::NOT_FOUND);
    let network = json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/16"});
    assert_eq!(harness.post("/api/v1/networks", network).await.status, StatusCode::OK);
    assert_eq!(harness.get(RULES).await.body["defaultAccess"], "allow", "another network of the same id");
}

#[tokio::test]
async fn a_subnet_that_an_operator_wishes_for_waits_for_a_rule() {
    let harness = start().await;
    let host = enrolled(&harness.store, "prod", "gw").await;
    let key = cladnet_store::key::host(&host);
    let mut record = harness.store.get(&key).await.expect("reads").expect("is there").value;
    record.facts.advertise = vec!["192.168.3.0/24".parse().expect("a subnet")];
    harness.store.put(&key, &record).await.expect("writes");
    let waiting = harness.get(RULES).await.body;
    let pending = json!([{"hostId": host.as_str(), "hostName": "gw", "prefix": "192.168.3.0/24"}]);
    assert_eq!(waiting["pending"], pending, "{waiting}");
    let rule = json!({"kind": "advertise", "prefix": "192.168.3.0/24", "via": format!("cladnet/host={host}")});
    let approved = harness.post(RULES, json!({"rule": rule})).await;
    assert_eq!((approved.status, &approved.body["pending"]), (StatusCode::OK, &json!([])), "{approved:?}");
}

#[tokio::test]
async fn labels_that_break_a_test_of_the_rules_are_refused_and_the_test_is_named() {
    let harness = populated().await;
    let document = json!({"defaultAccess": "deny", "rules": [
        {"id": "shop", "kind": "access", "action": "allow", "from": "tier=web", "to": "tier=db", "protocol": "tcp", "ports": ["5432"]},
    ], "tests": ["expect: web may reach db:5432"]});
    assert_eq!(replace(&harness, document).await.status, StatusCode::OK);
    let peers = harness.get("/api/v1/networks/prod/peers").await.body;
    let peers = peers["peers"].as_array().expect("a list");
    let web = peers.iter().find(|peer| peer["hostName"] == "web").expect("is there")["hostId"].clone();
    let path = format!("/api/v1/networks/prod/peers/{}", web.as_str().expect("an id"));

    let change = async |labels: Value| harness.rest(Method::PATCH, &path, Some(labels)).await;
    let refused = change(json!({"labels": {"tier": "batch"}})).await;
    assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("labels")), "{refused:?}");
    let told = refused.body["detail"].as_str().unwrap_or_default();
    assert!(told.contains("expect: web may reach db:5432 fails: web may not reach db, by the default"), "{told}");
    assert_eq!(harness.get(&path).await.body["labels"]["tier"], "web", "the labels stay");

    let other = change(json!({"labels": {"tier": "web", "rack": "7"}})).await;
    assert_eq!(other.status, StatusCode::OK, "{other:?}");
    assert_eq!(replace(&harness, json!({"defaultAccess": "deny"})).await.status, StatusCode::OK);
    assert_eq!(change(json!({"labels": {"tier": "batch"}})).await.status, StatusCode::OK, "without the test");
}
