//! Connectivity runs over REST: started, listed, shown, and every wrong request refused by name. No agent is there: what
//! they measure is tested where they can be played.

use cladnet_store::key;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cast::{controller, enrolled},
    harness::{Harness, eventually},
};

const RUNS: &str = "/api/v1/networks/prod/connectivity-runs";

/// Two peers that are away.
async fn with_peers() -> Harness {
    let harness = Harness::start().await;
    let body = json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/24"});
    assert_eq!(harness.post("/api/v1/networks", body).await.status, StatusCode::OK);
    let _controller = controller(&harness.store);
    for name in ["vm-1", "vm-2"] {
        enrolled(&harness.store, "prod", name).await;
    }
    eventually("both have addresses", async || {
        harness.store.list(&key::peers(&"prod".parse().expect("an id"))).await.expect("lists").items.len() == 2
    })
    .await;
    harness
}

async fn done(harness: &Harness, id: &Value) -> Value {
    let path = format!("{RUNS}/{}", id.as_str().expect("an id"));
    eventually("the run is done", async || harness.get(&path).await.body["done"] == true).await;
    harness.get(&path).await.body
}

#[tokio::test]
async fn a_run_is_started_followed_and_listed() {
    let harness = with_peers().await;
    assert_eq!(harness.get(RUNS).await.body, json!({"runs": []}));
    let started = harness.post(RUNS, json!({"count": 2, "deadline": "30s"})).await;
    assert_eq!(started.status, StatusCode::OK, "{started:?}");
    assert_eq!((&started.body["networkId"], &started.body["asked"]), (&json!("prod"), &json!(2)));
    assert_eq!((&started.body["done"], &started.body["answered"]), (&json!(false), &json!(0)));

    let run = done(&harness, &started.body["runId"]).await;
    assert_eq!((&run["results"], &run["lossPercent"], &run["p50Us"]), (&json!([]), &json!(0.0), &json!(0)));
    let outcomes: Vec<_> = run["missing"].as_array().expect("a list").iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["offline", "offline"]);
    let between = |field: &str| run[field].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert_eq!(between("deadlineAt").duration_since(between("startedAt")).as_secs(), 30);

    let waited = harness.post("/api/v1/networks/prod/connectivity-tests", json!({"hosts": ["vm-1", "vm-2"]})).await;
    assert_eq!(waited.status, StatusCode::OK, "{waited:?}");
    let cbnet = harness.post("/v1/test/cladnet/prod/type/CONNECTIVITY", json!({})).await;
    assert_eq!((cbnet.status, &cbnet.body["isSucceeded"]), (StatusCode::OK, &json!(false)), "{cbnet:?}");
    let listed = harness.get(RUNS).await.body;
    let runs = listed["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 3, "those that were waited for are there too: {listed}");
    assert_eq!(runs[2]["runId"], started.body["runId"], "newest first");
    assert_eq!(runs[1]["startedAt"], waited.body["startedAt"]);
}

#[tokio::test]
async fn who_may_read_sees_runs_and_who_may_test_starts_them() {
    let harness = with_peers().await;
    for (role, start) in [("viewer", StatusCode::FORBIDDEN), ("operator", StatusCode::OK)] {
        let key = harness.key(role).await;
        let listed = harness.rest_as(Some(&key), Method::GET, RUNS, None).await;
        assert_eq!(listed.status, StatusCode::OK, "{role}: {listed:?}");
        let started = harness.rest_as(Some(&key), Method::POST, RUNS, Some(json!({}))).await;
        assert_eq!(started.status, start, "{role}: {started:?}");
    }
}

#[tokio::test]
async fn a_wrong_request_is_refused_by_name_and_nothing_is_kept() {
    let harness = with_peers().await;
    for (body, field) in [
        (json!({"count": 101}), "count"),
        (json!({"interval": "0.001s"}), "interval"),
        (json!({"deadline": "121s"}), "deadline"),
        (json!({"hosts": [""]}), "hosts[0]"),
    ] {
        let refused = harness.post(RUNS, body).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(field)), "{refused:?}");
    }
    assert_eq!(harness.post(RUNS, json!({"hosts": ["vm-1"]})).await.status, StatusCode::CONFLICT, "two are needed");
    assert_eq!(harness.get(RUNS).await.body, json!({"runs": []}));
    assert_eq!(harness.get(&format!("{RUNS}/run-none")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(harness.get(&format!("{RUNS}/Run")).await.body["field"], "runId");
    for path in ["/api/v1/networks/none/connectivity-runs", "/api/v1/networks/none/connectivity-runs/run-1"] {
        assert_eq!(harness.get(path).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn runs_of_a_network_whose_deletion_was_cut_short_are_not_its_namesakes() {
    let harness = with_peers().await;
    let started = harness.post(RUNS, json!({})).await;
    done(&harness, &started.body["runId"]).await;
    let network = key::network(&"prod".parse().expect("an id"));
    harness.store.transaction().delete(&network).commit().await.expect("deletes");
    let body = json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/24"});
    assert_eq!(harness.post("/api/v1/networks", body).await.status, StatusCode::OK);
    assert_eq!(harness.get(RUNS).await.body, json!({"runs": []}));
}
