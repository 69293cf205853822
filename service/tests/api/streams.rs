//! Streams to administrators, over gRPC and as server-sent events: how many of them one API key may hold.

use cladnet_proto::cladnet::v1::{
    WatchDeploymentRequest, WatchEventsRequest, deployment_service_client::DeploymentServiceClient,
    event_service_client::EventServiceClient,
};
use http::{Method, StatusCode, header};
use reqwest::Response;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{Harness, bearing, eventually};

const EVENTS: &str = "/api/v1/events/watch";
/// Streams that a key may hold.
const MOST: usize = 10;

async fn watched(harness: &Harness, key: &str) -> Response {
    harness.request(Method::GET, EVENTS).bearer_auth(key).send().await.expect("an answer")
}

async fn holds(harness: &Harness, key: &str, streams: usize) -> Vec<Response> {
    let mut held = Vec::new();
    for number in 0..streams {
        let stream = watched(harness, key).await;
        assert_eq!(stream.status(), StatusCode::OK, "stream {number}");
        held.push(stream);
    }
    held
}

#[tokio::test]
async fn a_key_holds_a_few_streams_and_is_told_so_when_it_wants_more() {
    let harness = Harness::start().await;
    let viewer = harness.key("viewer").await;
    let mut held = holds(&harness, &viewer, MOST).await;

    let refused = watched(&harness, &viewer).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json");
    let problem: Value = refused.json().await.expect("a problem");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("10 streams") && detail.contains("ask"), "{detail}");
    assert_eq!(watched(&harness, &harness.admin_key).await.status(), StatusCode::OK, "another key has its own");
    let read = harness.rest_as(Some(&viewer), Method::GET, "/api/v1/events", None).await;
    assert_eq!(read.status, StatusCode::OK, "whoever may not watch may ask");

    held.pop();
    eventually("the place of the stream that ended is free", async || {
        watched(&harness, &viewer).await.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn streams_over_grpc_count_with_those_over_rest_whatever_they_tell() {
    let harness = Harness::start().await;
    let viewer = harness.key("viewer").await;
    let mut events = EventServiceClient::new(harness.channel().await);
    let watch = events.watch_events(bearing(&viewer, WatchEventsRequest::default())).await.expect("a stream");
    let held = holds(&harness, &viewer, MOST - 1).await;

    let refused = events.watch_events(bearing(&viewer, WatchEventsRequest::default())).await.expect_err("too many");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let body = json!({"networkId": "prod", "ipv4AddressSpace": "10.9.0.0/24"});
    assert_eq!(harness.post("/api/v1/networks", body).await.status, StatusCode::OK);
    let machine = json!({
        "name": "a", "address": "192.0.2.1", "user": "debian",
        "privateKey": include_str!("../../../model/src/deployment/private_key/openssh"),
    });
    let made = harness.post("/api/v1/networks/prod/deployments", json!({"hosts": [machine]})).await;
    let deployment_id = made.body["deploymentId"].as_str().expect("an id").to_owned();
    let mut deployments = DeploymentServiceClient::new(harness.channel().await);
    let ask = bearing(&viewer, WatchDeploymentRequest { deployment_id });
    let refused = deployments.watch_deployment(ask).await.expect_err("too many");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    drop((watch, held));
}
