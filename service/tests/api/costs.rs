//! The bill and budgets over REST: added up from what is kept, and every wrong field refused by name.

use cladnet_model::{Exchanged, HostUsage, Scope};
use cladnet_store::key;
use http::{Method, StatusCode};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::{Value, json};

use crate::{cast::enrolled, harness::Harness};

const GIB: u64 = 1 << 30;

fn today() -> Date {
    Timestamp::now().to_zoned(TimeZone::UTC).date()
}

/// A network with a host that has sent 100 GiB to another zone.
async fn house() -> (Harness, String) {
    let harness = Harness::start().await;
    let made = harness.post("/api/v1/networks", json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/24"})).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let mut usage = HostUsage::new("prod".parse().expect("an id"), host.clone(), today());
    let zone = |zone: &str| format!("aws/us-east-1/use1-az{zone}/vpc-1").parse().expect("a place");
    let bytes = Exchanged { sent: 100 * GIB, clear_sent: 1_000_000_000_000, ..Exchanged::default() };
    usage.add(&zone("1"), &zone("2"), Scope::Private, bytes);
    harness.store.put(&key::usage(today(), &usage.network, &usage.host), &usage).await.expect("writes");
    (harness, host.to_string())
}

#[tokio::test]
async fn a_report_adds_up_what_is_kept() {
    let (harness, host) = house().await;
    let report = harness.get("/api/v1/costs/report?by=host").await.body;
    assert_eq!(report["lines"][0]["key"], host.as_str());
    assert_eq!(report["lines"][0]["name"], "vm-1");
    assert_eq!(report["total"]["spentNanoUsd"], "1000000000", "{report}");
    assert_eq!(report["total"]["savedNanoUsd"], "0");
    assert_eq!(report["total"]["sparedCpuMs"], "375000");
    let classes = harness.get("/api/v1/costs/report?by=class&networkId=prod").await.body;
    assert_eq!(classes["lines"][0]["key"], "cross-zone-private", "{classes}");
    let billed = harness.get("/api/v1/costs/billed-usage?provider=aws").await.body;
    assert_eq!(billed["usages"][0]["usageType"], "DataTransfer-Regional-Bytes", "{billed}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_field() {
    let (harness, host) = house().await;
    let tomorrow = today().tomorrow().unwrap();
    for (path, field) in [
        ("/api/v1/costs/report?by=colour".to_owned(), "by"),
        ("/api/v1/costs/report?from=soon".to_owned(), "from"),
        (format!("/api/v1/costs/report?from={tomorrow}"), "from"),
        ("/api/v1/costs/report?from=2020-01-01".to_owned(), "from"),
        ("/api/v1/costs/report?to=9999-12-31".to_owned(), "to"),
        ("/api/v1/costs/billed-usage?provider=gcp".to_owned(), "provider"),
    ] {
        let refused = harness.get(&path).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {refused:?}");
        assert!(refused.body.to_string().contains(&format!("\"{field}\"")), "{path}: {refused:?}");
    }
    assert_eq!(harness.get("/api/v1/costs/report?networkId=none").await.status, StatusCode::NOT_FOUND);
    let flow = |source: &str| json!({"source": source, "destination": "gcp/b", "bytes": "5"});
    for (body, field) in [
        (json!({"ruleTypes": ["fastest"]}), "ruleTypes[0]"),
        (json!({"matrix": [flow("aws/a"), flow("aws")]}), "matrix[1].source"),
        (json!({"moves": [{"what": "vm-9", "to": "gcp/b"}]}), "moves[0].what"),
        (json!({"moves": [{"what": host, "to": "gcp"}]}), "moves[0].to"),
        (json!({"moves": [{"what": "aws/us-east-1/use1-az1", "to": "gcp/b"}]}), "moves[0].what"),
        (json!({"matrix": [flow("aws/a")], "moves": [{"what": host, "to": "gcp/b"}]}), "moves[0].what"),
    ] {
        let refused = harness.post("/api/v1/costs/what-if", body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {refused:?}");
        assert!(refused.body.to_string().contains(field), "{field}: {refused:?}");
    }
}

#[tokio::test]
async fn what_if_prices_the_same_traffic_otherwise() {
    let (harness, _) = house().await;
    let moves = json!([{"what": "vm-1", "to": "aws/ap-northeast-2"}]);
    let answer = harness.post("/api/v1/costs/what-if", json!({"moves": moves, "ruleTypes": ["basic"]})).await.body;
    let cost = |number: usize| answer["scenarios"][number]["costNanoUsd"].clone();
    assert_eq!([cost(0), cost(1), cost(2)], ["2000000000", "8000000000", "8000000000"], "{answer}");
    assert_eq!([&answer["warnings"], &answer["assumed"]], [&json!([]), &json!([])], "{answer}");
}

#[tokio::test]
async fn what_if_warns_of_odd_places_and_says_what_it_assumes() {
    let (harness, _) = house().await;
    let ask = json!({
        "moves": [{"what": "gcp/us-east4", "to": "aws/us-eest-1"}],
        "ruleTypes": ["cb-network", "cost-prioritized", "balanced", "latency-prioritized"],
    });
    let answer = harness.post("/api/v1/costs/what-if", ask).await.body;
    let texts =
        |field: &str| answer[field].as_array().expect("a list").iter().map(ToString::to_string).collect::<Vec<_>>();
    let (warnings, assumed) = (texts("warnings"), texts("assumed"));
    assert!(
        warnings.len() == 2 && warnings[0].contains("moves[0].to") && warnings[0].contains("us-eest-1"),
        "{answer}"
    );
    assert!(warnings[1].contains("gcp/us-east4") && warnings[1].contains("nothing of it"), "{answer}");
    assert!(assumed.len() == 2 && assumed[0].contains("one subnet") && assumed[1].contains("round trips"), "{answer}");
    assert_eq!(answer["scenarios"][2]["name"], "cb-network", "{answer}");

    let matrix = json!([{"source": "amazon/us-east-1", "destination": "aws/us-east-1", "bytes": "5"}]);
    let answer = harness.post("/api/v1/costs/what-if", json!({"matrix": matrix})).await.body;
    assert!(
        answer["warnings"][0].as_str().is_some_and(|told| told.contains("matrix[0].source: \"amazon\"")),
        "{answer}"
    );
    let twice =
        json!([{"what": "aws/us-east-1", "to": "gcp/us-east4"}, {"what": "AWS/us-east-1", "to": "aws/us-east-2"}]);
    let refused = harness.post("/api/v1/costs/what-if", json!({"moves": twice})).await;
    assert!(
        refused.status == StatusCode::UNPROCESSABLE_ENTITY && refused.body["field"] == "moves[1].what",
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_budget_is_set_shown_and_removed_and_leaves_events() {
    let (harness, _) = house().await;
    let set = async |body: Value| harness.rest(Method::PUT, "/api/v1/budgets", Some(body)).await;
    let refused = set(json!({"monthlyNanoUsd": "-1", "warnPercent": 200})).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    let unknown = set(json!({"networkId": "none", "monthlyNanoUsd": "1"})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND, "{unknown:?}");
    let budget = set(json!({"networkId": "prod", "monthlyNanoUsd": "1100000000"})).await.body;
    assert_eq!((&budget["spentPercent"], &budget["warning"]), (&json!(90), &json!(true)), "{budget}");
    let report = harness.get("/api/v1/costs/report").await.body;
    assert_eq!(report["budgets"][0]["networkId"], "prod", "{report}");
    let remove = async || harness.rest(Method::DELETE, "/api/v1/budgets?networkId=prod", None).await.status;
    assert_eq!((remove().await, remove().await), (StatusCode::OK, StatusCode::NOT_FOUND));
    let events = harness.get("/api/v1/events").await.body.to_string();
    assert!(events.contains("budget.set") && events.contains("budget.removed"), "{events}");
}

#[tokio::test]
async fn a_network_that_is_made_again_has_no_budget_and_goes_on_with_the_bytes_of_its_id() {
    let (harness, _) = house().await;
    for (number, door) in ["/api/v1/networks/prod?force=true", "/v1/cladnet/prod"].into_iter().enumerate() {
        let budget = json!({"networkId": "prod", "monthlyNanoUsd": "1100000000"});
        let set = harness.rest(Method::PUT, "/api/v1/budgets", Some(budget)).await;
        assert_eq!(set.status, StatusCode::OK, "{set:?}");
        let deleted = harness.rest(Method::DELETE, door, None).await;
        assert_eq!(deleted.status, StatusCode::OK, "{deleted:?}");
        assert_eq!(harness.get("/api/v1/budgets").await.body["budgets"], json!([]), "{door}");
        let space = format!("10.{}.0.0/24", number + 1);
        let made = json!({"networkId": "prod", "ipv4AddressSpace": space});
        assert_eq!(harness.post("/api/v1/networks", made).await.status, StatusCode::OK);
        assert_eq!(harness.get("/api/v1/budgets").await.body["budgets"], json!([]), "{door}");
        let report = harness.get("/api/v1/costs/report?networkId=prod").await.body;
        assert_eq!(report["total"]["spentNanoUsd"], "1000000000", "{door}: {report}");
    }
}
