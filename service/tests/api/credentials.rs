//! Join tokens, API keys and events over REST.

use std::time::Duration;

use cladnet_proto::cladnet::v1::{WatchEventsRequest, event_service_client::EventServiceClient};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Harness, bearing};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_token_is_told_once_listed_without_its_secret_and_revoked() {
    let harness = Harness::start().await;
    harness.post("/api/v1/networks", json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/24"})).await;
    let made = harness.post("/api/v1/tokens", json!({"networkId": "prod", "labels": {"tier": "web"}})).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    assert!(made.body["secret"].as_str().expect("a secret").starts_with("cladnet1_"));
    let token = &made.body["token"];
    assert_eq!((&token["usesLeft"], &token["state"]), (&json!(1), &json!("usable")));
    let listed = harness.get("/api/v1/tokens?networkId=prod").await.body;
    assert_eq!(listed["tokens"], json!([token]));
    let id = token["tokenId"].as_str().expect("an id");
    assert_eq!(harness.rest(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await.status, StatusCode::OK);
    assert_eq!(harness.get("/api/v1/tokens").await.body["tokens"][0]["state"], "revoked");
    assert_eq!(harness.rest(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await.status, StatusCode::OK);
    let unknown = harness.rest(Method::DELETE, "/api/v1/tokens/token-x", None).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);

    let chosen = json!({"networkId": "prod", "tokenId": "token-abcdefghijklmnop"});
    let made = harness.post("/api/v1/tokens", chosen.clone()).await;
    assert_eq!((made.status, &made.body["token"]["tokenId"]), (StatusCode::OK, &json!("token-abcdefghijklmnop")));
    assert_eq!(harness.post("/api/v1/tokens", chosen).await.status, StatusCode::CONFLICT);

    for (body, status, field) in [
        (json!({"networkId": "nowhere"}), 404, Value::Null),
        (json!({}), 422, json!("networkId")),
        (json!({"networkId": "prod", "uses": 10_001}), 422, json!("uses")),
        (json!({"networkId": "prod", "tokenId": "token-x"}), 422, json!("tokenId")),
        (json!({"networkId": "prod", "ttl": "2592001s"}), 422, json!("ttl")),
        (json!({"networkId": "prod", "ttl": "-1s"}), 422, json!("ttl")),
        (json!({"networkId": "prod", "ttl": "soon"}), 400, json!("ttl")),
    ] {
        let refused = harness.post("/api/v1/tokens", body.clone()).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (status, &field), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn the_last_admin_key_stays_and_no_list_tells_a_secret() {
    let harness = Harness::start().await;
    let info = harness.get("/api/v1/info").await.body;
    let path = format!("/api/v1/keys/{}", info["keyId"].as_str().expect("an id"));
    let refused = harness.rest(Method::DELETE, &path, None).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    let second = harness.key("admin").await;
    let list = harness.get("/api/v1/keys").await.body;
    assert_eq!(list["keys"].as_array().map(Vec::len), Some(2));
    assert!(!list.to_string().contains("secret") && !list.to_string().contains("cladnet_key_"), "{list}");
    assert_eq!(harness.rest(Method::DELETE, &path, None).await.status, StatusCode::OK);
    assert_eq!(harness.get("/api/v1/info").await.status, StatusCode::UNAUTHORIZED, "it revoked itself");
    assert_eq!(harness.rest_as(Some(&second), Method::GET, "/api/v1/info", None).await.status, StatusCode::OK);

    for (body, field) in [
        (json!({"name": "x", "role": "root"}), "role"),
        (json!({"role": "viewer"}), "name"),
        (json!({"name": "x", "role": "viewer", "ttl": "0s"}), "ttl"),
    ] {
        let refused = harness.rest_as(Some(&second), Method::POST, "/api/v1/keys", Some(body.clone())).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(field)), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn a_weak_role_is_told_over_rest_which_would_do() {
    let harness = Harness::start().await;
    let viewer = harness.key("viewer").await;
    assert_eq!(harness.rest_as(Some(&viewer), Method::GET, "/api/v1/networks", None).await.status, StatusCode::OK);
    let refused = harness.rest_as(Some(&viewer), Method::POST, "/api/v1/networks", Some(json!({}))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let detail = refused.body["detail"].as_str().expect("a detail");
    assert!(detail.contains("viewer") && detail.contains("admin or operator or provisioner"), "{detail}");
}

#[tokio::test]
async fn events_are_watched_as_server_sent_events() {
    let harness = Harness::start().await;
    let request = harness.request(Method::GET, "/api/v1/events/watch?networkId=prod");
    let mut response = request.bearer_auth(&harness.admin_key).send().await.expect("a stream");
    for id in ["other", "prod"] {
        let space = if id == "prod" { "10.0.0.0/24" } else { "10.1.0.0/24" };
        harness.post("/api/v1/networks", json!({"networkId": id, "ipv4AddressSpace": space})).await;
    }
    let mut text = String::new();
    while !text.contains("\n\n") {
        text.push_str(std::str::from_utf8(&response.chunk().await.expect("reads").expect("goes on")).expect("is text"));
    }
    let event = text.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event");
    let event: Value = serde_json::from_str(event).expect("is JSON");
    assert_eq!((&event["kind"], &event["networkId"]), (&json!("network.created"), &json!("prod")));
}

#[tokio::test]
async fn a_watch_of_events_ends_with_the_key_that_opened_it() {
    let harness = Harness::start().await;
    let viewer = harness.key("viewer").await;
    let mut client = EventServiceClient::new(harness.channel().await);
    let request = bearing(&viewer, WatchEventsRequest::default());
    let mut events = client.watch_events(request).await.expect("a stream").into_inner();
    let watch = harness.request(Method::GET, "/api/v1/events/watch").bearer_auth(&viewer);
    let watch = watch.send().await.expect("a stream");
    let keys = harness.get("/api/v1/keys").await.body;
    let key = keys["keys"].as_array().expect("keys").iter().find(|key| key["role"] == "viewer").expect("the viewer's");
    let path = format!("/api/v1/keys/{}", key["keyId"].as_str().expect("an id"));
    assert_eq!(harness.rest(Method::DELETE, &path, None).await.status, StatusCode::OK);
    let end = async {
        loop {
            if let Err(status) = events.message().await {
                return status;
            }
        }
    };
    let (end, text) = tokio::time::timeout(DEADLINE, async { tokio::join!(end, watch.text()) }).await.expect("go on");
    assert_eq!(end.code(), tonic::Code::Unauthenticated, "{end}");
    let text = text.expect("ends in order");
    assert!(text.contains("event: error") && text.contains("401"), "{text}");
}
