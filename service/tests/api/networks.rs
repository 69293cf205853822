//! Networks over REST: made, listed, changed, deleted, and every wrong field refused by name.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::Harness;

#[tokio::test]
async fn a_network_is_made_shown_changed_and_deleted() {
    let harness = Harness::start().await;
    let made = harness.post("/api/v1/networks", json!({"networkId": "prod", "ipv4AddressSpace": "10.77.0.0/24"})).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    assert_eq!(made.body["name"], "prod");
    assert_eq!(made.body["ruleType"], "cost-prioritized");
    assert_eq!(made.body["encryptionPolicy"], "always");
    assert_eq!((made.body["generation"].as_str(), made.body["peerCount"].as_u64()), (Some("1"), Some(0)));

    assert_eq!(harness.get("/api/v1/networks/prod").await.body, made.body);
    assert_eq!(harness.get("/api/v1/networks").await.body["networks"], json!([made.body]));

    let update = json!({"name": "Production", "ipv4AddressSpace": "10.77.0.0/20", "expectedGeneration": "1"});
    let changed = harness.rest(Method::PATCH, "/api/v1/networks/prod", Some(update.clone())).await;
    assert_eq!(changed.body["ipv4AddressSpace"], "10.77.0.0/20", "{changed:?}");
    assert_eq!(changed.body["generation"], "2");
    let stale = harness.rest(Method::PATCH, "/api/v1/networks/prod", Some(update)).await;
    assert_eq!(stale.status, StatusCode::CONFLICT, "{stale:?}");

    let deleted = harness.rest(Method::DELETE, "/api/v1/networks/prod", None).await;
    assert_eq!((deleted.status, &deleted.body["removedPeers"]), (StatusCode::OK, &json!(0)));
    assert_eq!(harness.get("/api/v1/networks/prod").await.status, StatusCode::NOT_FOUND);

    let events = harness.get("/api/v1/events?networkId=prod").await.body;
    let kinds: Vec<&str> =
        events["events"].as_array().expect("a list").iter().filter_map(|e| e["kind"].as_str()).collect();
    assert_eq!(kinds, ["network.deleted", "network.updated", "network.created"]);
}

#[tokio::test]
async fn lists_come_page_by_page() {
    let harness = Harness::start().await;
    for number in 0..5 {
        let network = json!({"networkId": format!("n-{number}"), "ipv4AddressSpace": format!("10.{number}.0.0/24")});
        assert_eq!(harness.post("/api/v1/networks", network).await.status, StatusCode::OK);
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let page = harness.get(&format!("/api/v1/networks?pageSize=2&pageToken={token}")).await.body;
        seen.extend(page["networks"].as_array().expect("a list").iter().map(|network| network["networkId"].clone()));
        token = page["nextPageToken"].as_str().expect("a token").to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(Value::from(seen), json!(["n-0", "n-1", "n-2", "n-3", "n-4"]));
}

#[tokio::test]
async fn two_networks_that_overlap_never_both_pass() {
    let harness = Harness::start().await;
    let create = |id: &'static str, space: &'static str| {
        harness.post("/api/v1/networks", json!({"networkId": id, "ipv4AddressSpace": space}))
    };
    let (one, other) = tokio::join!(create("one", "10.8.0.0/16"), create("other", "10.8.128.0/17"));
    let mut statuses = [one.status, other.status];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::OK, StatusCode::UNPROCESSABLE_ENTITY]);
}

#[tokio::test]
async fn a_wrong_field_is_named_with_what_would_be_right_and_nothing_is_made() {
    let harness = Harness::start().await;
    let first = json!({"networkId": "taken", "ipv4AddressSpace": "10.0.0.0/16"});
    assert_eq!(harness.post("/api/v1/networks", first).await.status, StatusCode::OK);
    let cases = [
        (json!({"ipv4AddressSpace": "abc"}), 422, "ipv4AddressSpace", "CIDR"),
        (json!({"ipv4AddressSpace": "8.8.8.0/24"}), 422, "ipv4AddressSpace", "10.0.0.0/8"),
        (json!({"ipv4AddressSpace": "fd00::/64"}), 422, "ipv4AddressSpace", "IPv6"),
        (json!({"ipv4AddressSpace": "10.1.0.0/31"}), 422, "ipv4AddressSpace", "/30"),
        (json!({"ipv4AddressSpace": "10.1.0.0/32"}), 422, "ipv4AddressSpace", "/30"),
        (json!({"ipv4AddressSpace": "10.1.0.7/24"}), 422, "ipv4AddressSpace", "10.1.0.0/24"),
        (json!({"ipv4AddressSpace": "10.0.128.0/17"}), 422, "ipv4AddressSpace", "taken"),
        (json!({"networkId": "a/b", "ipv4AddressSpace": "10.1.0.0/24"}), 422, "networkId", "[a-z0-9-]"),
        (json!({"networkId": "a b", "ipv4AddressSpace": "10.1.0.0/24"}), 422, "networkId", "[a-z0-9-]"),
        (json!({"networkId": "x".repeat(64), "ipv4AddressSpace": "10.1.0.0/24"}), 422, "networkId", "63"),
        (json!({"ruleType": "cheap", "ipv4AddressSpace": "10.1.0.0/24"}), 422, "ruleType", "cost-prioritized"),
        (json!({"encryptionPolicy": "never", "ipv4AddressSpace": "10.1.0.0/24"}), 422, "encryptionPolicy", "always"),
        (json!({"name": "n".repeat(101), "ipv4AddressSpace": "10.1.0.0/24"}), 422, "name", "100"),
        (json!({"nane": "x"}), 400, "nane", "networkId"),
        (json!({"expectedHosts": "many"}), 400, "expectedHosts", "a whole number"),
    ];
    for (body, status, field, right) in cases {
        let refused = harness.post("/api/v1/networks", body.clone()).await;
        assert_eq!(refused.status, status, "{body}: {refused:?}");
        assert_eq!(refused.body["field"], field, "{body}: {refused:?}");
        let detail = refused.body["detail"].as_str().expect("a detail");
        assert!(detail.contains(field) && detail.contains(right), "{body}: {detail}");
    }
    let again = json!({"networkId": "taken", "ipv4AddressSpace": "10.1.0.0/24"});
    let refused = harness.post("/api/v1/networks", again).await;
    assert_eq!((refused.status, &refused.body["field"]), (StatusCode::CONFLICT, &json!("networkId")), "{refused:?}");
    assert!(refused.body["detail"].as_str().expect("a detail").starts_with("networkId: is taken"), "{refused:?}");
    let networks = harness.get("/api/v1/networks").await.body;
    assert_eq!(networks["networks"].as_array().map(Vec::len), Some(1), "{networks}");
}

#[tokio::test]
async fn an_unknown_network_is_told() {
    let harness = Harness::start().await;
    for (method, path) in [
        (Method::GET, "/api/v1/networks/nowhere"),
        (Method::PATCH, "/api/v1/networks/nowhere"),
        (Method::DELETE, "/api/v1/networks/nowhere"),
        (Method::GET, "/api/v1/networks/nowhere/peers"),
        (Method::GET, "/api/v1/networks/nowhere/peers/host-1"),
    ] {
        let answer = harness.rest(method.clone(), path, None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {answer:?}");
        assert_eq!(answer.body["detail"], "there is no network nowhere", "{method} {path}");
    }
}

#[tokio::test]
async fn a_path_that_is_no_text_or_holds_a_slash_is_a_problem() {
    let harness = Harness::start().await;
    let garbled = harness.get("/api/v1/networks/%ff").await;
    assert_eq!(garbled.status, StatusCode::BAD_REQUEST);
    assert_eq!(garbled.headers[http::header::CONTENT_TYPE], "application/problem+json");
    let slash = harness.get("/api/v1/networks/a%2Fb").await;
    assert_eq!((slash.status.as_u16(), &slash.body["field"]), (422, &json!("networkId")), "{slash:?}");
}
